"""The protocols between a provider of machines and the runner of a study.

A `Provider` is what the user passes to ``seer.Study(provider=...)``: a picklable description of what can be rented.
A `Fleet` holds the rented machines of one study and lives in the runner's process.

The life of a machine: the engine *rents* it, it *boots*, it is *ready* when its workers have joined the scheduler, the
engine *retires* it, and it has *terminated* when its billing has ended. A provider may *preempt* a spot machine. Each
machine holds a *lease*, which the runner *renews*; a machine terminates itself when its lease *expires*.

Order of calls:

1. When the study is created: ``provider.offers()``, ``provider.scheduler_offer`` and ``provider.max_workers``.
2. When a runner starts: ``provider.fleet(context)``, ``await fleet.open()``, and then ``await fleet.adopt(machines)``
   with the ready machines of an earlier runner.
3. While the study runs: ``boot_scheduler`` (only if ``open`` returned None), ``rent``, ``retire``, ``on_worker_lost``
   and ``discard``, in any order and concurrently. Machine numbers are never reused.
4. When the runner exits: ``await fleet.close()``.

Units: money is in whole micro-dollars, durations are in seconds. Errors: a fleet method must not raise because of a
cloud's answer, except ``open``, ``adopt`` and ``close``. A machine that cannot be rented is reported through
``context.on_ended`` with a reason. The runner journals that report; billing ends with it.

To add a cloud:

1. If dask-cloudprovider has machine classes for the cloud, subclass `seer_nb.providers.vm.VMProvider` (arguments,
   offers, prices) and `seer_nb.providers.vm.launcher.VMLauncher` (create, find and delete one machine).
   ``hetzner.py`` is the shortest example.
2. Otherwise subclass `seer_nb.providers._fleet.MachineFleet`, which tracks all machines and reports each end once,
   and write a class with the attributes of `Provider`.
3. Add list prices to ``prices/sheet.csv`` and the billing rule to ``prices/billing.py``, or require
   ``price_per_hour=``.
4. Export the class from ``seer_nb.providers`` and ``seer_nb``.
5. Test the class with ``ProviderTestCase`` of ``tests/providers/contract.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from seer_nb.core import Frozen, MachineEnded

if TYPE_CHECKING:
    from collections.abc import Collection

    from seer_nb.core.money import Offer


class SchedulerAddress(NamedTuple):
    """Address and credentials of a Dask scheduler."""

    address: str
    security: Any = None
    """A ``distributed.Security``; None if connections are not encrypted."""


class FleetContext(Frozen, frozen=True, kw_only=True):
    """Facts about the study that its fleet needs."""

    study: str
    """Name of the study."""
    folder: Path
    """Folder of the study: for logs, scratch files, and the records that a later runner needs to find the machines."""
    lease_s: float
    """Seconds that a machine may live after its lease was renewed last."""
    on_ended: Callable[[MachineEnded], None]
    """Callback on the event loop, called exactly once per machine, as soon as its billing has ended."""


class Adopted(NamedTuple):
    """Scheduler and machines of an earlier runner of the study."""

    scheduler: SchedulerAddress | None = None
    """Address of its scheduler; None if no scheduler is running."""
    kept: tuple[int, ...] = ()
    """Machines that keep running."""
    terminating: tuple[int, ...] = ()
    """Machines that may still exist and are being terminated; the fleet reports each one when it has terminated."""


class Fleet(Protocol):
    """The machines of one study, with the Dask scheduler that their workers join.

    All methods run on the runner's event loop. Only the fleet reports that a machine has terminated.
    """

    async def open(self) -> SchedulerAddress | None:
        """Start the scheduler.

        Returns:
            Its address; None if the scheduler needs a machine of its own, which ``boot_scheduler`` then boots.
        """
        ...

    async def adopt(self, machines: Collection[int]) -> Adopted:
        """Find the machines of an earlier runner and terminate those that are not to be kept.

        A machine that has terminated already is reported too, possibly again, if the provider knows its lifetime.

        Args:
            machines: Numbers of the machines that were ready, including the scheduler machine.
        """
        ...

    async def boot_scheduler(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Boot the scheduler machine and return when its scheduler accepts connections.

        Called only if ``open`` returned None.

        Args:
            machine: Number of the machine.
            offer: The provider's ``scheduler_offer``.

        Returns:
            Address of the scheduler; None if the machine was reported as ended in the meantime.
        """
        ...

    async def rent(self, machine: int, offer: Offer) -> None:
        """Rent a machine and return when the request has been made; a refused machine is reported as ended."""
        ...

    def worker_name(self, worker: str, address: str) -> str | None:
        """Return the engine's name of a worker, "<machine>.<slot>"; None for a worker that is not rented.

        Args:
            worker: The worker's name on the scheduler.
            address: The worker's address; empty if only its name is known.
        """
        ...

    async def on_worker_lost(self, machine: int) -> None:
        """Terminate a machine of which a worker has left the scheduler."""
        ...

    async def retire(self, machine: int, *, force: bool) -> None:
        """Terminate a machine; with ``force`` also while its workers are busy."""
        ...

    async def discard(self, machine: int, reason: str) -> None:
        """Terminate a machine that the runner cannot use, and report its end with that reason."""
        ...

    async def close(self) -> tuple[int, ...]:
        """Terminate the scheduler and all machines.

        Returns:
            Machines that could not be terminated and may live on.
        """
        ...


class Provider(Protocol):
    """A description of what can be rented; picklable, without running parts."""

    @property
    def max_workers(self) -> int:
        """Largest number of workers at once."""
        ...

    @property
    def shares_files(self) -> bool:
        """Whether its machines see the file system of this computer."""
        ...

    @property
    def scheduler_offer(self) -> Offer | None:
        """Offer for the scheduler machine; None if the scheduler needs no machine of its own."""
        ...

    def offers(self) -> tuple[Offer, ...]:
        """Return what can be rented for training, the preferred offer first; the same in every call."""
        ...

    def fleet(self, context: FleetContext) -> Fleet:
        """Return the fleet of one study; nothing is rented yet."""
        ...
