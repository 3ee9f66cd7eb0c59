"""The runner's loop: it feeds events to the engine, writes the journal, and carries out the engine's actions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import traceback
from collections import deque
from typing import TYPE_CHECKING

from msgspec import structs

from seer_nb import core
from seer_nb._utils import log_context
from seer_nb._utils.clock import LATE_TIMER_S, steady_s
from seer_nb.runner import commands as inbox
from seer_nb.runner.checkpoint_gc import CheckpointCollector, CheckpointRemover
from seer_nb.runner.clock import StudyClock, SuspendGuard
from seer_nb.runner.configurations import ConfigurationSource
from seer_nb.runner.context import EventQueue, StudyContext
from seer_nb.runner.journal_writer import JournalWriter, SnapshotWriter, as_correction
from seer_nb.runner.machines import MachineManager
from seer_nb.runner.monitor import Monitor
from seer_nb.runner.recovery import TakeOver, restore
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path


logger = logging.getLogger(__name__)
INBOX_S = 0.05
"""Seconds between two reads of the inbox."""
SHUTDOWN_S = 8.0
"""Seconds that a shutdown of the computer, or a stopped container, leaves to a process after SIGTERM."""


class Runner:
    """Drives one study until it ends.

    Args:
        folder: Folder of the study.
        start_s: Reading of `steady_s` from which the first runner counts study time; None for a later runner.
    """

    def __init__(self, folder: Path, start_s: float | None = None) -> None:
        self.folder = folder
        self.journal = Journal(folder / layout.JOURNAL)
        parts = layout.read_parts(folder)
        self._checkpoints = CheckpointCollector()
        restored = restore(self.journal, parts["policy"], self._checkpoints)
        self.engine = restored.engine
        self.unseen_s = restored.unseen_s
        """Seconds before this runner in which no runner lived."""
        state = self.engine.state
        self._remover = CheckpointRemover(state.settings.store)
        self.snapshots = SnapshotWriter(folder, restored.n_unsaved)
        self._configurations = ConfigurationSource(parts, state)
        self.clock = StudyClock(state.now_s, start_s if restored.fresh else None)
        self.guard = SuspendGuard(self.engine, self.clock)
        self._writer = JournalWriter(self.journal, self.engine, self.clock, self.guard)
        self._events = EventQueue()
        self._study = StudyContext(folder, state, self.clock, self._events)
        self._provider = parts["provider"]
        self.machines = MachineManager(self._study, self._provider, self.guard)
        self._gangs = self.machines.gangs
        self._exit_by_s: float | None = None
        """Reading of `steady_s` by which this process must exit; None before SIGTERM."""

    async def run(self) -> None:
        """Drive the study until it has ended, or until SIGTERM."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.journal.close)
            stack.push_async_callback(self._remover.close)
            stack.push_async_callback(self._shut_down)
            # Closed before the scheduler: a client that loses its scheduler tries for seconds to reconnect.
            stack.push_async_callback(self._gangs.close)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._on_sigterm)
            started = await self._open()
            if started is not None:
                await self._drive(started)

    async def _open(self) -> core.RunnerStarted | None:
        """Open the machines, and take the study over; returns None if the provider raised, which ends the study."""
        try:
            await self.machines.open()
            return await TakeOver(self.engine.state, self.machines, self.unseen_s).run()
        except Exception as error:
            if self.engine.state.live_machines:
                raise  # a later runner must find the machines
            logger.exception("the provider failed")
            part, text = f"provider {type(self._provider).__name__}", "".join(traceback.format_exception(error))
            failed = core.PartFailed(part=part, error=text)
            # No action follows that a machine would have to carry out.
            self._handle(*self._first_events(core.RunnerStarted(unseen_s=self.unseen_s), failed))
            return None

    async def _shut_down(self) -> None:
        """Terminate all machines, and record which have ended: no other process will."""
        self._writer.stop_retrying()
        left = await self.machines.close()
        late: list[core.Event] = [core.MachinesLeftBehind(machines=left)] if left else []
        late += [event for event in self._events.drain() if isinstance(event, core.MachineEnded)]
        if self._writer.is_behind or self.engine.state.phase == "running":
            # This runner has failed: the next one decides what the study needs.
            self._writer.write_undecided(late)
        else:
            self._handle(late)

    # --- the loop ---

    async def _drive(self, started: core.RunnerStarted) -> None:
        """Start or resume the study, then handle events until it has ended."""
        self._step(*self._first_events(started))
        monitor = Monitor(self._study, self._gangs)
        watchers = [
            asyncio.create_task(watcher)
            for watcher in (self.watch_inbox(), self.machines.keep_leases(), monitor.watch())
        ]
        for watcher in watchers:
            watcher.add_done_callback(lambda _: self._events.wake())
        # Start-up took a while, but it was not a suspension.
        self.guard.heartbeat()
        try:
            while self.engine.state.phase != "ended" and not self._must_exit():
                await self._handle_next(watchers)
        finally:
            for watcher in watchers:
                watcher.cancel()

    def _first_events(self, started: core.RunnerStarted, *more: core.Event) -> tuple[list[core.Event], tuple[int, ...]]:
        """Return the first events of this runner, before whose last one nothing is decided.

        Args:
            started: The start of this runner.
            *more: Events after the commands that were sent while no runner was alive.

        Returns:
            The events, and the numbers of these commands.
        """
        pending, state = inbox.pending_commands(self.journal), self.engine.state
        commands: list[core.Command] = [command for _, command in pending if command is not None]
        if self._exit_by_s is not None:
            commands.append(core.Pause())
        waiting = [*inbox.with_current_deadline(state, commands, self.clock.now_s()), *more]
        taken = tuple(number for numbers, _ in pending for number in numbers)
        return [structs.replace(started, waiting=len(waiting)), *waiting], taken

    async def _handle_next(self, watchers: list[asyncio.Task[None]]) -> None:
        """Wait for events and handle them.

        Raises:
            Exception: A watcher failed. One that could not write what the state contains leaves a state on which
                nothing may be decided.
        """
        events = await self._next_events()
        try:
            await self.guard.settle()
            for watcher in watchers:
                if watcher.done():
                    watcher.result()
        except BaseException:
            # _shut_down records which machines have ended.
            for event in events:
                self._events.put(event)
            raise
        if events:
            self._step(events)
        self.guard.heartbeat()

    async def _next_events(self) -> list[core.Event]:
        """Wait for events; return ``Ticked`` when the engine must be called without one."""
        wait_s = self.engine.next_call_s() - self.clock.now_s()
        try:
            return await self._events.next_batch(None if wait_s == math.inf or self.clock.frozen else max(0.0, wait_s))
        except TimeoutError:
            return [core.Ticked()]

    def _step(self, events: list[core.Event], taken: tuple[int, ...] = ()) -> None:
        """Handle events, write the journal, then carry out the actions: each executed action is recorded."""
        for action in self._handle(events, taken):
            with log_context.log_ids(**log_context.ids_of(action)):
                self._carry_out(action)
        self._remove_checkpoints()
        self._set_clock()

    def _handle(self, events: list[core.Event], taken: tuple[int, ...] = ()) -> list[core.Action]:
        """Have the engine handle events, and write the records; returns the actions to carry out."""
        self._writer.begin(events)
        records, actions = self._decide(events)
        self._writer.write(records, taken)
        self.snapshots.count(len(records))
        for _, record in records:
            self._checkpoints.observe(self.engine.state, record)
            for failure in self._configurations.observe(record):
                self._events.put(failure)
        return actions

    def _decide(
        self, events: list[core.Event]
    ) -> tuple[list[tuple[float, core.Event | core.Action]], list[core.Action]]:
        """Have the engine handle events; return the records to write, and the actions to carry out."""
        # Configurations come before other events: the next decision must not draw the same numbers again.
        pending, drawn = deque(events), deque[core.Event]()
        records: list[tuple[float, core.Event | core.Action]] = []
        todo: list[core.Action] = []
        while drawn or pending:
            event = as_correction(self.engine.state, (drawn or pending).popleft())
            now_s = self.clock.now_s()
            actions = self.engine.handle(event, now_s)
            if self.engine.policy_error is not None:
                logger.error("the policy failed", exc_info=self.engine.policy_error)
                self.engine.policy_error = None
            records += [(now_s, record) for record in (event, *actions)]
            for action in actions:
                if isinstance(action, core.Draw):
                    drawn.extend(self._configurations.draw(action, len(drawn)))
                else:
                    todo.append(action)
        return records, todo

    def _carry_out(self, action: core.Action) -> None:
        state = self.engine.state
        if isinstance(action, core.Rent):
            self.machines.rent(action)
        elif isinstance(action, core.Retire):
            self.machines.retire(action)
        elif isinstance(action, core.StartGang):
            trial = state.trials[action.trial]
            self._gangs.start(action, trial, again=trial.started_s != state.gangs[action.gang].started_s)
        elif isinstance(action, core.StopGang):
            self._gangs.stop(action.gang)
        elif isinstance(action, core.ExtendGang):
            self._gangs.extend(action.gang, action.until)
        elif isinstance(action, core.AbandonGang):
            self._gangs.abandon(action.gang)

    def _remove_checkpoints(self) -> None:
        """Remove the checkpoints that no trial needs any more."""
        self._remover.remove(self._checkpoints.removable(self.engine.state))

    def _set_clock(self) -> None:
        """Stop study time while the study is paused."""
        if self.engine.state.phase == "paused" and not self.clock.frozen:
            self.clock.freeze()
        elif self.engine.state.phase != "paused" and self.clock.frozen:
            self.clock.thaw()

    # --- SIGTERM ---

    def _on_sigterm(self) -> None:
        """Save all trials and terminate all machines, because the computer shuts down or a user ends this process."""
        if self._exit_by_s is None:
            self._exit_by_s = steady_s() + SHUTDOWN_S
            asyncio.get_running_loop().call_later(SHUTDOWN_S, self._events.wake)
            # Handled by the loop, because asyncio only logs the errors of a signal's callback.
            self._events.put(core.Pause())

    def _must_exit(self) -> bool:
        return self._exit_by_s is not None and (self.engine.state.phase == "paused" or steady_s() >= self._exit_by_s)

    # --- the inbox and the wall clock ---

    async def watch_inbox(self) -> None:
        """Take commands, follow the wall clock, and wake the engine after a suspension, until cancelled."""
        while True:
            await asyncio.sleep(INBOX_S)
            await self.guard.settle()
            await self._take_commands()
            self._follow_wall_clock()
            # Timers of the event loop do not advance while the computer is suspended.
            if not self.clock.frozen and self.clock.now_s() > self.engine.next_call_s() + LATE_TIMER_S:
                self._events.put(core.Ticked())

    async def _take_commands(self) -> None:
        pending = inbox.pending_commands(self.journal)
        for numbers, command in pending:
            if isinstance(command, core.Resume):
                self.clock.thaw()
            commands = [] if command is None else [command]
            # One step: nothing is decided by a deadline that the wall clock has passed during a pause.
            events = inbox.with_current_deadline(self.engine.state, commands, self.clock.now_s())
            self._step(events, tuple(numbers))
            # Many commands take a while, in which leases must be renewed.
            await asyncio.sleep(0)
        if pending:
            self._events.wake()

    def _follow_wall_clock(self) -> None:
        """Convert a wall-clock deadline again if the clocks have drifted apart."""
        moved = () if self.clock.frozen else inbox.moved_deadline(self.engine.state, self.clock.now_s())
        if moved:
            self._step([*moved])
            self._events.wake()
