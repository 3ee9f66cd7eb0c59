"""A cloud under a virtual clock that carries an engine's actions out, as runner, fleet and gangs do for real.

Draw is answered before anything else is taken in. A gang agrees at each report on whether it goes on, before the
engine has heard of that report: so StopGang acts at the end of the epoch in progress. A machine that goes takes its
gangs along.
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
    """(study seconds, what a person asks for)."""


ASK_EVERY = 200
"""Events, after which it is asked whether to go on."""
HOT = 10_000
"""Events at one moment that mean a loop."""


class SimulatedMachine:
    """A machine as the provider sees it."""

    __slots__ = ("gone_s", "offer", "opened_s", "told_s")

    def __init__(self, offer: Offer, opened_s: float) -> None:
        self.offer = offer
        self.opened_s = opened_s
        self.gone_s: float | None = None
        self.told_s: float | None = None

    def bill(self, now_s: float) -> int:
        """Micro-dollars that the provider asks for it, up to now if it has not gone."""
        return self.offer.bill((now_s if self.gone_s is None else self.gone_s) - self.opened_s)


class SimulatedGang:
    """A gang as its workers see it."""

    __slots__ = ("epoch", "start", "stop", "until")

    def __init__(self, start: core.StartGang) -> None:
        self.start = start
        self.epoch = start.from_epoch
        self.until = start.until
        self.stop = False


class Simulator:
    """Runs one study. Who inherits may override what is marked as a hook.

    Args:
        settings: Of the study.
        policy: Decides.
        world: What training and machines do.
        commands: Commands of a person, by time.
    """

    def __init__(self, settings: core.Settings, policy: Policy, world: World, commands: Iterable[Command] = ()) -> None:
        self.settings = settings
        self.policy = policy
        self.world = world
        self.engine = Engine(settings, policy)
        self.now_s = 0.0
        self.steps = 0
        self.peak = 0
        """Most workers that were rented at a time."""
        self.over_budget = 0
        """Most micro-dollars by which the provider's bill has exceeded a budget while it was in force."""
        self.over_deadline_s = 0.0
        """Most seconds by which a machine has outlived a deadline that was in force."""
        self.boxes: dict[int, SimulatedMachine] = {}
        self.teams: dict[int, SimulatedGang] = {}
        self._commands = sorted(commands, key=lambda command: command[0])
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._hot = (0.0, 0)
        self._do: dict[type, Callable[..., None]] = {
            core.Rent: self._rent,
            core.Retire: self._retire,
            core.StartGang: self._start_gang,
            core.StopGang: self._stop_gang,
            core.ExtendGang: self._extend_gang,
            core.AbandonGang: self._abandon_gang,
        }

    # --- the face ---

    @property
    def state(self) -> State:
        """The study's."""
        return self.engine.state

    def run(self, until_s: float = math.inf, goes_on: Callable[[], bool] = lambda: True) -> Self:
        """Until the study has ended, or that time.

        Args:
            until_s: Study seconds.
            goes_on: Asked now and then; when it says False, this returns.

        Raises:
            RuntimeError: The study runs hot, or waits for ever: an engine or a policy is wrong.
        """
        if not self.steps:
            self._begin()
        for place in count():
            if self.state.phase == "ended" or self._due_s() > until_s:
                break
            if place % ASK_EVERY == 0 and not goes_on():
                return self
            self._advance()
        if until_s < math.inf:
            self.now_s = max(self.now_s, until_s)
        self._hold_to_limits()
        return self

    def real_bill(self) -> int:
        """Micro-dollars that the provider asks for up to now, whatever the ledger thinks."""
        return sum(box.bill(self.now_s) for box in self.boxes.values())

    def _begin(self) -> None:
        self._handle(core.Began(settings=self.settings))
        self._handle(core.RunnerStarted())

    def _hold_to_limits(self) -> None:
        """Compare what was spent, and how long machines have lived, with the limits in force; before they move."""
        lived_s = max((self.now_s if box.gone_s is None else box.gone_s for box in self.boxes.values()), default=0.0)
        self.over_budget = max(self.over_budget, self.real_bill() - self.state.budget)
        self.over_deadline_s = max(self.over_deadline_s, lived_s - self.state.deadline_s)

    # --- time ---

    def _due_s(self) -> float:
        """When something happens next; during a pause, when the next command is to come."""
        if self.state.phase == "paused":
            return self._commands[0][0] if self._commands else math.inf
        return self._next_s()

    def _next_s(self) -> float:
        times = [self._wake_s()]
        if self._queue:
            times.append(self._queue[0][0])
        if self._commands:
            times.append(self._commands[0][0])
        next_s = min(times)
        if next_s == math.inf:
            raise RuntimeError(f"the study waits for ever at {self.now_s:.1f} s: {self.policy!r}")
        return next_s

    def _wake_s(self) -> float:  # hook
        return self.engine.wake_s()

    def _advance(self) -> None:
        if self.state.phase == "paused":
            # The clock stands still: only a person can go on.
            self._told(self._commands.pop(0)[1] if self._commands else core.Stop())
            return
        next_s = self._next_s()
        if self._commands and self._commands[0][0] <= next_s:
            self._move(self._commands[0][0])
            self._told(self._commands.pop(0)[1])
        elif self._queue and self._queue[0][0] <= next_s:
            self._move(next_s)
            heapq.heappop(self._queue)[2]()
        else:
            self._move(next_s)
            self._handle(core.Ticked())

    def _move(self, to_s: float) -> None:
        self.now_s = max(self.now_s, to_s)
        since_s, events = self._hot
        self._hot = (since_s, events + 1) if since_s == self.now_s else (self.now_s, 0)
        if events > HOT:
            raise RuntimeError(f"the study runs hot at {self.now_s:.1f} s: {self.policy!r}")

    def _at(self, at_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (max(at_s, self.now_s), next(self._numbers), what))

    def _emit(self, event: core.Event) -> None:  # hook
        """The engine hears of something."""
        self._handle(event)

    def _handle(self, event: core.Event) -> None:
        todo: list[core.Action] = []
        pending = [event]
        while pending:
            event = pending.pop(0)
            self.steps += 1
            actions = self.engine.handle(event, self.now_s)
            self._saw(event, actions)
            for action in actions:
                if isinstance(action, core.Draw):
                    pending += self._draw(action, len(pending))
                else:
                    todo.append(action)
        for action in todo:
            carry_out = self._do.get(type(action))
            if carry_out is not None:
                carry_out(action)

    def _saw(self, event: core.Event, actions: tuple[core.Action, ...]) -> None:  # hook
        """For whoever wants to look on; called before the actions are carried out."""

    def _told(self, command: core.Command) -> None:
        """A person wants something."""
        self._hold_to_limits()
        self._command(command)

    def _command(self, command: core.Command) -> None:  # hook
        self._handle(command)

    # --- actions ---

    def _draw(self, action: core.Draw, ahead: int) -> list[core.Event]:
        first = self.state.n_drawn + ahead
        events: list[core.Event] = []
        for number in range(first, first + action.count):
            proposed = number >= first + action.count - action.proposed
            config = self.world.draw(number, self.state.trials, proposed=proposed)
            if config is None:
                return [*events, core.SpaceExhausted()]
            events.append(core.Drawn(trial=number, config=config))
        return events

    def _rent(self, action: core.Rent) -> None:
        chance, conditions, number = self.world.chance, self.world.conditions, action.machine
        box = self.boxes[number] = SimulatedMachine(self.state.offers[action.offer], self.now_s)
        self.peak = max(self.peak, self.state.tally.slots)
        boot_s = self._boot_s(number)
        if conditions.boot_failure and chance.uniform("no boot", number) < conditions.boot_failure:
            self._at(self.now_s + boot_s / 2, lambda: self._end_machine(number, "no capacity"))
        else:
            self._at(self.now_s + boot_s, lambda: self._booted(number, boot_s))
        life_s = chance.life_s(conditions.machine_life_s, "life", number)
        spot_s = chance.life_s(conditions.spot_life_s, "spot", number) if box.offer.spot else math.inf
        if min(life_s, spot_s) < math.inf:
            why = "lost" if life_s < spot_s else "the provider took the spot machine back"
            self._at(self.now_s + min(life_s, spot_s), lambda: self._end_machine(number, why))

    def _boot_s(self, machine: int) -> float:  # hook
        return self.world.chance.about(self.boxes[machine].offer.boot_s, self.world.conditions.spread, "boot", machine)

    def _retire(self, action: core.Retire) -> None:
        box = self.boxes[action.machine]
        if box.told_s is None and box.gone_s is None:
            box.told_s = self.now_s
            self._at(self.now_s + self._release_s(action.machine), lambda: self._end_machine(action.machine, ""))

    def _release_s(self, machine: int) -> float:  # hook
        return self.boxes[machine].offer.release_s

    def _start_gang(self, action: core.StartGang) -> None:
        team = self.teams[action.gang] = SimulatedGang(action)
        lost = any(self.boxes[machine_of_worker(w)].gone_s is not None for w in action.workers)
        if lost:
            self._at(self.now_s, lambda: self._end_team(team, "lost", own_fault=False))
            return
        conditions = self.world.conditions
        stall_s = self.world.chance.about(conditions.stall_seconds, conditions.spread, "stall", action.gang)
        self._at(self.now_s + stall_s, lambda: self._begin_gang(team))

    def _stop_gang(self, action: core.StopGang) -> None:
        if action.gang in self.teams:
            self.teams[action.gang].stop = True

    def _extend_gang(self, action: core.ExtendGang) -> None:
        if action.gang in self.teams:
            self.teams[action.gang].until = action.until

    def _abandon_gang(self, action: core.AbandonGang) -> None:
        team = self.teams.get(action.gang)
        if team is not None:
            # Not at once: what else is to be done is done before the engine hears of it.
            self._at(self.now_s, lambda: self._end_team(team, "failed", "hung: it did not report in time"))

    # --- what happens ---

    def _booted(self, number: int, boot_s: float) -> None:
        box = self.boxes[number]
        if box.gone_s is None and box.told_s is None:
            self._emit(core.MachineReady(machine=number, boot_s=boot_s))

    def _end_machine(self, number: int, reason: str) -> None:
        box = self.boxes[number]
        if box.gone_s is not None:
            return
        box.gone_s = self.now_s
        self._emit(core.MachineEnded(machine=number, expected=box.told_s is not None, reason=reason))
        for team in list(self.teams.values()):
            if any(machine_of_worker(worker) == number for worker in team.start.workers):
                self._end_team(team, "lost", reason or "its worker was ended", own_fault=False)

    def _end_team(self, team: SimulatedGang, outcome: core.Outcome, error: str = "", *, own_fault: bool = True) -> None:
        if self.teams.pop(team.start.gang, None) is not None:
            self._emit(core.GangEnded(gang=team.start.gang, outcome=outcome, error=error, own_fault=own_fault))

    def _begin_gang(self, team: SimulatedGang) -> None:
        ending = _ending(team)
        if ending is None:
            self._begin_epoch(team)
        else:
            self._end_team(team, ending)

    def _begin_epoch(self, team: SimulatedGang) -> None:
        if team.start.gang not in self.teams or self._mishap(team):
            return
        start = team.start
        seconds = self.world.epoch_seconds(start.trial, len(start.workers), team.epoch + 1)
        self._at(self.now_s + seconds + self.world.conditions.save_seconds, lambda: self._end_epoch(team, seconds))

    def _mishap(self, team: SimulatedGang) -> bool:  # noqa: ARG002 - hook
        """Whether the epoch that is to begin goes wrong."""
        return False

    def _end_epoch(self, team: SimulatedGang, seconds: float) -> None:
        if team.start.gang not in self.teams:
            return
        team.epoch += 1
        ending = _ending(team)
        self._emit(self._report(team, seconds))
        if ending is None:
            self._begin_epoch(team)
        else:
            self._end_team(team, ending)

    def _report(self, team: SimulatedGang, seconds: float) -> core.Reported:  # hook
        trial = team.start.trial
        value, metrics = self.world.report(trial, team.epoch)
        return core.Reported(
            gang=team.start.gang,
            epoch=team.epoch,
            value=value,
            metrics=metrics,
            seconds=seconds,
            save_s=self.world.conditions.save_seconds,
            checkpoint=f"{trial}/{team.epoch}",
        )


def _ending(team: SimulatedGang) -> core.Outcome | None:
    """What a gang agrees on before its first epoch and at each report; None: there is another epoch."""
    if team.epoch >= team.until:
        return "target"
    return "stopped" if team.stop else None


class WatchedCloud(Simulator):
    """One whose history is kept, for whoever wants to see how it came to its end."""

    def __init__(self, settings: core.Settings, policy: Policy, world: World, commands: Iterable[Command] = ()) -> None:
        super().__init__(settings, policy, world, commands)
        self.history = History()

    def _saw(self, event: core.Event, actions: tuple[core.Action, ...]) -> None:
        for record in (event, *actions):
            self.history.note(record, self.state)


class OutOfTimeError(Exception):
    """The simulation took too long."""


def ahead(
    state: State,
    policy: Policy,
    world: World,
    commands: Iterable[core.Command] = (),
    *,
    goes_on: Callable[[], bool] = lambda: True,
) -> State:
    """The state at the end; the given one is left alone.

    Machines that live are taken for ended and rented anew: that costs a boot and the epochs in progress, and makes the
    forecast cautious by so much.

    Args:
        state: Of the study, begun or not.
        policy: The study's.
        world: How training goes on.
        commands: What a person would do first.
        goes_on: A function without arguments, asked now and then; when it says False, this ends.

    Raises:
        OutOfTimeError: It did.
    """
    cloud = Simulator(state.settings, policy, world)
    if state.phase == "created":
        cloud.run(until_s=0.0)
    else:
        cloud.engine.state = copy.deepcopy(state)
        cloud.now_s, cloud.steps = state.now_s, 1
        cloud._handle(core.RunnerStarted())  # noqa: SLF001 - what a runner does that takes a study up
        if cloud.state.phase in {"pausing", "paused"}:
            cloud._handle(core.Resume())  # noqa: SLF001
    for command in commands:
        cloud._handle(command)  # noqa: SLF001
    cloud.run(goes_on=goes_on)
    if cloud.state.phase != "ended":
        raise OutOfTimeError
    return cloud.state
