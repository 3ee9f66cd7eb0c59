"""What every provider of machines offers to the runner."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from seer_nb.core.model import Frozen, MachineEnded, MachineLeaving

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


class SchedulerAddress(NamedTuple):
    """Where a Dask scheduler listens."""

    address: str
    security: Any = None
    """A ``distributed.Security``; None: unencrypted, as within one machine."""


class FleetContext(Frozen, frozen=True, kw_only=True):
    """What a fleet is told of its study."""

    study: str
    folder: Path
    """For logs, scratch space, and what a later runner must know of the machines."""
    lease_s: float
    ended: Callable[[MachineEnded], None]
    """To be called on the event loop, once for each machine, as soon as its billing has ended."""
    leaving: Callable[[MachineLeaving], None]
    """To be called on the event loop when the provider says that it will take a machine away."""


class Fleet(Protocol):
    """The machines of one study, with the Dask scheduler that their workers join.

    All methods run on the runner's event loop. Workers are named "<machine>.<slot>".
    """

    async def open(self) -> SchedulerAddress | None:
        """Start the scheduler; None if that needs a machine of its own, which the engine rents when it wants one."""
        ...

    async def adopt(self, machines: Collection[int]) -> tuple[SchedulerAddress, tuple[int, ...]] | None:
        """Find the machines that an earlier runner of the study has left, and end those that are not to be kept.

        Args:
            machines: That were ready, the scheduler's among them.

        Returns:
            Where their scheduler listens and which of them live; None if they cannot be used any more.
        """
        ...

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Have the scheduler's machine boot; returns when it listens. Only for fleets whose ``open`` gives None.

        Returns:
            Where; None if the machine was reported as ended meanwhile.
        """
        ...

    async def rent(self, machine: int, offer: Offer) -> None:
        """Have a machine boot; returns when it was asked for. A machine that can't be had is reported as ended."""
        ...

    async def lost(self, machine: int) -> None:
        """A worker of the machine has left the scheduler: make sure that the machine ends."""
        ...

    async def retire(self, machine: int, *, force: bool) -> None:
        """End a machine: ``force`` also while its workers are busy."""
        ...

    async def close(self) -> None:
        """End the scheduler and whatever machine still lives."""
        ...


class Provider(Protocol):
    """What a user gives to a study: a description without running parts, that can be pickled."""

    @property
    def max_workers(self) -> int:
        """The most at once."""
        ...

    @property
    def shares_files(self) -> bool:
        """Whether its machines see the files of this one."""
        ...

    @property
    def host(self) -> Offer | None:
        """A machine for the Dask scheduler, where that needs one of its own."""
        ...

    def offers(self) -> tuple[Offer, ...]:
        """What can be rented, the preferred one first."""
        ...

    def fleet(self, context: FleetContext) -> Fleet:
        """The machines for one study."""
        ...
