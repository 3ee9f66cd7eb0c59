"""The runner: feeds the engine with what happens, writes the journal, and has the engine's actions carried out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import deque
from typing import TYPE_CHECKING

from msgspec import structs

from seer_nb import core
from seer_nb._utils import log_context
from seer_nb._utils.aio import Background
from seer_nb._utils.clock import steady_s
from seer_nb._utils.text import sentence
from seer_nb.providers.base import FleetContext
from seer_nb.runner import commands as inbox
from seer_nb.runner.checkpoint_gc import Janitor
from seer_nb.runner.clock import OVERSLEPT_S, StudyClock, SuspendGuard
from seer_nb.runner.configurations import Drawer
from seer_nb.runner.gangs import DaskGangs
from seer_nb.runner.journal_writer import JournalWriter, SnapshotWriter, news
from seer_nb.runner.monitor import Monitor
from seer_nb.runner.recovery import TakingOver, restore
from seer_nb.storage import checkpoints, layout
from seer_nb.storage.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import SchedulerAddress


class Ends:
    """Hands them on.

    Args:
        stillness: Whether this process has to listen first, because it stood still.
        take: Takes them.
    """

    def __init__(self, stillness: SuspendGuard, take: Callable[[core.MachineEnded], None]) -> None:
        self._stillness = stillness
        self._take = take
        self._held: list[core.MachineEnded] = []
        self._listens = True

    def come(self, event: core.MachineEnded) -> None:
        """A machine has ended."""
        wait_s = self._stillness.left_s() if self._listens else 0.0
        if wait_s > 0:
            self._held.append(event)
            asyncio.get_running_loop().call_later(wait_s, self._let_go, event)
        else:
            self._take(event)

    def hurry(self) -> None:
        """Nobody is listened to any more, so that none has to wait: not those that do, and none that comes."""
        self._listens = False
        while self._held:
            self._take(self._held.pop(0))

    def _let_go(self, event: core.MachineEnded) -> None:
        if event in self._held:
            self._held.remove(event)
            self.come(event)


logger = logging.getLogger(__name__)
INBOX_S = 0.05
"""How often the inbox is looked into."""
FORGOTTEN_S = 1800.0
"""Workers of a machine that ended so long ago do not come any more."""
LAST_WORDS_S = 8.0
"""A computer that shuts down, or a container that is stopped, leaves a process about so long."""
BATCH = 200
"""Events taken in before their records are written and their actions carried out."""


class Runner:
    """Drives one study until it ends.

    Args:
        folder: The study's.
        since: Reading of steady_s() from which the first runner counts; None for a later one.
    """

    def __init__(self, folder: Path, since: float | None = None) -> None:
        self.folder = folder
        self._journal = Journal(folder / layout.JOURNAL)
        self._parts = layout.read_parts(folder)
        self._janitor = Janitor()
        found = restore(self._journal, self._parts["policy"], self._janitor)
        self._engine, self._unseen_s = found.engine, found.unseen_s
        self._snapper = SnapshotWriter(folder, found.unsaved)
        self._drawer = Drawer(self._parts, self._engine.state)
        self._clock = StudyClock(self._engine.state.now_s, since if found.fresh else None)
        self._events: asyncio.Queue[core.Event | None] = asyncio.Queue()
        """None: nothing has happened, but the loop has to look again how long to wait, and for what."""
        self._tasks = Background("an action failed")
        self._go_s: float | None = None
        """Reading of steady_s() at which this process has to end, if it was told to."""
        self._handing_back = False
        self._stillness = SuspendGuard(lambda wait_s: self._engine.woke(self._clock.now_s() + wait_s))
        # What was said while it was waited for the disk is heard first.
        self._book = JournalWriter(self._journal, self._patience_s, self._stillness.begin)
        self._ends = Ends(self._stillness, self._machine_gone)
        self._host_machine: int | None = None
        """Whose scheduler is joined."""
        settings = self._engine.state.settings
        self._fleet = self._parts["provider"].fleet(
            FleetContext(
                study=settings.name,
                folder=folder,
                lease_s=settings.lease_s,
                ended=self._machine_ended,
            )
        )
        logs = folder / layout.LOGS if self._parts["provider"].shares_files else None
        self._gangs = DaskGangs(settings, self._events.put_nowait, self._worker_ready, self._worker_left, logs)
        self._gangs.name_of = self._fleet.name_of

    async def run(self) -> None:
        """Until the study has ended."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._journal.close)
            stack.push_async_callback(self._hand_back)
            # Left before the scheduler goes: a client without one tries for seconds to reach it again.
            stack.push_async_callback(self._gangs.close)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._told_to_end)
            scheduler = await self._fleet.open()
            if scheduler is not None:
                await self._connect(scheduler)
            await self._drive(await self._started())

    async def _hand_back(self) -> None:
        """End what still lives, and write down what has ended meanwhile: nobody else will."""
        self._handing_back = True
        self._ends.hurry()
        left = await self._fleet.close()
        late: list[core.Event] = [core.MachinesLeftBehind(machines=left)] if left else []
        while not self._events.empty():
            event = self._events.get_nowait()
            if isinstance(event, core.MachineEnded):
                late.append(event)
        if self._book.behind or self._engine.state.phase == "running":
            # This process has failed: what the study needs next is for another one to decide.
            self._book.add(late, self._clock.now_s(), self._engine.state)
        else:
            self._take_in(late)

    async def _connect(self, scheduler: SchedulerAddress) -> None:
        await self._gangs.connect(scheduler, layout.read_function(self.folder))

    async def _started(self) -> core.RunnerStarted:
        """This runner takes the study up, with those machines of an earlier one that can go on."""
        state = self._engine.state
        self._host_machine = next((machine.id for machine in state.live.values() if machine.hosts), None)
        found = await TakingOver(state, self._lasts, self._fleet, self._gangs, self._connect).find()
        if self._host_machine not in found.adopted:
            self._host_machine = None
        return core.RunnerStarted(unseen_s=self._unseen_s, adopted=found.adopted, left=found.left)

    def _lasts(self) -> bool:
        """Whether the money suffices for all machines to get new leases in a moment."""
        return self._engine.state.ledger.lasts(self._clock.now_s() + core.SLACK_S, self._unseen_s)

    # --- the loop ---

    async def _drive(self, started: core.RunnerStarted) -> None:
        state = self._engine.state
        self._take_up(started)
        attendant = Monitor(self.folder, state, self._clock, self._gangs, self._events.put_nowait)
        watches = self._watch_inbox(), self._keep_leases(), attendant.attend()
        keepers = [asyncio.create_task(watch) for watch in watches]
        for keeper in keepers:
            keeper.add_done_callback(lambda _: self._look_again())
        # To begin took a while, in which nobody stood still.
        self._stillness.beat()
        try:
            while state.phase != "ended" and not self._has_to_go():
                events = await self._next_events()
                try:
                    await self._stillness.over()
                    # One that could not write down what it took in leaves a state that nothing may be decided on.
                    for keeper in keepers:
                        if keeper.done():
                            keeper.result()
                except BaseException:
                    # Whoever hands back writes down which machines have ended.
                    for event in events:
                        self._events.put_nowait(event)
                    raise
                if events:
                    self._step(events)
                self._stillness.beat()
        finally:
            for keeper in keepers:
                keeper.cancel()

    def _take_up(self, started: core.RunnerStarted) -> None:
        """Begin, with what was asked for while no runner lived, and before anything is decided."""
        asked, state = inbox.commands(self._journal), self._engine.state
        commands: list[core.Command] = [command for _, command in asked if command is not None]
        if self._go_s is not None:
            commands.append(core.Pause())
        waited = inbox.timely(state, commands, self._clock.now_s())
        taken = tuple(number for numbers, _ in asked for number in numbers)
        self._step([structs.replace(started, waiting=len(waited)), *waited], taken)

    def _look_again(self) -> None:
        self._events.put_nowait(None)

    def _told_to_end(self) -> None:
        """The computer shuts down, or somebody ends this process: save what can be, and hand all machines back."""
        if self._go_s is None:
            self._go_s = steady_s() + LAST_WORDS_S
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self._look_again)
            # Taken in by the loop: what a signal's callback raises is logged only.
            self._events.put_nowait(core.Pause())

    def _has_to_go(self) -> bool:
        return self._go_s is not None and (self._engine.state.phase == "paused" or steady_s() >= self._go_s)

    async def _next_events(self) -> list[core.Event]:
        """What has come, or Ticked when the engine must look again."""
        wait_s = self._engine.wake_s() - self._clock.now_s()
        try:
            async with asyncio.timeout(None if wait_s == float("inf") or self._clock.frozen else max(0.0, wait_s)):
                events = [await self._events.get()]
        except TimeoutError:
            return [core.Ticked()]
        while not self._events.empty() and len(events) < BATCH:
            events.append(self._events.get_nowait())
        return [event for event in events if event is not None]

    def _step(self, events: list[core.Event], taken: tuple[int, ...] = ()) -> None:
        """Take events in, write down what follows, then do it: in this order, so that a crash loses no decision."""
        for action in self._take_in(events, taken):
            with log_context.about(**log_context.ids_of(action)):
                self._perform(action)
        self._remove_useless()
        self._set_clock()

    def _take_in(self, events: list[core.Event], taken: tuple[int, ...] = ()) -> list[core.Action]:
        """Take events in, and write down what follows; returns what is to be done."""
        # What was drawn comes before the other events: the next decision must not draw the same numbers again.
        pending, drawn = deque(events), deque[core.Event]()
        records: list[tuple[float, core.Event | core.Action]] = []
        todo: list[core.Action] = []
        self._book.open(events)
        while drawn or pending:
            event = news(self._engine.state, (drawn or pending).popleft())
            now_s = self._clock.now_s()
            actions = self._engine.handle(event, now_s)
            records += [(now_s, event), *((now_s, action) for action in actions)]
            for action in actions:
                if isinstance(action, core.Draw):
                    drawn.extend(self._drawer.draw(action, len(drawn)))
                else:
                    todo.append(action)
        self._book.write(records, taken)
        self._snapper.written(len(records))
        for _, record in records:
            self._janitor.note(self._engine.state, record)
            self._drawer.teach(record)
        return todo

    def _patience_s(self) -> float:
        """For how long a journal that cannot be written is tried again: not beyond leases and limits."""
        if self._handing_back:
            return -1.0
        return min(self._engine.state.settings.lease_s, self._engine.kill_s() - self._clock.now_s())

    def _set_clock(self) -> None:
        if self._engine.state.phase == "paused" and not self._clock.frozen:
            self._clock.freeze()
        elif self._engine.state.phase != "paused" and self._clock.frozen:
            self._clock.thaw()

    # --- actions ---

    def _perform(self, action: core.Action) -> None:
        state = self._engine.state
        if isinstance(action, core.Rent):
            self._tasks.go(self._rent(action))
        elif isinstance(action, core.Retire):
            self._tasks.go(self._retire(action))
        elif isinstance(action, core.StartGang):
            trial = state.trials[action.trial]
            self._gangs.start(action, trial, again=trial.started_s != state.gangs[action.gang].started_s)
        elif isinstance(action, core.StopGang):
            self._gangs.stop(action.gang)
        elif isinstance(action, core.ExtendGang):
            self._gangs.extend(action.gang, action.until)
        elif isinstance(action, core.AbandonGang):
            self._gangs.abandon(action.gang)

    async def _rent(self, action: core.Rent) -> None:
        offer = self._engine.state.offers[action.offer]
        try:
            if offer.workers_per_machine:
                await self._fleet.rent(action.machine, offer)
            else:
                await self._host(action.machine, offer)
        except Exception as error:
            logger.warning("it could not be rented", exc_info=True)
            await self._fleet.give_up(action.machine, sentence(error))

    async def _retire(self, action: core.Retire) -> None:
        if self._engine.state.machines[action.machine].hosts:
            # A client whose scheduler goes first tries for seconds to reach it again.
            await self._gangs.disconnect()
        await self._fleet.retire(action.machine, force=action.force)

    async def _host(self, machine: int, offer: Offer) -> None:
        """Have the scheduler's machine boot, and join the scheduler."""
        scheduler = await self._fleet.host(machine, offer)
        if scheduler is None:
            return
        self._host_machine = machine
        await self._connect(scheduler)
        self._gangs.renew()
        boot_s = self._clock.now_s() - self._engine.state.machines[machine].rented_s
        self._events.put_nowait(core.MachineReady(machine=machine, boot_s=max(0.0, boot_s)))

    def _remove_useless(self) -> None:
        useless = self._janitor.useless(self._engine.state)
        if useless:
            store = self._engine.state.settings.store
            asyncio.get_running_loop().run_in_executor(None, checkpoints.remove, store, useless)

    # --- what happens ---

    def _worker_ready(self, worker: str) -> None:
        """A machine is ready when all its workers are."""
        state = self._engine.state
        machine = state.machine_of(worker)
        boot_s = max(0.0, self._clock.now_s() - machine.rented_s)
        if all(self._gangs.knows(name) for name in machine.workers):
            self._events.put_nowait(core.MachineReady(machine=machine.id, boot_s=boot_s))

    def _worker_left(self, worker: str) -> None:
        machine = self._engine.state.machine_of(worker)
        if machine.state == "ready":
            self._tasks.go(self._fleet.lost(machine.id))

    def _machine_ended(self, event: core.MachineEnded) -> None:
        self._ends.come(event)

    def _machine_gone(self, event: core.MachineEnded) -> None:
        self._events.put_nowait(event)
        self._gangs.machine_ended(event)
        # Not that of an earlier runner's scheduler: there may be another one by now.
        if event.machine == self._host_machine:
            self._tasks.go(self._gangs.disconnect())

    async def _watch_inbox(self) -> None:
        while True:
            await asyncio.sleep(INBOX_S)
            await self._stillness.over()
            await self._take_commands()
            self._follow_wall_clock()
            if self._overslept():
                self._events.put_nowait(core.Ticked())

    def _overslept(self) -> bool:
        """Whether the computer has slept while the engine waited: its timers stood still then."""
        return not self._clock.frozen and self._clock.now_s() > self._engine.wake_s() + OVERSLEPT_S

    async def _take_commands(self) -> None:
        asked = inbox.commands(self._journal)
        for numbers, command in asked:
            if isinstance(command, core.Resume):
                self._clock.thaw()
            commands = [] if command is None else [command]
            # In one step: nothing is decided by a deadline that the clock on the wall has overtaken during a pause.
            self._step(inbox.timely(self._engine.state, commands, self._clock.now_s()), tuple(numbers))
            # Many of them take a while, and leases are renewed meanwhile.
            await asyncio.sleep(0)
        if asked:
            self._look_again()

    def _follow_wall_clock(self) -> None:
        moved = () if self._clock.frozen else inbox.moved_deadline(self._engine.state, self._clock.now_s())
        if moved:
            self._step([*moved])
            self._look_again()

    async def _keep_leases(self) -> None:
        while True:
            self._gangs.renew(self._retired())
            self._give_up_silent()
            await asyncio.sleep(self._engine.state.settings.lease_s / 6)

    def _retired(self) -> list[str]:
        """Workers of machines that were told to go, or that are thought to have gone: none may live on."""
        state = self._engine.state
        return [
            worker
            for machine in state.machines.values()
            if machine.state == "retiring"
            or (machine.ended_s is not None and state.now_s - machine.ended_s < FORGOTTEN_S)
            for worker in machine.workers
        ]

    def _give_up_silent(self) -> None:
        """Machines that were told to go, and whose lease has ended since, are gone, whatever their provider says."""
        state = self._engine.state
        for machine in list(state.live.values()):
            if machine.state != "retiring" or state.offers[machine.offer].billed_until_deleted:
                continue
            lives_s = state.ledger.lives_s(machine.id, self._clock.now_s())
            if self._clock.now_s() > lives_s:
                lived_s = lives_s - machine.rented_s + machine.unseen_s
                reason = "nothing was heard of its end, but its lease has ended"
                self._machine_ended(
                    core.MachineEnded(machine=machine.id, expected=True, reason=reason, lived_s=lived_s)
                )
