"""What a fault is: how it is brought about, and what may be lost by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.bench.faults.case import Case


LOCAL, CLOUD = "local", "cloud"


@dataclass(frozen=True)
class Fault:
    """One.

    Attributes:
        name: What happens.
        strike: Brings it about in a study, which it starts if need be (``case.start``); calls
            ``case.hit()`` in the moment when it strikes.
        where: Where it can be brought about.
        options: Of the study; see `Case`.
        repeats: Epochs that may be trained again for each gang that it strikes.
        within_s: Training must go on after so long, a little later on a cloud; None: as soon as the fault allows.
        ends: Whether the study runs to its end by itself; else it is stopped once training has gone on.
        fails: Whether the trial that it strikes fails, by its own fault.
        root: Whether it needs root, for a file system of its own.
        paced: Whether checkpoints are so large that only every k-th epoch is stored (`runner.pace`): then k may be
            trained again.
        network: Whether the study is to have a network of its own, in which connections can be cut.
        needs: Commands without which it cannot be brought about.
    """

    name: str
    strike: Callable[[Case], None]
    where: tuple[str, ...] = (LOCAL, CLOUD)
    options: dict[str, Any] = field(default_factory=dict)
    repeats: int = 1
    within_s: float | None = 10.0
    ends: bool = False
    fails: bool = False
    root: bool = False
    paced: bool = False
    network: bool = False
    needs: tuple[str, ...] = ()
