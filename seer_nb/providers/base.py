"""What every provider of machines offers to the runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from seer_nb.core import Frozen, MachineEnded

if TYPE_CHECKING:
    from collections.abc import Collection

    from seer_nb.core.money import Offer


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


class Adopted(NamedTuple):
    """What an earlier runner of the study has left."""

    scheduler: SchedulerAddress | None = None
    """Where its scheduler listens; None if nothing goes on."""
    kept: tuple[int, ...] = ()
    """Machines that go on."""
    left: tuple[int, ...] = ()
    """Machines that may still exist and were told to go; each is reported when it has gone."""


class Fleet(Protocol):
    """The machines of one study, with the Dask scheduler that their workers join.

    All methods run on the runner's event loop. Nobody else reports that a machine has ended.
    """

    async def open(self) -> SchedulerAddress | None:
        """Start the scheduler; None if that needs a machine of its own, which the engine rents when it wants one."""
        ...

    async def adopt(self, machines: Collection[int]) -> Adopted:
        """Find the machines that an earlier runner of the study has left, and end those that are not to be kept.

        A machine that has ended already is reported too, if the provider says how long it has lived: perhaps not for
        the first time.

        Args:
            machines: That were ready, the scheduler's among them.
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

    def name_of(self, worker: str, address: str) -> str | None:
        """Name of a worker as the engine knows it: "<machine>.<slot>"; None for one that is not rented.

        Args:
            worker: Its name on the scheduler.
            address: Where it listens; empty where only the name is known.
        """
        ...

    async def lost(self, machine: int) -> None:
        """A worker of the machine has left the scheduler: make sure that the machine ends."""
        ...

    async def retire(self, machine: int, *, force: bool) -> None:
        """End a machine: ``force`` also while its workers are busy."""
        ...

    async def give_up(self, machine: int, reason: str) -> None:
        """End a machine that the runner can't use; it is reported with that reason when it is gone."""
        ...

    async def close(self) -> tuple[int, ...]:
        """End the scheduler and whatever machine still lives.

        Returns:
            Machines that may live on, for they could not be ended.
        """
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
