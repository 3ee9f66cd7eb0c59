"""What every provider of machines offers to the runner."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from seer_nb.core.model import Frozen, MachineEnded

if TYPE_CHECKING:
    from seer_nb.core.money import Offer


LEASE_ENDED = 86
"""Exit code of a worker that ended itself because its runner was silent."""
WORKER_CLOSED = 87
"""Exit code of a worker whose Dask worker has closed, by itself or because its scheduler has."""


def end_process(code: int) -> NoReturn:
    """End this worker at once, and with it the processes that a training function has started."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(code)


class FleetContext(Frozen, frozen=True, kw_only=True):
    """What a fleet is told of its study."""

    study: str
    folder: Path
    """For logs and scratch space."""
    ended: Callable[[MachineEnded], None]
    """To be called on the event loop, once for each machine, as soon as its billing has ended."""


class Fleet(Protocol):
    """The machines of one study, with the Dask scheduler that their workers join.

    All methods run on the runner's event loop. Workers are named "<machine>.<slot>".
    """

    async def open(self) -> str:
        """Start the scheduler; return its address."""
        ...

    async def rent(self, machine: int, offer: Offer) -> None:
        """Have a machine boot; returns when it was asked for. A machine that can't be had is reported as ended."""
        ...

    async def retire(self, machine: int, *, force: bool) -> None:
        """End a machine: ``force`` also while its workers are busy."""
        ...

    async def close(self) -> None:
        """End the scheduler and whatever machine still lives."""
        ...


class Provider(Protocol):
    """What a user gives to a study: a description without running parts, that can be pickled."""

    max_workers: int

    def offers(self) -> tuple[Offer, ...]:
        """What can be rented, the preferred one first."""
        ...

    def fleet(self, context: FleetContext) -> Fleet:
        """The machines for one study."""
        ...
