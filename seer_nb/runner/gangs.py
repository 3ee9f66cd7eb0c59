"""Gangs on Dask workers: carries out the engine's actions, and turns the workers' records into the engine's events."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle
import msgspec

from seer_nb import core
from seer_nb._utils import log_context
from seer_nb._utils.aio import BackgroundTasks
from seer_nb.core.model import machine_of_worker
from seer_nb.runner.dask_client import SchedulerConnection
from seer_nb.storage.resource_usage import WorkerUsage
from seer_nb.worker import agent, lease, remote
from seer_nb.worker.messages import MemberEnded, MemberTask, PreemptionNotice, WorkerLeft, WorkerReady

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from distributed import Future

    from seer_nb.providers.base import Fleet, SchedulerAddress


logger = logging.getLogger(__name__)
ROOT_CAUSE_S = 2.0
"""Seconds to wait for the record of the member, or of the machine, whose failure made the others fail."""
BROKEN = "a training function left the GPU unusable for its worker's process"
BROKEN_S = 60.0
"""Seconds in which the other workers of a machine with such a GPU may save their trials."""
_decode_record = msgspec.json.Decoder(core.Reported | MemberEnded | WorkerReady | WorkerLeft | PreemptionNotice).decode
_decode_ready = msgspec.json.Decoder(WorkerReady).decode
_encode = msgspec.json.Encoder().encode


class GangObserver(Protocol):
    """Receives what `DaskGangs` learns from the workers. All methods are called on the event loop."""

    def emit(self, event: core.Event) -> None:
        """Take an event for the engine."""
        ...

    def worker_ready(self, worker: str) -> None:
        """Note that a worker, given by the engine's name, can train."""
        ...

    def worker_left(self, worker: str) -> None:
        """Note that a worker has left the scheduler."""
        ...


class GangTracker:
    """The members of one gang, until all have ended or are lost.

    Args:
        start: The action that started the gang.
    """

    def __init__(self, start: core.StartGang) -> None:
        self.start = start
        self.hung_stack: str | None = None
        """Stack of each rank when the gang was abandoned as hung; None while it was not."""
        self._ended: dict[int, MemberEnded] = {}
        self._lost: dict[int, tuple[bool, str]] = {}
        """Rank to (whether the training function ended the process itself, reason)."""

    def member_ended(self, ended: MemberEnded) -> None:
        """Record that a member has left the training function; the first record of a rank counts."""
        self._ended.setdefault(ended.rank, ended)

    def worker_lost(self, worker: str, *, own_fault: bool, reason: str) -> None:
        """Record that a worker is gone, unless its member had ended before."""
        for rank, name in enumerate(self.start.workers):
            if name == worker and rank not in self._ended:
                self._lost[rank] = (own_fault, reason)

    @property
    def lost_ranks(self) -> tuple[int, ...]:
        """Ranks whose workers are gone."""
        return tuple(self._lost)

    @property
    def remaining_workers(self) -> tuple[str, ...]:
        """Workers of members that may still train."""
        gone = self._ended.keys() | self._lost.keys()
        return tuple(name for rank, name in enumerate(self.start.workers) if rank not in gone)

    @property
    def is_complete(self) -> bool:
        """Whether every member has ended or is lost."""
        return not self.remaining_workers

    @property
    def lacks_root_cause(self) -> bool:
        """Whether all known failures came out of collectives, so that the record of their cause may still arrive."""
        failed = self._failed()
        return bool(failed) and not self._lost and all(e.collective for e in failed)

    def outcome(self) -> core.GangEnded:
        """Return how the gang ended, by its root cause."""
        gang, failed = self.start.gang, self._failed()
        # Members that wait for a lost worker hang because of it, not because of the training function.
        if self.hung_stack is not None and not self._lost:
            error = f"{self.hung_stack.rstrip()}\nhung: it did not report in time; the lines above show where it was"
            return core.GangEnded(gang=gang, outcome="failed", error=error)
        for ended in failed:
            if not ended.collective:
                return core.GangEnded(gang=gang, outcome="failed", error=ended.error)
        for ended in self._ended.values():
            if ended.outcome in {"damaged", "lost"}:
                return core.GangEnded(gang=gang, outcome=ended.outcome, error=ended.error, own_fault=False)
        if self._lost:
            own_fault, reason = max(self._lost.values())
            error = f"the training function ended its worker's process: {reason}" if own_fault else reason
            return core.GangEnded(gang=gang, outcome="lost", error=error, own_fault=own_fault)
        if failed:
            # All members failed in collectives, so the network between them failed.
            return core.GangEnded(gang=gang, outcome="lost", error=failed[0].error, own_fault=False)
        return core.GangEnded(gang=gang, outcome=self._ended[0].outcome)

    def _failed(self) -> list[MemberEnded]:
        return [ended for ended in self._ended.values() if ended.outcome == "failed"]


class DaskGangs:
    """The gangs of one study on its Dask workers.

    Args:
        settings: Settings of the study.
        fleet: Translates the workers' Dask names into the engine's names, "<machine>.<slot>".
        observer: Receives events, and which workers are ready or have left.
        logs: Folder for the output of trials; None if the workers do not share this machine's files.
    """

    def __init__(self, settings: core.Settings, fleet: Fleet, observer: GangObserver, logs: Path | None) -> None:
        self._settings = settings
        self._fleet = fleet
        self._observer = observer
        self._logs = logs
        self.workers: dict[str, WorkerReady] = {}
        """Workers that can train, by the engine's name."""
        self.trackers: dict[int, GangTracker] = {}
        """Gangs whose members have not all ended, by number."""
        self._futures: dict[tuple[int, int], Future[None]] = {}
        """Dask tasks of members, by gang and rank."""
        self._tasks = BackgroundTasks("a task of the runner failed")
        self.connection = SchedulerConnection(self._receive)

    # --- connection ---

    async def connect(self, scheduler: SchedulerAddress, function: bytes) -> None:
        """Connect to a scheduler, and have each worker that joins it load the training function.

        Args:
            scheduler: Address of the scheduler.
            function: The training function, pickled.

        Raises:
            OSError: The scheduler does not accept the client.
        """
        client = await self.connection.open(scheduler)
        packed = cloudpickle.dumps(agent.Agent(function, self._settings.lease_s))
        archive = b"" if self._logs is not None else remote.archive(function)
        await client.register_plugin(remote.AgentPlugin(packed, archive))

    async def disconnect(self) -> None:
        """Disconnect from the scheduler, before or after its end."""
        self.workers.clear()
        self._futures.clear()
        await self.connection.close()

    async def close(self) -> None:
        """Cancel everything in progress, and disconnect."""
        self._tasks.cancel()
        await self.disconnect()

    # --- workers ---

    async def register_workers(self) -> None:
        """Register the workers of an earlier runner; what they still train stops at its next report.

        A worker that does not answer in time, because it is suspended for instance, stays unregistered.
        """
        for answer in await self.connection.run_on_each_worker(agent.register):
            if isinstance(answer, bytes):
                ready = self._with_engine_name(_decode_ready(answer))
                if ready is not None:
                    self.workers[ready.worker] = ready

    def is_registered(self, worker: str) -> bool:
        """Whether a worker has reported that it can train."""
        return worker in self.workers

    async def resource_use(self) -> dict[str, WorkerUsage]:
        """Return what each worker uses of its machine, by its name, as of its last heartbeat to the scheduler."""
        found = await self.connection.run_on_scheduler(remote.resource_use) or {}
        names = {ready.address: worker for worker, ready in self.workers.items()}
        return {names[address]: WorkerUsage(*use) for address, use in found.items() if address in names}

    def renew_leases(self, excluded: Collection[str] = ()) -> None:
        """Renew the leases of all machines, also of workers that warm up: warming up may take longer than a lease.

        Args:
            excluded: Names of workers whose lease shall expire.
        """
        addresses = [self.workers[worker].address for worker in excluded if worker in self.workers]
        self._tasks.start(self.connection.run_on_workers(agent.renew_lease, None, (*excluded, *addresses)))
        if self._settings.scheduler_offer is not None:
            self._tasks.start(self.connection.run_on_scheduler(lease.renew_machine_lease, self._settings.lease_s))
        # Records whose signal was lost while the client was disconnected are fetched at the latest now.
        self.connection.request_records()

    def machine_ended(self, event: core.MachineEnded) -> None:
        """Count the machine's workers as lost."""
        own_fault = not event.expected and event.exit_code is not None and event.exit_code >= 0
        for worker in [name for name in self.workers if machine_of_worker(name) == event.machine]:
            del self.workers[worker]
        for tracker in list(self.trackers.values()):
            for worker in tracker.start.workers:
                if machine_of_worker(worker) == event.machine:
                    reason = event.reason or "its worker was terminated"
                    self._worker_lost(tracker, worker, own_fault=own_fault, reason=reason)

    # --- gangs ---

    def start(self, action: core.StartGang, trial: core.Trial, *, again: bool = False) -> None:
        """Submit one Dask task per member.

        Args:
            action: What to start.
            trial: The trial to train.
            again: Whether an earlier gang has trained the trial.
        """
        tracker = self.trackers[action.gang] = GangTracker(action)
        first, client = self.workers.get(action.workers[0]), self.connection.open_client
        for rank, worker in enumerate(action.workers):
            ready = self.workers.get(worker)
            if client is None or ready is None or first is None:
                # The worker was lost between the decision and now.
                reason = "a worker was lost before the gang started"
                self._worker_lost(tracker, worker, own_fault=False, reason=reason)
                continue
            future = client.submit(
                remote.train,
                _encode(self._member_task(action, trial, rank, first, again=again)),
                key=f"gang-{action.gang}-{rank}",
                workers=[ready.address],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
            self._futures[action.gang, rank] = future
            future.add_done_callback(lambda done, gang=action.gang, rank=rank: self._task_done(done, gang, rank))

    def stop(self, gang: int) -> None:
        """Request that a gang saves and stops at its next report."""
        self._run_on_rank_0(gang, agent.stop, gang)

    def extend(self, gang: int, until: int) -> None:
        """Have a gang train until a later epoch."""
        self._run_on_rank_0(gang, agent.extend, gang, until)

    def abandon(self, gang: int) -> None:
        """Record the stacks of a hung gang and count it as ended; the engine then terminates its machines."""
        self._tasks.start(self._abandon(gang))

    async def where_is_training(self, gang: int) -> str:
        """Describe in words where each member of a gang is; empty for a gang that has ended."""
        tracker = self.trackers.get(gang)
        if tracker is None:
            return ""
        workers = tracker.start.workers
        answers = await asyncio.gather(*(self._run_on_worker(worker, agent.where_is_training) for worker in workers))
        places = [place or "its worker does not answer" for place in answers]
        return (
            places[0] if len(places) == 1 else "; ".join(f"rank {rank}: {place}" for rank, place in enumerate(places))
        )

    # --- records from workers and the scheduler ---

    def _receive(self, text: str) -> None:
        record = _decode_record(text)
        if isinstance(record, core.Reported):
            if record.gang in self.trackers:
                self._observer.emit(record)
        elif isinstance(record, MemberEnded):
            self._member_ended(record)
        elif isinstance(record, WorkerLeft):
            for worker in [name for name, ready in self.workers.items() if ready.address == record.address]:
                self._observer.worker_left(worker)
        elif isinstance(record, PreemptionNotice):
            name = self._fleet.worker_name(record.worker, "")
            if name is not None:
                self._machine_leaves(name, record.left_s, record.reason)
        elif (ready := self._with_engine_name(record)) is not None:
            self._worker_ready(ready)

    def _member_ended(self, ended: MemberEnded) -> None:
        tracker = self.trackers.get(ended.gang)
        if tracker is not None:
            if ended.broken:
                self._machine_leaves(tracker.start.workers[ended.rank], BROKEN_S, BROKEN)
            tracker.member_ended(ended)
            self._end_if_complete(tracker)

    def _machine_leaves(self, worker: str, left_s: float, reason: str) -> None:
        """Have the engine retire a worker's machine once its gangs have saved, within so many seconds."""
        self._observer.emit(core.MachineLeaving(machine=machine_of_worker(worker), left_s=left_s, reason=reason))

    def _worker_ready(self, ready: WorkerReady) -> None:
        if ready.error:
            self._observer.emit(core.WorkerFailed(worker=ready.worker, error=ready.error))
        else:
            self.workers[ready.worker] = ready
            self._observer.worker_ready(ready.worker)

    def _with_engine_name(self, ready: WorkerReady) -> WorkerReady | None:
        """Replace the worker's Dask name by the engine's; None if the engine has not rented such a worker."""
        name = self._fleet.worker_name(ready.worker, ready.address)
        return None if name is None else msgspec.structs.replace(ready, worker=name)

    def _task_done(self, future: Future[None], gang: int, rank: int) -> None:
        """Handle the end of a member's task. A member reports its own errors: only a task that never ran has failed."""
        self._futures.pop((gang, rank), None)
        tracker = self.trackers.get(gang)
        if tracker is not None and future.status == "error":
            self._tasks.start(self._task_failed(future, tracker, rank))

    async def _task_failed(self, future: Future[None], tracker: GangTracker, rank: int) -> None:
        error = await future.exception()
        # The provider reports a lost worker with its exit code: wait for that.
        await asyncio.sleep(ROOT_CAUSE_S)
        if tracker.start.gang in self.trackers:
            with log_context.log_ids(**log_context.ids_of(tracker.start), rank=rank):
                logger.warning("the Dask task of a member failed: %r", error)
            self._worker_lost(tracker, tracker.start.workers[rank], own_fault=False, reason=str(error))

    # --- the end of a gang ---

    def _worker_lost(self, tracker: GangTracker, worker: str, *, own_fault: bool, reason: str) -> None:
        tracker.worker_lost(worker, own_fault=own_fault, reason=reason)
        self._end_if_complete(tracker)
        self._notify_member_lost(tracker)

    def _notify_member_lost(self, tracker: GangTracker) -> None:
        """Notify the remaining members: only those that have connected to the lost one see its connection close."""
        addresses = [self.workers[worker].address for worker in tracker.remaining_workers if worker in self.workers]
        if addresses:
            gang = tracker.start.gang
            self._tasks.start(self.connection.run_on_workers(agent.notify_member_lost, addresses, gang))

    def _end_if_complete(self, tracker: GangTracker) -> None:
        if not tracker.is_complete or tracker.start.gang not in self.trackers:
            return
        if tracker.lacks_root_cause:
            self._tasks.start(self._end_later(tracker))
        else:
            self._end(tracker)

    async def _end_later(self, tracker: GangTracker) -> None:
        await asyncio.sleep(ROOT_CAUSE_S)
        self._end(tracker)

    def _end(self, tracker: GangTracker) -> None:
        gang = tracker.start.gang
        if self.trackers.pop(gang, None) is None:
            return
        self._observer.emit(tracker.outcome())
        # Dask would run the task of a lost worker on a later worker with the same address.
        for rank in tracker.lost_ranks:
            future = self._futures.pop((gang, rank), None)
            if future is not None and not future.done():
                self._tasks.start(future.cancel())

    async def _abandon(self, gang: int) -> None:
        tracker = self.trackers.get(gang)
        if tracker is None:
            return
        stacks = []
        for rank, worker in enumerate(tracker.start.workers):
            stack = await self._run_on_worker(worker, agent.training_stack)
            if stack is None:
                tracker.worker_lost(worker, own_fault=False, reason="its worker does not answer")
            else:
                stacks.append(f"rank {rank} was at\n{stack}")
        if stacks:
            tracker.hung_stack = "\n".join(stacks)
        self._end(tracker)

    # --- helpers ---

    async def _run_on_worker(self, worker: str, function: Callable[[], Any]) -> Any:
        """Run a function on a worker; returns None if the worker is unknown or does not answer."""
        ready = self.workers.get(worker)
        return None if ready is None else await self.connection.run_on_workers(function, [ready.address])

    def _run_on_rank_0(self, gang: int, function: Callable[..., None], *args: Any) -> None:
        """Run a function on the worker of rank 0; the other ranks receive its decision at the next report."""
        tracker = self.trackers.get(gang)
        ready = None if tracker is None else self.workers.get(tracker.start.workers[0])
        if ready is not None:
            self._tasks.start(self.connection.run_on_workers(function, [ready.address], *args))

    def _member_task(
        self, action: core.StartGang, trial: core.Trial, rank: int, first: WorkerReady, *, again: bool
    ) -> MemberTask:
        return MemberTask(
            gang=action.gang,
            trial=action.trial,
            config=trial.config,
            rank=rank,
            world_size=len(action.workers),
            store_host=first.address.rpartition("://")[2].rpartition(":")[0],
            store_port=first.store_port,
            from_epoch=action.from_epoch,
            checkpoint=action.checkpoint,
            until=action.until,
            max_epochs=self._settings.max_epochs,
            metric=self._settings.metric,
            seed=self._settings.seed,
            store=self._settings.store,
            is_restart=again,
            logs=None if self._logs is None else str(self._logs),
        )
