"""The definition of a fault: how to inject it, and what a study may lose through it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.bench.faults.case import Case


LOCAL, CLOUD = "local", "cloud"


@dataclass(frozen=True)
class Fault:
    """A fault that can be injected into a study.

    Attributes:
        name: What happens, as shown in the table.
        inject: Starts the study if needed (``case.start``), injects the fault, and calls ``case.record_fault()`` then.
        where: Where the fault can be injected: "local", "cloud" or both.
        options: Options of the study; see `Case`.
        repeats: Epochs that each affected gang may repeat.
        within_s: Seconds within which training must continue, 10 s more on a cloud; None for no limit.
        ends: Whether the study runs until its deadline; otherwise it is stopped once training has continued.
        fails: Whether the affected trial fails through its own training function.
        root: Whether the fault needs root, to mount a file system.
        paced: Whether checkpoints are so large that only every k-th epoch is stored; then k epochs may be repeated.
        network: Whether the study needs its own network namespace, in which connections can be cut.
        needs: Commands that the fault requires.
    """

    name: str
    inject: Callable[[Case], None]
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
