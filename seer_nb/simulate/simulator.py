"""A cloud under a virtual clock that executes an engine's actions, as runner, fleet and gangs do in a real study.

Draw is answered before any other event. A gang decides at each report whether it continues, before the engine receives
that report; so StopGang takes effect at the end of the epoch in progress. When a machine ends, its gangs end too.
"""

from __future__ import annotations

import copy
import heapq
import math
from itertools import count
from typing import TYPE_CHECKING, Self, TypeAlias

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.core.history import History
from seer_nb.core.model import machine_of_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seer_nb.core.money import Offer
    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.simulate.worlds import World

    Command: TypeAlias = tuple[float, core.Command]
    """(study seconds, a person's command)."""


ASK_EVERY = 200
"""Number of events between two calls of ``should_continue``."""
LIVELOCK_EVENTS = 10_000
"""Number of events at one time that counts as a livelock."""


class SimulatedMachine:
    """The provider's record of a machine. Times are study seconds."""

    __slots__ = ("ended_s", "offer", "rented_s", "retired_s")

    def __init__(self, offer: Offer, rented_s: float) -> None:
        self.offer = offer
        self.rented_s = rented_s
        self.ended_s: float | None = None
        self.retired_s: float | None = None

    def bill(self, now_s: float) -> int:
        """Return the provider's bill in micro-dollars, up to now or to the machine's end."""
        return self.offer.bill((now_s if self.ended_s is None else self.ended_s) - self.rented_s)


class SimulatedGang:
    """The workers' record of a gang."""

    __slots__ = ("epoch", "start", "stop", "until")

    def __init__(self, start: core.StartGang) -> None:
        self.start = start
        self.epoch = start.from_epoch
        self.until = start.until
        self.stop = False


class Simulator:
    """Runs one study. Subclasses may override the methods marked as hooks.

    Args:
        settings: Settings of the study.
        policy: The policy under test.
        world: Results and durations of training, and faults of machines.
        commands: (study seconds, command) of a person.
    """

    def __init__(self, settings: core.Settings, policy: Policy, world: World, commands: Iterable[Command] = ()) -> None:
        self.settings = settings
        self.policy = policy
        self.world = world
        self.engine = Engine(settings, policy)
        self.now_s = 0.0
        self.steps = 0
        self.peak_workers = 0
        """Most workers rented at one time."""
        self.over_budget_micro = 0
        """Most micro-dollars by which the provider's bill exceeded the budget in force."""
        self.over_deadline_s = 0.0
        """Most seconds by which a machine outlived the deadline in force."""
        self.machines: dict[int, SimulatedMachine] = {}
        self.gangs: dict[int, SimulatedGang] = {}
        self._commands = sorted(commands, key=lambda command: command[0])
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._at_one_time = (0.0, 0)
        self._handlers: dict[type, Callable[..., None]] = {
            core.Rent: self._rent,
            core.Retire: self._retire,
            core.StartGang: self._start_gang,
            core.StopGang: self._stop_gang,
            core.ExtendGang: self._extend_gang,
            core.AbandonGang: self._abandon_gang,
        }

    @property
    def state(self) -> State:
        """State of the study."""
        return self.engine.state

    def run(self, until_s: float = math.inf, should_continue: Callable[[], bool] = lambda: True) -> Self:
        """Run until the study has ended, or until a time.

        Args:
            until_s: Study seconds.
            should_continue: Called after every ``ASK_EVERY`` events; the run stops when it returns False.

        Raises:
            RuntimeError: A livelock or a deadlock, which means a defect of the engine or the policy.
        """
        if not self.steps:
            self._begin()
        for place in count():
            if self.state.phase == "ended" or self._next_or_resume_s() > until_s:
                break
            if place % ASK_EVERY == 0 and not should_continue():
                return self
            self._step()
        if until_s < math.inf:
            self.now_s = max(self.now_s, until_s)
        self._check_limits()
        return self

    def restore(self, state: State) -> None:
        """Continue a study that has started, from a copy of its state, as a new runner does. A paused study resumes."""
        self.engine.state = copy.deepcopy(state)
        self.now_s, self.steps = state.now_s, 1
        self.handle(core.RunnerStarted())
        if self.state.phase in {"pausing", "paused"}:
            self.handle(core.Resume())

    def apply(self, command: core.Command) -> None:
        """Apply a command now."""
        self.handle(command)

    def provider_bill_micro(self) -> int:
        """Return the provider's bill up to now in micro-dollars, independently of the ledger."""
        return sum(machine.bill(self.now_s) for machine in self.machines.values())

    def _begin(self) -> None:
        self.handle(core.Began(settings=self.settings))
        self.handle(core.RunnerStarted())

    def _check_limits(self) -> None:
        """Compare bill and machine lifetimes with the limits in force; called before the limits change."""
        lived_s = max(
            (self.now_s if machine.ended_s is None else machine.ended_s for machine in self.machines.values()),
            default=0.0,
        )
        self.over_budget_micro = max(self.over_budget_micro, self.provider_bill_micro() - self.state.budget_micro)
        self.over_deadline_s = max(self.over_deadline_s, lived_s - self.state.deadline_s)

    # --- time ---

    def _next_or_resume_s(self) -> float:
        """Return the time of the next event; during a pause, of the next command."""
        if self.state.phase == "paused":
            return self._commands[0][0] if self._commands else math.inf
        return self._next_event_s()

    def _next_event_s(self) -> float:
        times = [self._wake_s()]
        if self._queue:
            times.append(self._queue[0][0])
        if self._commands:
            times.append(self._commands[0][0])
        next_s = min(times)
        if next_s == math.inf:
            raise RuntimeError(f"simulation deadlock at {self.now_s:.1f} s: no event is pending ({self.policy!r})")
        return next_s

    def _wake_s(self) -> float:  # hook
        return self.engine.next_call_s()

    def _step(self) -> None:
        if self.state.phase == "paused":
            # The clock is paused; only a command can continue the study.
            self._receive(self._commands.pop(0)[1] if self._commands else core.Stop())
            return
        next_s = self._next_event_s()
        if self._commands and self._commands[0][0] <= next_s:
            self._move_clock(self._commands[0][0])
            self._receive(self._commands.pop(0)[1])
        elif self._queue and self._queue[0][0] <= next_s:
            self._move_clock(next_s)
            heapq.heappop(self._queue)[2]()
        else:
            self._move_clock(next_s)
            self.handle(core.Ticked())

    def _move_clock(self, to_s: float) -> None:
        self.now_s = max(self.now_s, to_s)
        since_s, events = self._at_one_time
        self._at_one_time = (since_s, events + 1) if since_s == self.now_s else (self.now_s, 0)
        if events > LIVELOCK_EVENTS:
            raise RuntimeError(
                f"simulation livelock at {self.now_s:.1f} s: more than {LIVELOCK_EVENTS} events at one time "
                f"({self.policy!r})"
            )

    def _schedule(self, at_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (max(at_s, self.now_s), next(self._numbers), what))

    def _deliver(self, event: core.Event) -> None:  # hook
        """Deliver an event to the engine."""
        self.handle(event)

    def handle(self, event: core.Event) -> None:
        """Have the engine handle an event, and execute its actions."""
        todo: list[core.Action] = []
        pending = [event]
        while pending:
            event = pending.pop(0)
            self.steps += 1
            actions = self.engine.handle(event, self.now_s)
            if self.engine.policy_error is not None:
                raise self.engine.policy_error
            self._on_handled(event, actions)
            for action in actions:
                if isinstance(action, core.Draw):
                    pending += self._draw(action, len(pending))
                else:
                    todo.append(action)
        for action in todo:
            execute = self._handlers.get(type(action))
            if execute is not None:
                execute(action)

    def _on_handled(self, event: core.Event, actions: tuple[core.Action, ...]) -> None:  # hook
        """Observe an event and its actions, before the actions are executed."""

    def _receive(self, command: core.Command) -> None:
        """Receive a person's command."""
        self._check_limits()
        self._handle_command(command)

    def _handle_command(self, command: core.Command) -> None:  # hook
        self.handle(command)

    # --- actions ---

    def _draw(self, action: core.Draw, ahead: int) -> list[core.Event]:
        trials, first = self.state.trials, self.state.n_drawn + ahead
        return [*action.events(first, lambda number, proposed: self.world.draw(number, trials, proposed=proposed))]

    def _rent(self, action: core.Rent) -> None:
        random, conditions, number = self.world.random, self.world.conditions, action.machine
        machine = self.machines[number] = SimulatedMachine(self.state.offers[action.offer], self.now_s)
        self.peak_workers = max(self.peak_workers, self.state.index.slots)
        boot_s = self._boot_s(number)
        if conditions.boot_failure and random.uniform("no boot", number) < conditions.boot_failure:
            self._schedule(self.now_s + boot_s / 2, lambda: self.end_machine(number, "no capacity"))
        else:
            self._schedule(self.now_s + boot_s, lambda: self._booted(number, boot_s))
        life_s = random.life_s(conditions.machine_life_s, "life", number)
        spot_s = random.life_s(conditions.spot_life_s, "spot", number) if machine.offer.spot else math.inf
        if min(life_s, spot_s) < math.inf:
            why = "lost" if life_s < spot_s else "the provider preempted the spot machine"
            self._schedule(self.now_s + min(life_s, spot_s), lambda: self.end_machine(number, why))

    def _boot_s(self, machine: int) -> float:  # hook
        return self.world.random.about(
            self.machines[machine].offer.boot_s, self.world.conditions.spread, "boot", machine
        )

    def _retire(self, action: core.Retire) -> None:
        machine = self.machines[action.machine]
        if machine.retired_s is None and machine.ended_s is None:
            machine.retired_s = self.now_s
            self._schedule(self.now_s + self._release_s(action.machine), lambda: self.end_machine(action.machine, ""))

    def _release_s(self, machine: int) -> float:  # hook
        return self.machines[machine].offer.release_s

    def _start_gang(self, action: core.StartGang) -> None:
        gang = self.gangs[action.gang] = SimulatedGang(action)
        lost = any(self.machines[machine_of_worker(w)].ended_s is not None for w in action.workers)
        if lost:
            self._schedule(self.now_s, lambda: self._end_gang(gang, "lost", own_fault=False))
            return
        conditions = self.world.conditions
        stall_s = self.world.random.about(conditions.stall_seconds, conditions.spread, "stall", action.gang)
        self._schedule(self.now_s + stall_s, lambda: self._begin_gang(gang))

    def _stop_gang(self, action: core.StopGang) -> None:
        if action.gang in self.gangs:
            self.gangs[action.gang].stop = True

    def _extend_gang(self, action: core.ExtendGang) -> None:
        if action.gang in self.gangs:
            self.gangs[action.gang].until = action.until

    def _abandon_gang(self, action: core.AbandonGang) -> None:
        gang = self.gangs.get(action.gang)
        if gang is not None:
            # As a later event: the other actions are executed before the engine receives this one.
            self._schedule(self.now_s, lambda: self._end_gang(gang, "failed", "hung: no report in time"))

    # --- events ---

    def _booted(self, number: int, boot_s: float) -> None:
        machine = self.machines[number]
        if machine.ended_s is None and machine.retired_s is None:
            self._deliver(core.MachineReady(machine=number, boot_s=boot_s))

    def end_machine(self, number: int, reason: str) -> None:
        """End a machine and the gangs that use it; an empty reason means that the engine retired it."""
        machine = self.machines[number]
        if machine.ended_s is not None:
            return
        machine.ended_s = self.now_s
        self._deliver(core.MachineEnded(machine=number, expected=machine.retired_s is not None, reason=reason))
        for gang in list(self.gangs.values()):
            if any(machine_of_worker(worker) == number for worker in gang.start.workers):
                self._end_gang(gang, "lost", reason or "its worker was terminated", own_fault=False)

    def _end_gang(self, gang: SimulatedGang, outcome: core.Outcome, error: str = "", *, own_fault: bool = True) -> None:
        if self.gangs.pop(gang.start.gang, None) is not None:
            self._deliver(core.GangEnded(gang=gang.start.gang, outcome=outcome, error=error, own_fault=own_fault))

    def _begin_gang(self, gang: SimulatedGang) -> None:
        ending = _ending(gang)
        if ending is None:
            self._begin_epoch(gang)
        else:
            self._end_gang(gang, ending)

    def _begin_epoch(self, gang: SimulatedGang) -> None:
        if gang.start.gang not in self.gangs or self._inject_failure(gang):
            return
        start = gang.start
        seconds = self.world.epoch_seconds(start.trial, len(start.workers), gang.epoch + 1)
        self._schedule(
            self.now_s + seconds + self.world.conditions.save_seconds, lambda: self._end_epoch(gang, seconds)
        )

    def _inject_failure(self, gang: SimulatedGang) -> bool:  # noqa: ARG002 - hook
        """Return whether the next epoch fails."""
        return False

    def _end_epoch(self, gang: SimulatedGang, seconds: float) -> None:
        if gang.start.gang not in self.gangs:
            return
        gang.epoch += 1
        ending = _ending(gang)
        self._deliver(self._report(gang, seconds))
        if ending is None:
            self._begin_epoch(gang)
        else:
            self._end_gang(gang, ending)

    def _report(self, gang: SimulatedGang, seconds: float) -> core.Reported:  # hook
        trial = gang.start.trial
        value, metrics = self.world.report(trial, gang.epoch)
        return core.Reported(
            gang=gang.start.gang,
            epoch=gang.epoch,
            value=value,
            metrics=metrics,
            seconds=seconds,
            save_s=self.world.conditions.save_seconds,
            checkpoint=f"{trial}/{gang.epoch}",
        )


def _ending(gang: SimulatedGang) -> core.Outcome | None:
    """Return how a gang ends before its next epoch; None if it continues."""
    if gang.epoch >= gang.until:
        return "target"
    return "stopped" if gang.stop else None


class RecordingSimulator(Simulator):
    """A simulator that keeps the study's history."""

    def __init__(self, settings: core.Settings, policy: Policy, world: World, commands: Iterable[Command] = ()) -> None:
        super().__init__(settings, policy, world, commands)
        self.history = History()

    def _on_handled(self, event: core.Event, actions: tuple[core.Action, ...]) -> None:
        for record in (event, *actions):
            self.history.add(record, self.state)


class SimulationStoppedError(Exception):
    """``should_continue`` returned False before the simulated study ended."""


def simulate_to_end(
    state: State,
    policy: Policy,
    world: World,
    commands: Iterable[core.Command] = (),
    *,
    should_continue: Callable[[], bool] = lambda: True,
) -> State:
    """Simulate a study to its end and return its final state; the given state does not change.

    Live machines count as ended and are rented again. That costs a boot and the epochs in progress, which makes a
    forecast slightly pessimistic.

    Args:
        state: State of the study, started or not.
        policy: The study's policy.
        world: Results and durations of the further training.
        commands: Commands to apply first.
        should_continue: Called now and then without arguments; the simulation stops when it returns False.

    Raises:
        SimulationStoppedError: ``should_continue`` returned False.
    """
    simulator = Simulator(state.settings, policy, world)
    if state.phase == "created":
        simulator.run(until_s=0.0)
    else:
        simulator.restore(state)
    for command in commands:
        simulator.apply(command)
    simulator.run(should_continue=should_continue)
    if simulator.state.phase != "ended":
        raise SimulationStoppedError
    return simulator.state
