"""The machines of one study on a Dask cluster: each machine is one of its workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from seer_nb._utils.clock import steady_s
from seer_nb.core.model import worker_name
from seer_nb.errors import SeerError
from seer_nb.providers._fleet import MachineFleet, RentedMachine
from seer_nb.providers.base import SchedulerAddress

if TYPE_CHECKING:
    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.dask import DaskCluster
    from seer_nb.providers.dask.controller import ClusterInfo, WorkerInfo
    from seer_nb.providers.dask.rpc import Channel


logger = logging.getLogger(__name__)
FAST_POLL_S, SLOW_POLL_S = 0.2, 1.0
"""Seconds between two queries of the workers: while one is starting or terminating, and otherwise."""
SILENCE_TIMEOUT_S = 15.0
"""Seconds without an answer after which the cluster counts as lost."""
CLUSTER_LOST = "the Dask cluster, or the process that it lived in, has exited"


class NoWorkerAvailableError(SeerError):
    """The cluster has no free worker and cannot start another one."""


class DaskMachine(RentedMachine):
    """A worker, possibly not joined yet; or the cluster itself, which is the scheduler machine."""

    def __init__(self) -> None:
        super().__init__()
        self.channel: Channel | None = None
        """Channel to the machine's cluster."""
        self.is_cluster = False
        """Whether the machine is the cluster itself."""
        self.key: str | None = None
        """The cluster's key of the worker that was started for this machine, if the cluster has keys."""
        self.started = False
        """Whether the cluster has started a worker for this machine."""
        self.address = ""
        """Address of the worker; empty before it has joined."""
        self.existing = False
        """Whether the cluster had the worker before the study and keeps it."""

    @property
    def takes_any_worker(self) -> bool:
        """Whether a worker was started for it that cannot be recognized when it joins."""
        return self.started and self.key is None


class DaskFleet(MachineFleet[DaskMachine]):
    """Lets a cluster start and terminate workers, and knows which worker is which machine.

    Workers have names that the cluster gives them. The cluster is the scheduler machine: it is created, or acquired,
    when the engine rents that machine, and released with it.

    Args:
        context: What the fleet knows about its study.
        provider: The provider that the user configured.
    """

    end_timeout_s = 600.0
    """Long, because a cluster that is being created can only be closed afterwards."""

    def __init__(self, context: FleetContext, provider: DaskCluster) -> None:
        super().__init__(context, DaskMachine)
        self._provider = provider
        self._channel: Channel | None = None
        self._info: ClusterInfo | None = None
        self._existing: dict[str, str] = {}
        """Addresses of the workers that the cluster keeps, by name; empty while a worker restarts."""
        self._ending: set[str] = set()
        """Addresses of workers that are being terminated."""
        self._announced: set[str] = set()
        """Addresses of workers that have reported that they are ready."""
        self._wake_watcher = asyncio.Event()

    # --- the protocol ---

    async def open(self) -> None:
        """Start nothing: the engine rents the cluster."""

    async def boot_scheduler(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Create or acquire the cluster."""
        rented = await self._rent(machine, offer)
        if not self._is_wanted(machine, rented) or self._info is None:
            return None
        return SchedulerAddress(self._info.address, self._info.security)

    async def close(self) -> tuple[int, ...]:
        """Terminate all workers that were started for the study, and its own cluster if it created one."""
        workers = [machine for machine, rented in self.rented.items() if not rented.is_cluster]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_TIMEOUT_S):
                await asyncio.gather(*(self.retire(machine, force=True) for machine in workers))
        return await super().close()

    def worker_name(self, worker: str, address: str) -> str | None:  # noqa: ARG002 - the address identifies the worker
        if not address:  # the cluster's name of a worker does not identify a machine
            return None
        self._announced.add(address)
        found = (machine for machine, x in self.rented.items() if x.address == address and x.end_requested_s is None)
        return next((worker_name(machine, 0) for machine in found), None)

    # --- launching ---

    async def _launch(self, machine: int, rented: DaskMachine, offer: Offer) -> None:
        if not offer.workers_per_machine:
            await self._open_cluster(machine, rented)
            return
        channel, info = self._channel, self._info
        if channel is None or info is None:
            raise SeerError("there is no Dask cluster")
        rented.channel = channel
        if address := self._idle_existing_worker():
            rented.existing = True
            self._bind(rented, address)
        elif not info.can_scale:
            raise NoWorkerAvailableError(
                f"all {len(self._existing)} workers of the Dask cluster are in use, and it cannot start more"
            )
        else:
            rented.key = await channel.call("start_worker")
            rented.started = True
            self._wake_watcher.set()

    async def _open_cluster(self, machine: int, rented: DaskMachine) -> None:
        """Create or acquire the cluster."""
        rented.is_cluster = True
        for other, x in list(self.rented.items()):
            if x.is_cluster and x is not rented:  # at most one cluster may be held
                await self._request_end(other, "another Dask cluster has replaced it")
        channel = rented.channel = self._provider.channel()

        def on_lost() -> None:
            self.tasks.start(self._request_end(machine, CLUSTER_LOST))

        info = await channel.open(self.context.lease_s, on_lost)
        if rented.end_requested_s is None:
            self._channel, self._info = channel, info
            self._existing, self._ending, self._announced = dict(info.existing), set(), set()
            self.tasks.start(self._watch(machine, channel))

    def _is_scarce(self, error: Exception) -> bool:
        return isinstance(error, NoWorkerAvailableError)

    # --- matching workers to machines ---

    async def _watch(self, cluster_machine: int, channel: Channel) -> None:
        """Query the workers for as long as this cluster is the present one."""
        answered_s = steady_s()
        while self._channel is channel:
            try:
                async with asyncio.timeout(SILENCE_TIMEOUT_S):
                    found = await channel.call("workers")
                answered_s = steady_s()
                self._update(found)
            except Exception as error:  # noqa: BLE001 - the next query may succeed
                logger.warning("the Dask cluster does not answer: %r", error)
                if steady_s() - answered_s > SILENCE_TIMEOUT_S:
                    self.tasks.start(self._request_end(cluster_machine, CLUSTER_LOST))
                    return
            changing = any(not x.address or x.end_requested_s is not None for x in self._worker_machines().values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAST_POLL_S if changing else SLOW_POLL_S):
                    await self._wake_watcher.wait()
            self._wake_watcher.clear()

    def _update(self, found: dict[str, WorkerInfo]) -> None:
        """Compare the workers on the scheduler with the machines."""
        self._ending &= found.keys()
        self._announced &= found.keys()
        joined = {worker.name: address for address, worker in found.items() if worker.name in self._existing}
        self._existing = {**dict.fromkeys(self._existing, ""), **joined}
        for machine, rented in self._worker_machines().items():
            if rented.address and rented.address not in found and rented.end_requested_s is None:
                self.tasks.start(self.on_worker_lost(machine))
        taken = {rented.address for rented in self._worker_machines().values()} | self._ending
        for address, worker in found.items():
            if worker.name not in self._existing and address not in taken:
                self._assign(address, worker)
        self._report_never_joined()

    def _worker_machines(self) -> dict[int, DaskMachine]:
        """Return the machines that are workers of the present cluster."""
        return {machine: x for machine, x in self.rented.items() if x.channel is self._channel and not x.is_cluster}

    def _assign(self, address: str, worker: WorkerInfo) -> None:
        """Assign a new worker to the machine that it was started for, else to the one that waits longest."""
        waiting = {machine: x for machine, x in self._worker_machines().items() if not x.address}
        fitting = [m for m, x in waiting.items() if (x.started if worker.key is None else x.key == worker.key)]
        # Machines that are being terminated come last.
        fitting.sort(key=lambda machine: waiting[machine].end_requested_s is not None)
        if fitting:
            rented = waiting[fitting[0]]
            self._bind(rented, address)
            if rented.end_requested_s is not None:
                self.tasks.start(self._end(fitting[0], rented, force=True))
        elif not any(x.launching for x in waiting.values()):
            # The cluster has replaced a lost worker, or has started one for a machine that has terminated.
            self._ending.add(address)
            self.tasks.start(self._call(self._channel, "end_worker", worker.key, address, force=True))

    def _bind(self, rented: DaskMachine, address: str) -> None:
        """Make a worker the machine's; if it has announced itself before, it must do so again under its new name."""
        rented.address = address
        if address in self._announced and rented.end_requested_s is None:
            self.tasks.start(self._call(rented.channel, "announce_worker", address))

    def _idle_existing_worker(self) -> str | None:
        """Return the address of a worker that the cluster keeps and no machine uses."""
        taken = {rented.address for rented in self.rented.values()}
        return next((address for address in self._existing.values() if address and address not in taken), None)

    def _report_never_joined(self) -> None:
        """Report machines that were to terminate after joining, but have not joined within the boot timeout."""
        for machine, rented in self._worker_machines().items():
            late = steady_s() - rented.rented_at_s > self._provider.boot_timeout_s
            if rented.takes_any_worker and not rented.address and rented.end_requested_s is not None and late:
                self.report_ended(machine)

    # --- terminating ---

    async def _end(self, machine: int, rented: DaskMachine, *, force: bool) -> None:
        if rented.launching:  # this is called again when the cluster has been created, or the worker started
            return
        if rented.is_cluster:
            await self._end_cluster(machine, rented)
        elif not (rented.started or rented.existing):
            self.report_ended(machine, lived_s=0.0)
        elif rented.takes_any_worker and not rented.address:
            self._wake_watcher.set()
        else:
            await self._end_worker(machine, rented, force=force)

    async def _end_worker(self, machine: int, rented: DaskMachine, *, force: bool) -> None:
        address = rented.address
        if address:
            self._ending.add(address)
        if rented.existing:
            if force:
                self._existing = {name: "" if at == address else at for name, at in self._existing.items()}
            await self._call(rented.channel, "release_worker", address, force=force)
            self._ending.discard(address)
        else:
            await self._call(rented.channel, "end_worker", rented.key, address or None, force=force)
        self.report_ended(machine)

    async def _end_cluster(self, machine: int, rented: DaskMachine) -> None:
        """Release the cluster; its remaining workers end with it."""
        channel = rented.channel
        if self._channel is channel:
            self._channel = self._info = None
            self._wake_watcher.set()
        if channel is not None:
            await self._attempt(channel.close())
        for other in [other for other, x in self.rented.items() if x.channel is channel and not x.is_cluster]:
            self.report_ended(other, reason=rented.reason or "the Dask cluster has ended")
        self.report_ended(machine)

    async def _call(self, channel: Channel | None, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of the controller; the watcher notices the loss of a worker or cluster that does not answer."""
        if channel is not None:
            await self._attempt(channel.call(method, *args, **kwargs))

    async def _clean_up(self) -> None:
        """Close channels; a cluster that is still being created is closed as soon as it exists."""
        for rented in list(self.rented.values()):
            if rented.is_cluster and rented.channel is not None:
                await self._attempt(rented.channel.close())
