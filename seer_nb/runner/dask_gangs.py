"""Carries the engine's actions on gangs out on Dask workers, and turns what the workers say into events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import cloudpickle
import msgspec

from seer_nb.core import model as m
from seer_nb.runner import agent, shipping
from seer_nb.runner.background import Background
from seer_nb.runner.gangs import ECHO_S, GangTracker
from seer_nb.runner.orders import MemberEnded, Notice, Order, WorkerLeft, WorkerReady

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from distributed import Client, Future

    from seer_nb.providers.base import SchedulerAddress

logger = logging.getLogger(__name__)
_MESSAGE = msgspec.json.Decoder(m.Reported | MemberEnded | WorkerReady | WorkerLeft | Notice)
_READY = msgspec.json.Decoder(WorkerReady)
_encode = msgspec.json.Encoder().encode
ANSWER_S = 2.0
"""A worker that does not answer for so long is taken for dead."""
CONNECT_S = 60.0
"""A scheduler that listens must let a client in within so many seconds."""
LEAVE_S = 2.0
"""The machines' end does not wait longer than that for Dask's client."""


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
        settings: m.Settings,
        emit: Callable[[m.Event], None],
        ready: Callable[[str], None],
        left: Callable[[str], None],
        logs: Path | None,
    ) -> None:
        self._ready = ready
        self._left = left
        self._client: Client | None = None
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

    async def connect(self, scheduler: SchedulerAddress, function: bytes) -> None:
        """Listen to the workers, and have each new one load the training function.

        Args:
            scheduler: That they join.
            function: Pickled.

        Raises:
            OSError: It does not let a client in.
        """
        from distributed import Client

        client = await Client(
            scheduler.address,
            security=scheduler.security,
            asynchronous=True,
            set_as_default=False,
            timeout=CONNECT_S,
        )
        self._client = client
        client.subscribe_topic(shipping.TOPIC, self._message)
        packed = cloudpickle.dumps(agent.Agent(function, self._settings.lease_s))
        archive = b"" if self._logs is not None else shipping.archive()
        await client.register_plugin(shipping.Departures())
        await client.register_plugin(shipping.Bringer(packed, archive))

    async def disconnect(self) -> None:
        """Leave a scheduler, before or after its end."""
        self._workers.clear()
        self._futures.clear()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await client.close()

    async def adopt(self) -> None:
        """Get to know the workers of an earlier runner; what they train for it ends at its next report."""
        assert self._client is not None
        answers = await self._client.run(agent.hello, on_error="ignore")
        for answer in answers.values():
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

    def start(self, action: m.StartGang, trial: m.Trial) -> None:
        """Submit a task a member."""
        tracker = self._gangs[action.gang] = GangTracker(action)
        first = self._workers.get(action.workers[0])
        for rank, worker in enumerate(action.workers):
            ready = self._workers.get(worker)
            if self._client is None or ready is None or first is None:  # it vanished between the decision and now
                tracker.worker_lost(worker, own_fault=False, reason="a worker was lost before the gang began")
                self._check(tracker)
                continue
            order = self._order(action, trial, rank, first)
            future = self._client.submit(
                shipping.train,
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

    def renew(self, but: Collection[str] = ()) -> None:
        """Renew all leases, also those of workers that still warm up: that may take longer than the lease."""
        addresses = [self._workers[worker].address for worker in but if worker in self._workers]
        self._tasks.go(self._run(agent.renew, None, (*but, *addresses)))
        if self._settings.host is not None and self._client is not None:
            self._tasks.go(self._client.run_on_scheduler(shipping.renew_lease, self._settings.lease_s))

    def machine_ended(self, event: m.MachineEnded) -> None:
        """A machine is gone, and its workers with it."""
        own_fault = not event.expected and event.exit_code is not None and event.exit_code >= 0
        prefix = f"{event.machine}."
        for worker in [name for name in self._workers if name.startswith(prefix)]:
            del self._workers[worker]
        for tracker in list(self._gangs.values()):
            for worker in tracker.start.workers:
                if worker.startswith(prefix):
                    reason = event.reason or "its worker was ended"
                    tracker.worker_lost(worker, own_fault=own_fault, reason=reason)
                    self._check(tracker)

    # --- what comes back ---

    def _message(self, event: tuple[float, str]) -> None:
        """Called by Dask on this event loop for every record that a worker sends."""
        record = _MESSAGE.decode(event[1])
        if isinstance(record, m.Reported):
            if record.gang in self._gangs:
                self._emit(record)
        elif isinstance(record, MemberEnded):
            tracker = self._gangs.get(record.gang)
            if tracker is not None:
                tracker.member_ended(record)
                self._check(tracker)
        elif isinstance(record, WorkerLeft):
            for worker in [name for name, ready in self._workers.items() if ready.address == record.address]:
                self._left(worker)
        elif isinstance(record, Notice):
            name = self.name_of(record.worker, "")
            if name is not None:
                machine = int(name.partition(".")[0])
                self._emit(m.MachineLeaving(machine=machine, left_s=record.left_s, reason=record.reason))
        elif (ready := self._named(record)) is not None:
            self._worker_ready(ready)

    def _worker_ready(self, ready: WorkerReady) -> None:
        if ready.error:
            self._emit(m.WorkerFailed(worker=ready.worker, error=ready.error))
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
            logger.warning("gang %s rank %s: %r", tracker.start.gang, rank, error)
            tracker.worker_lost(tracker.start.workers[rank], own_fault=False, reason=str(error))
            self._check(tracker)

    async def _abandon(self, gang: int) -> None:
        tracker = self._gangs.get(gang)
        if tracker is None:
            return
        stacks = []
        for rank, worker in enumerate(tracker.start.workers):
            found = await self._run(agent.stack, [self._workers[worker].address]) if worker in self._workers else None
            if found is None:
                tracker.worker_lost(worker, own_fault=False, reason="its worker does not answer")
            else:
                stacks.append(f"rank {rank} stood at\n{found}")
        if stacks:
            tracker.stack = "\n".join(stacks)
        self._end(tracker)

    # --- helpers ---

    def _order(self, action: m.StartGang, trial: m.Trial, rank: int, first: WorkerReady) -> Order:
        return Order(
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
            logs=None if self._logs is None else str(self._logs),
        )

    def _tell(self, gang: int, function: Callable[..., None], *args: Any) -> None:
        tracker = self._gangs.get(gang)
        if tracker is None:
            return
        # Rank 0 speaks for the gang; the others learn of it at the next report.
        ready = self._workers.get(tracker.start.workers[0])
        if ready is not None:
            self._tasks.go(self._run(function, [ready.address], *args))

    async def _run(self, function: Callable[..., Any], addresses: list[str] | None, *args: Any) -> Any:
        """Call a function on workers (None: on all) beside what they train; None for one that does not answer."""
        if self._client is None:
            return None
        try:
            async with asyncio.timeout(ANSWER_S):
                answers = await self._client.run(function, *args, workers=addresses, on_error="ignore")
        except (TimeoutError, OSError):
            return None
        return next(iter(answers.values()), None)
