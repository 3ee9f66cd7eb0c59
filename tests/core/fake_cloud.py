"""A cloud under a virtual clock that carries an engine's actions out, and lets things go wrong on the way.

It does what the runner, the fleet and the gangs do: Draw is answered before anything else is taken in, StopGang acts
at the end of the epoch in progress, a machine that goes takes its gangs along, a lost runner leaves machines behind
until their lease ends. All chance comes from the world's seed, by name, so that one fault more moves no other.
"""

import heapq
import math
import random
from dataclasses import dataclass, field

from seer_nb.core import model as m
from seer_nb.core.engine import Engine
from seer_nb.core.state import State
from tests.builders import settings


@dataclass(frozen=True)
class World:
    """How training goes, and what goes wrong. Probabilities are per machine, gang or epoch."""

    seed: int = 0
    configs: float = math.inf
    epoch_s: float = 10.0
    overhead: float = 0.15
    stall_s: float = 1.0
    boot_s: float = 10.0
    spread: float = 0.0
    """Trials' epochs, boots and stalls are longer or shorter by up to this share."""
    batch_size: int | None = None
    store_every: int = 1
    late_s: float = 0.0
    """Each event comes late by up to so much, on its own: so they overtake each other."""
    tick_late_s: float = 0.0
    no_boot: float = 0.0
    """A machine ends while it boots."""
    no_word: float = 0.0
    """A machine boots for ever."""
    life_s: float = math.inf
    """Mean life of a machine."""
    raises: float = 0.0
    hangs: float = 0.0
    diverges: float = 0.0
    returns: float = 0.0
    error: str = 'Traceback (most recent call last):\n  File "x.py", line 1, in train\nRuntimeError: boom'

    def chance(self, *name):
        """A number from [0, 1) that depends on nothing but the seed and the name."""
        return random.Random(repr((self.seed, *name))).random()

    def about(self, seconds, *name):
        return seconds * (1 + self.spread * (2 * self.chance(*name) - 1))

    def value(self, trial, epoch):
        """A learning curve that rises to a height of the trial's own."""
        return self.chance("height", trial) * (1 - 0.8**epoch)

    def epoch_seconds(self, trial, parallelism):
        alone_s = self.about(self.epoch_s, "epoch", trial)
        return alone_s / m.Scaling(overhead=self.overhead).speedup(parallelism)


@dataclass
class Box:
    """A machine as the provider sees it."""

    offer: object
    opened_s: float
    gone_s: float | None = None
    told_s: float | None = None
    ready: bool = False

    @property
    def told(self):
        return self.told_s is not None


@dataclass
class Team:
    """A gang as its workers see it."""

    start: m.StartGang
    epoch: int
    until: int
    stop: bool = False
    first: bool = True
    hung: bool = False
    stored: dict[int, str] = field(default_factory=dict)


class FakeCloud:
    """Runs one study; ``check`` is called with the cloud after every event."""

    def __init__(self, policy, world=None, *, commands=(), check=None, **changes):
        self.policy = policy
        self.world = world or World()
        self.settings = settings(**changes)
        self.engine = Engine(self.settings, policy)
        self.check = check
        self.now_s = 0.0
        self.steps = 0
        self.log = []
        """(study seconds, event, the actions that it called for)."""
        self.boxes = {}
        self.teams = {}
        self._queue = []
        self._pushed = 0
        self._commands = sorted(commands, key=lambda item: item[0])
        """(study seconds, command); a number instead of a command: the runner dies, and is back after so long."""
        self._handle(m.Began(settings=self.settings))
        self._handle(m.RunnerStarted())

    # --- the face ---

    @property
    def state(self):
        return self.engine.state

    @property
    def events(self):
        return [event for _, event, _ in self.log]

    @property
    def actions(self):
        return [action for _, _, actions in self.log for action in actions]

    def records(self):
        """As a journal holds them."""
        return [(at_s, record) for at_s, event, actions in self.log for record in (event, *actions)]

    def of(self, kind):
        return [(at_s, a) for at_s, _, actions in self.log for a in actions if isinstance(a, kind)]

    def run(self, until_s=math.inf, most=20_000):
        """Until the study has ended, or that time."""
        while self.state.phase != "ended" and self._due_s() <= until_s:
            self._advance()
            assert self.steps < most, f"runs hot at {self.now_s}: {self.log[-3:]}"
        if until_s < math.inf:
            self.now_s = max(self.now_s, until_s)
        return self

    def real_bill(self):
        """What the provider asks for machines that have gone, and for others until now."""
        ends = ((box, self.now_s if box.gone_s is None else box.gone_s) for box in self.boxes.values())
        return sum(box.offer.bill(max(0.0, end_s - box.opened_s)) for box, end_s in ends)

    # --- time ---

    def _due_s(self):
        """When something happens next; during a pause, when the next command is to come."""
        if self.state.phase == "paused":
            return self._commands[0][0] if self._commands else math.inf
        return self._next_s()

    def _next_s(self):
        due = [self.engine.wake_s() + self.world.tick_late_s, *(entry[0] for entry in self._queue[:1])]
        next_s = min([*due, *(at_s for at_s, _ in self._commands[:1])])
        assert next_s < math.inf, f"waits for ever: {self.log[-3:]}"
        return next_s

    def _advance(self):
        if self.state.phase == "paused":
            # The clock stands still: only a person can go on.
            self._command(self._commands.pop(0)[1] if self._commands else m.Stop())
            return
        next_s = self._next_s()
        if self._commands and self._commands[0][0] <= next_s:
            self.now_s = max(self.now_s, self._commands[0][0])
            self._command(self._commands.pop(0)[1])
        elif self._queue and self._queue[0][0] <= next_s:
            self.now_s = max(self.now_s, next_s)
            heapq.heappop(self._queue)[2]()
        else:
            self.now_s = max(self.now_s, next_s)
            self._handle(m.Ticked())

    def _at(self, at_s, what):
        self._pushed += 1
        heapq.heappush(self._queue, (max(at_s, self.now_s), self._pushed, what))

    def _emit(self, event):
        late_s = self.world.late_s * self.world.chance("late", self._pushed)
        self._at(self.now_s + late_s, lambda: self._handle(event))

    def _handle(self, event):
        self.steps += 1
        todo = []
        pending = [event]
        while pending:
            event = pending.pop(0)
            actions = self.engine.handle(event, self.now_s)
            self.log.append((self.now_s, event, actions))
            if self.check:
                self.check(self)
            for action in actions:
                if isinstance(action, m.Draw):
                    pending[:0] = self._draw(action.count)
                else:
                    todo.append(action)
        for action in todo:
            getattr(self, f"_{type(action).__name__.lower()}", lambda _: None)(action)

    def _command(self, command):
        if isinstance(command, m.EventBase):
            self._handle(command)
        else:
            self._runner_dies(command)

    def _runner_dies(self, seconds):
        """Machines live on until their lease ends or the next runner sweeps them; what was on its way is lost."""
        if self.state.phase == "paused":
            seconds = 0.0
        for box in self.boxes.values():
            if box.gone_s is None:
                last_s = box.told_s + box.offer.release_s if box.told else self.now_s + self.settings.lease_s
                box.gone_s = min(self.now_s + seconds, last_s)
        self._queue.clear()
        self.teams.clear()
        old = self.engine
        self.engine = Engine(self.settings, self.policy)
        for at_s, record in self.records():
            self.engine.state.apply(record, at_s)
        assert picture(self.engine.state) == picture(old.state), "records do not give the same state again"
        # The study's clock goes on from the last record.
        unseen_s, self.now_s = seconds + self.now_s - self.state.now_s, self.state.now_s
        self._handle(m.RunnerStarted(unseen_s=unseen_s))

    # --- actions ---

    def _draw(self, count):
        first = self.state.n_drawn
        last = min(first + count, self.world.configs)
        drawn = [m.Drawn(trial=number, config={"x": number}) for number in range(first, int(last))]
        return drawn if last == first + count else [*drawn, m.SpaceExhausted()]

    def _rent(self, action):
        world, number = self.world, action.machine
        box = self.boxes[number] = Box(self.state.offers[action.offer], self.now_s)
        boot_s = world.about(world.boot_s, "boot", number)
        if world.chance("no boot", number) < world.no_boot:
            self._at(self.now_s + boot_s / 2, lambda: self._end_machine(number, "no capacity"))
        elif world.chance("no word", number) >= world.no_word:
            self._at(self.now_s + boot_s, lambda: self._booted(number, boot_s))
        if world.life_s < math.inf:
            life_s = -world.life_s * math.log(1 - world.chance("life", number))
            self._at(self.now_s + life_s, lambda: self._end_machine(number, "lost"))
        assert box.gone_s is None

    def _retire(self, action):
        box = self.boxes[action.machine]
        if not box.told and box.gone_s is None:
            box.told_s = self.now_s
            release_s = box.offer.release_s * self.world.chance("release", action.machine)
            self._at(self.now_s + release_s, lambda: self._end_machine(action.machine, ""))

    def _startgang(self, action):
        team = self.teams[action.gang] = Team(action, action.from_epoch, action.until)
        lost = [w for w in action.workers if self.boxes[int(w.partition(".")[0])].gone_s is not None]
        if lost:
            self._end_team(team, "lost", own_fault=False)
        else:
            stall_s = self.world.about(self.world.stall_s, "stall", action.gang)
            self._at(self.now_s + stall_s, lambda: self._begin_epoch(team))

    def _stopgang(self, action):
        if action.gang in self.teams:
            self.teams[action.gang].stop = True

    def _extendgang(self, action):
        if action.gang in self.teams:
            self.teams[action.gang].until = action.until

    def _abandongang(self, action):
        team = self.teams.get(action.gang)
        if team is not None:
            self._end_team(team, "failed", "hung: it did not report in time")

    # --- what happens ---

    def _booted(self, number, boot_s):
        box = self.boxes[number]
        if box.gone_s is None and not box.told:
            box.ready = True
            self._emit(m.MachineReady(machine=number, boot_s=boot_s))

    def _end_machine(self, number, reason):
        box = self.boxes[number]
        if box.gone_s is not None:
            return
        box.gone_s = self.now_s
        self._emit(m.MachineEnded(machine=number, expected=box.told, reason=reason))
        for team in list(self.teams.values()):
            if any(worker.startswith(f"{number}.") for worker in team.start.workers):
                self._end_team(team, "lost", reason or "its worker was ended", own_fault=False)

    def _end_team(self, team, outcome, error="", *, own_fault=True):
        if self.teams.pop(team.start.gang, None) is not None:
            self._emit(m.GangEnded(gang=team.start.gang, outcome=outcome, error=error, own_fault=own_fault))

    def _begin_epoch(self, team):
        """At the start or after a report: whether there is another epoch, and how it goes."""
        start, world = team.start, self.world
        if start.gang not in self.teams or team.hung:
            return
        if team.stop or team.epoch >= team.until:
            self._end_team(team, "stopped" if team.stop else "target")
        elif world.chance("raises", start.gang, team.epoch) < world.raises:
            self._end_team(team, "failed", world.error)
        elif world.chance("returns", start.gang, team.epoch) < world.returns:
            self._end_team(team, "returned")
        elif world.chance("hangs", start.gang, team.epoch) < world.hangs:
            team.hung = True
        else:
            seconds = world.epoch_seconds(start.trial, len(start.workers))
            self._at(self.now_s + seconds, lambda: self._end_epoch(team, seconds))

    def _end_epoch(self, team, seconds):
        start, world = team.start, self.world
        if start.gang not in self.teams:
            return
        team.epoch += 1
        last = team.stop or team.epoch >= team.until
        diverges = world.chance("diverges", start.trial, team.epoch) < world.diverges
        self._emit(
            m.Reported(
                gang=start.gang,
                epoch=team.epoch,
                value=None if diverges else world.value(start.trial, team.epoch),
                seconds=seconds,
                # Always before a stop, so that nothing is trained twice.
                checkpoint=f"{start.trial}/{team.epoch}" if last or team.epoch % world.store_every == 0 else None,
                batch_size=world.batch_size,
            )
        )
        # Whether there is another was agreed on at the report, before the engine has heard of it.
        self._begin_epoch(team)


def picture(state: State):
    """All that a state holds, comparable."""
    plain = {k: v for k, v in vars(state).items() if k not in {"ledger", "speed"}}
    ledger = state.ledger
    money = (ledger.budget, ledger.spent(state.now_s), ledger.committed(state.now_s))
    return plain, money, state.speed.estimate()
