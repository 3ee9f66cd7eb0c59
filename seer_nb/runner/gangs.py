"""Carries the engine's actions on gangs out on Dask workers, and turns what the workers say into events."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import cloudpickle
import msgspec

from seer_nb import core
from seer_nb._utils import log_context
from seer_nb._utils.aio import Background
from seer_nb.core import GangEnded, StartGang
from seer_nb.core.model import machine_of_worker
from seer_nb.runner.dask_client import ANSWER_S, Connection, EventStream, unanswered
from seer_nb.storage.resource_usage import Use
from seer_nb.worker import agent, lease, remote
from seer_nb.worker.messages import MemberEnded, MemberTask, Notice, WorkerLeft, WorkerReady

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from distributed import Future

    from seer_nb.providers.base import SchedulerAddress


ECHO_S = 2.0
"""A member that failed in a collective is the echo of another's fault, which is told within so many seconds."""


class GangTracker:
    """One gang's members until all have ended."""

    def __init__(self, start: StartGang) -> None:
        self.start = start
        self._epoch = start.from_epoch
        self._ended: dict[int, MemberEnded] = {}
        self._lost: dict[int, tuple[bool, str]] = {}
        """Rank to (whether the function ended the process itself, why)."""
        self.stack: str | None = None
        """Where the function stood when the gang was given up; None while it was not."""

    def follows(self, epoch: int) -> bool:
        """Whether all reports before that of an epoch were heard."""
        return epoch <= self._epoch + 1

    def reported(self, epoch: int) -> None:
        """A report was heard."""
        self._epoch = max(self._epoch, epoch)

    def member_ended(self, ended: MemberEnded) -> None:
        """A member has left the function."""
        self._ended.setdefault(ended.rank, ended)

    def worker_lost(self, worker: str, *, own_fault: bool, reason: str) -> None:
        """A worker is gone."""
        for rank, name in enumerate(self.start.workers):
            if name == worker and rank not in self._ended:
                self._lost[rank] = (own_fault, reason)

    @property
    def lost_ranks(self) -> tuple[int, ...]:
        """Members whose workers are gone."""
        return tuple(self._lost)

    @property
    def left(self) -> tuple[str, ...]:
        """Workers of members that may still train."""
        gone = self._ended.keys() | self._lost.keys()
        return tuple(name for rank, name in enumerate(self.start.workers) if rank not in gone)

    @property
    def complete(self) -> bool:
        """Whether every member has ended or is gone."""
        return len(self._ended.keys() | self._lost.keys()) == len(self.start.workers)

    @property
    def echo(self) -> bool:
        """Whether only errors of collectives are known, so that their cause may still be told."""
        failed = [e for e in self._ended.values() if e.outcome == "failed"]
        return bool(failed) and not self._lost and all(e.collective for e in failed)

    def outcome(self) -> GangEnded:
        """How the gang ended, by its root cause."""
        gang = self.start.gang
        # Those that wait for a worker that is gone hang by no fault of the function's.
        if self.stack is not None and not self._lost:
            error = f"{self.stack.rstrip()}\nhung: it did not report in time; the lines above show where it stood"
            return GangEnded(gang=gang, outcome="failed", error=error)
        failed = [e for e in self._ended.values() if e.outcome == "failed"]
        own = [e for e in failed if not e.collective]
        if own:
            return GangEnded(gang=gang, outcome="failed", error=own[0].error)
        for ended in self._ended.values():
            if ended.outcome in {"damaged", "lost"}:
                return GangEnded(gang=gang, outcome=ended.outcome, error=ended.error, own_fault=False)
        if self._lost:
            own_fault, reason = max(self._lost.values())
            error = f"the training function ended its worker's process: {reason}" if own_fault else reason
            return GangEnded(gang=gang, outcome="lost", error=error, own_fault=own_fault)
        if failed:
            # All in collectives, and nobody to blame: the network between the members.
            return GangEnded(gang=gang, outcome="lost", error=failed[0].error, own_fault=False)
        return GangEnded(gang=gang, outcome=self._ended[0].outcome)


logger = logging.getLogger(__name__)
_MESSAGE = msgspec.json.Decoder(core.Reported | MemberEnded | WorkerReady | WorkerLeft | Notice)
_READY = msgspec.json.Decoder(WorkerReady)
_encode = msgspec.json.Encoder().encode
BROKEN = "a training function left its GPU in a state in which nothing can be trained"
BROKEN_S = 60.0
"""A machine with such a worker has so long for what its others train to be saved."""


class DaskGangs:
    """The gangs of one study.

    Args:
        settings: The study's.
        emit: Takes the events; called on the event loop.
        ready: Told the name of each worker that can train; called on the event loop.
        left: Told the name of each worker that has left the scheduler.
        logs: Folder for what trials print; None where the workers do not see this machine's files.
    """

    def __init__(
        self,
        settings: core.Settings,
        emit: Callable[[core.Event], None],
        ready: Callable[[str], None],
        left: Callable[[str], None],
        logs: Path | None,
    ) -> None:
        self._ready = ready
        self._left = left
        self._settings = settings
        self._emit = emit
        self._logs = logs
        self.name_of: Callable[[str, str], str | None] = lambda worker, _: worker
        """Given a worker's name and address (empty where only the name is known): "<machine>.<slot>", or None for one
        that is not rented. Some fleets' workers have names of their own."""
        self._workers: dict[str, WorkerReady] = {}
        self._gangs: dict[int, GangTracker] = {}
        self._futures: dict[tuple[int, int], Future[None]] = {}
        self._tasks = Background("a task of the runner failed")
        self._catching = asyncio.Lock()
        self._hearing = EventStream(self._message, lambda: self._tasks.go(self._catch_up()))
        self._connection = Connection(self._hearing.hear)

    async def connect(self, scheduler: SchedulerAddress, function: bytes) -> None:
        """Listen to the workers, and have each new one load the training function.

        Args:
            scheduler: That they join.
            function: Pickled.

        Raises:
            OSError: It does not let a client in.
        """
        client = await self._connection.open(scheduler)
        await self._hearing.begin(client)
        packed = cloudpickle.dumps(agent.Agent(function, self._settings.lease_s))
        archive = b"" if self._logs is not None else remote.archive()
        await client.register_plugin(remote.Departures())
        await client.register_plugin(remote.Bringer(packed, archive))

    async def disconnect(self) -> None:
        """Leave a scheduler, before or after its end."""
        self._workers.clear()
        self._futures.clear()
        await self._connection.close()

    async def adopt(self) -> None:
        """Get to know the workers of an earlier runner; what they train for it ends at its next report.

        One that does not answer in a moment stays unknown, as one that stands still: nobody waits for it.
        """
        for answer in await self._connection.on_each_worker(agent.hello):
            if isinstance(answer, bytes):
                ready = self._named(_READY.decode(answer))
                if ready is not None:
                    self._workers[ready.worker] = ready

    async def close(self) -> None:
        """Forget what is under way."""
        self._tasks.cancel()
        await self.disconnect()

    def knows(self, worker: str) -> bool:
        """Whether a worker has said that it can train."""
        return worker in self._workers

    # --- actions ---

    def start(self, action: core.StartGang, trial: core.Trial, *, again: bool = False) -> None:
        """Submit a task a member; ``again``: of a trial that an earlier gang has trained."""
        tracker = self._gangs[action.gang] = GangTracker(action)
        first, client = self._workers.get(action.workers[0]), self._connection.open_client
        for rank, worker in enumerate(action.workers):
            ready = self._workers.get(worker)
            if client is None or ready is None or first is None:
                # It vanished between the decision and now.
                tracker.worker_lost(worker, own_fault=False, reason="a worker was lost before the gang began")
                self._check(tracker)
                self._bereave(tracker)
                continue
            order = self._order(action, trial, rank, first, again=again)
            future = client.submit(
                remote.train,
                _encode(order),
                key=f"gang-{action.gang}-{rank}",
                workers=[ready.address],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
            self._futures[action.gang, rank] = future
            future.add_done_callback(lambda done, gang=action.gang, rank=rank: self._done(done, gang, rank))

    def stop(self, gang: int) -> None:
        """Have a gang save and end."""
        self._tell(gang, agent.stop, gang)

    def extend(self, gang: int, until: int) -> None:
        """Have a gang train on."""
        self._tell(gang, agent.extend, gang, until)

    def abandon(self, gang: int) -> None:
        """Note where a hung gang stands, and count it as ended; the engine then ends its machines."""
        self._tasks.go(self._abandon(gang))

    async def standing(self, gang: int) -> str:
        """Where the members of a gang stand, in words; empty for one that has ended."""
        tracker = self._gangs.get(gang)
        return "" if tracker is None else await self._standing(tracker.start.workers)

    async def _standing(self, workers: tuple[str, ...]) -> str:
        found = await asyncio.gather(*(self._asked(worker, agent.standing) for worker in workers))
        words = [told or "its worker does not answer" for told in found]
        return words[0] if len(words) == 1 else "; ".join(f"rank {rank}: {told}" for rank, told in enumerate(words))

    async def _asked(self, worker: str, function: Callable[[], Any]) -> Any:
        """What a worker answers; None if it does not."""
        return (
            await self._connection.on_workers(function, [self._workers[worker].address])
            if worker in self._workers
            else None
        )

    async def used(self) -> dict[str, Use]:
        """What each worker uses of its machine, by its name, as the scheduler knows."""
        found = await self._connection.on_scheduler(remote.used) or {}
        names = {ready.address: worker for worker, ready in self._workers.items()}
        return {names[address]: Use(*use) for address, use in found.items() if address in names}

    def renew(self, but: Collection[str] = ()) -> None:
        """Renew all leases, also those of workers that still warm up: that may take longer than the lease."""
        addresses = [self._workers[worker].address for worker in but if worker in self._workers]
        self._tasks.go(self._connection.on_workers(agent.renew, None, (*but, *addresses)))
        if self._settings.host is not None:
            self._tasks.go(self._connection.on_scheduler(lease.renew_lease, self._settings.lease_s))
        self._tasks.go(self._catch_up())

    def machine_ended(self, event: core.MachineEnded) -> None:
        """A machine is gone, and its workers with it."""
        own_fault = not event.expected and event.exit_code is not None and event.exit_code >= 0
        for worker in [name for name in self._workers if machine_of_worker(name) == event.machine]:
            del self._workers[worker]
        for tracker in list(self._gangs.values()):
            for worker in tracker.start.workers:
                if machine_of_worker(worker) == event.machine:
                    reason = event.reason or "its worker was ended"
                    tracker.worker_lost(worker, own_fault=own_fault, reason=reason)
                    self._check(tracker)
                    self._bereave(tracker)

    # --- what comes back ---

    def _message(self, text: str, *, anyway: bool) -> bool:
        """Take in what a worker or the scheduler says; False if a report before it is missing, and not ``anyway``."""
        record = _MESSAGE.decode(text)
        if isinstance(record, core.Reported):
            return self._reported(record, anyway=anyway)
        if isinstance(record, MemberEnded):
            tracker = self._gangs.get(record.gang)
            if tracker is not None:
                if record.broken:
                    self._leaving(tracker.start.workers[record.rank], BROKEN_S, BROKEN)
                tracker.member_ended(record)
                self._check(tracker)
        elif isinstance(record, WorkerLeft):
            for worker in [name for name, ready in self._workers.items() if ready.address == record.address]:
                self._left(worker)
        elif isinstance(record, Notice):
            name = self.name_of(record.worker, "")
            if name is not None:
                self._leaving(name, record.left_s, record.reason)
        elif (ready := self._named(record)) is not None:
            self._worker_ready(ready)
        return True

    def _leaving(self, worker: str, left_s: float, reason: str) -> None:
        """Its machine takes no more gangs, and goes once those that are on it have saved."""
        self._emit(core.MachineLeaving(machine=machine_of_worker(worker), left_s=left_s, reason=reason))

    def _reported(self, report: core.Reported, *, anyway: bool) -> bool:
        tracker = self._gangs.get(report.gang)
        if tracker is not None:
            if not (anyway or tracker.follows(report.epoch)):
                return False
            tracker.reported(report.epoch)
            self._emit(report)
        return True

    def _worker_ready(self, ready: WorkerReady) -> None:
        if ready.error:
            self._emit(core.WorkerFailed(worker=ready.worker, error=ready.error))
        else:
            self._workers[ready.worker] = ready
            self._ready(ready.worker)

    def _named(self, ready: WorkerReady) -> WorkerReady | None:
        """With the name that the engine knows the worker by; None if it knows none."""
        name = self.name_of(ready.worker, ready.address)
        return None if name is None else msgspec.structs.replace(ready, worker=name)

    def _check(self, tracker: GangTracker) -> None:
        if not tracker.complete or tracker.start.gang not in self._gangs:
            return
        if tracker.echo:
            self._tasks.go(self._end_later(tracker))
        else:
            self._end(tracker)

    async def _end_later(self, tracker: GangTracker) -> None:
        await asyncio.sleep(ECHO_S)
        self._end(tracker)

    def _end(self, tracker: GangTracker) -> None:
        gang = tracker.start.gang
        if self._gangs.pop(gang, None) is not None:
            self._emit(tracker.outcome())
            # The task of a lost worker would wait on the scheduler for one that comes to have the same address.
            for rank in tracker.lost_ranks:
                future = self._futures.pop((gang, rank), None)
                if future is not None and not future.done():
                    self._tasks.go(future.cancel())

    def _done(self, future: Future[None], gang: int, rank: int) -> None:
        """A member's task is over. The member has told how; only a task that never ran has an error here."""
        self._futures.pop((gang, rank), None)
        tracker = self._gangs.get(gang)
        if tracker is None or future.status != "error":
            return
        self._tasks.go(self._failed(future, tracker, rank))

    async def _failed(self, future: Future[None], tracker: GangTracker, rank: int) -> None:
        error = await future.exception()
        # A lost worker is told by its provider, with its exit code: leave it the time.
        await asyncio.sleep(ECHO_S)
        if tracker.start.gang in self._gangs:
            with log_context.about(**log_context.ids_of(tracker.start), rank=rank):
                logger.warning("its task has failed: %r", error)
            tracker.worker_lost(tracker.start.workers[rank], own_fault=False, reason=str(error))
            self._check(tracker)
            self._bereave(tracker)

    async def _abandon(self, gang: int) -> None:
        tracker = self._gangs.get(gang)
        if tracker is None:
            return
        stacks = []
        for rank, worker in enumerate(tracker.start.workers):
            found = await self._asked(worker, agent.stack)
            if found is None:
                tracker.worker_lost(worker, own_fault=False, reason="its worker does not answer")
            else:
                stacks.append(f"rank {rank} stood at\n{found}")
        if stacks:
            tracker.stack = "\n".join(stacks)
        self._end(tracker)

    # --- helpers ---

    def _bereave(self, tracker: GangTracker) -> None:
        """Tell the members that are left: who has met the lost one sees its connection close, others do not."""
        addresses = [self._workers[worker].address for worker in tracker.left if worker in self._workers]
        if addresses:
            self._tasks.go(self._connection.on_workers(agent.bereave, addresses, tracker.start.gang))

    def _order(
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
            again=again,
            logs=None if self._logs is None else str(self._logs),
        )

    def _tell(self, gang: int, function: Callable[..., None], *args: Any) -> None:
        tracker = self._gangs.get(gang)
        if tracker is None:
            return
        # Rank 0 speaks for the gang; the others learn of it at the next report.
        ready = self._workers.get(tracker.start.workers[0])
        if ready is not None:
            self._tasks.go(self._connection.on_workers(function, [ready.address], *args))

    async def _catch_up(self) -> None:
        """Hear what was said while the client was away; if it was for so long that it has given up, come back."""
        with unanswered():
            async with self._catching:
                await self._connection.come_back()
                client = self._connection.client
                if client is not None:
                    async with asyncio.timeout(ANSWER_S):
                        await self._hearing.catch_up(client)
