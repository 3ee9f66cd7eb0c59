"""The simulator's cloud, for settings and worlds made by hand, in which everything can go wrong.

Beyond what the simulator does, events come late and overtake each other, timers are late, functions raise, hang and
return early, checkpoints are stored now and then, and a lost runner leaves machines behind until their lease ends. All
chance comes from the world's seed, by name, so that one fault more moves no other.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from msgspec.structs import replace

from seer_nb.core import model as m
from seer_nb.core.engine import Engine
from seer_nb.core.state import State
from seer_nb.simulate.cloud import VirtualCloud
from seer_nb.simulate.conditions import Chance, Conditions
from tests.builders import settings


class Named(Chance):
    """``world.chance("height", 3)``: a number from [0, 1) that depends on nothing but the seed and the name."""

    def __call__(self, *name):
        return self.uniform(*name)


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
    notice: float = 0.0
    """The provider says that it will take a machine away."""
    refused: float = 0.0
    """A machine is never launched."""
    adopts: float = 0.0
    """A new runner finds the machines of the one before it."""
    raises: float = 0.0
    hangs: float = 0.0
    diverges: float = 0.0
    returns: float = 0.0
    damages: float = 0.0
    """The checkpoint that a gang is to go on from is damaged."""
    error: str = 'Traceback (most recent call last):\n  File "x.py", line 1, in train\nRuntimeError: boom'

    @cached_property
    def chance(self):
        return Named(self.seed)

    @cached_property
    def conditions(self):
        return Conditions(
            stall_seconds=self.stall_s, spread=self.spread, boot_failure=self.no_boot, machine_life_s=self.life_s
        )

    def draw(self, number, trials, *, proposed):
        return {"x": number} if number < self.configs else None

    def value(self, trial, epoch):
        """A learning curve that rises to a height of the trial's own."""
        return self.chance("height", trial) * (1 - 0.8**epoch)

    def report(self, trial, epoch):
        diverges = self.chance("diverges", trial, epoch) < self.diverges
        return None if diverges else self.value(trial, epoch), {}

    def epoch_seconds(self, trial, parallelism, epoch):
        alone_s = self.chance.about(self.epoch_s, self.spread, "epoch", trial)
        return alone_s / m.Scaling(overhead=self.overhead).speedup(parallelism)


class FakeCloud(VirtualCloud):
    """Runs one study; ``check`` is called with the cloud after every event.

    Commands are (study seconds, command); a number instead of a command: the runner dies, and is back after so long.
    """

    def __init__(self, policy, world=None, *, commands=(), check=None, most=20_000, **changes):
        super().__init__(settings(**changes), policy, world or World(), commands)
        self.check = check
        self.most = most
        self.log = []
        """(study seconds, event, the actions that it called for)."""
        self._begin()

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

    # --- what the simulator's cloud asks ---

    def _saw(self, event, actions):
        self.log.append((self.now_s, event, actions))
        assert self.steps < self.most, f"runs hot at {self.now_s}: {self.log[-3:]}"
        if self.check:
            self.check(self)

    def _emit(self, event):
        late_s = self.world.late_s * self.world.chance("late", next(self._numbers))
        self._at(self.now_s + late_s, lambda: self._handle(event))

    def _wake_s(self):
        return super()._wake_s() + self.world.tick_late_s

    def _boot_s(self, machine):
        if self.world.chance("no word", machine) < self.world.no_word:
            return math.inf
        return self.world.chance.about(self.world.boot_s, self.world.spread, "boot", machine)

    def _rent(self, action):
        super()._rent(action)
        number = action.machine
        if self.world.chance("refused", number) < self.world.refused:
            self._at(self.now_s, lambda: self._refuse(number))
        elif self.world.chance("notice", number) < self.world.notice:
            self._at(self.now_s + 200 * self.world.chance("when", number), lambda: self._notice(number))

    def _begin_gang(self, team):
        if team.start.checkpoint and self.world.chance("damaged", team.start.gang) < self.world.damages:
            self._end_team(team, "damaged", "the checkpoint is damaged", own_fault=False)
        else:
            super()._begin_gang(team)

    def _refuse(self, number):
        if self.boxes[number].gone_s is None:
            self.boxes[number].gone_s = self.boxes[number].opened_s = self.now_s
            self.boxes[number].offer = replace(self.boxes[number].offer, price_per_hour=0)
            self._emit(m.MachineEnded(machine=number, expected=False, reason="no capacity", lived_s=0.0))

    def _notice(self, number):
        if self.boxes[number].gone_s is None:
            self._emit(m.MachineLeaving(machine=number, left_s=30.0, reason="spot"))
            self._at(self.now_s + 30.0, lambda: self._end_machine(number, "spot"))

    def _end_machine(self, number, reason):
        super()._end_machine(number, reason)
        if self.boxes[number].offer.workers_per_machine == 0:
            for other, box in self.boxes.items():
                if box.gone_s is None:
                    self._at(self.now_s + 1.0, lambda other=other: self._end_machine(other, "no scheduler"))

    def _release_s(self, machine):
        return super()._release_s(machine) * self.world.chance("release", machine)

    def _mishap(self, team):
        world, name = self.world, (team.start.gang, team.epoch)
        if world.chance("raises", *name) < world.raises:
            self._end_team(team, "failed", world.error)
        elif world.chance("returns", *name) < world.returns:
            self._end_team(team, "returned")
        else:
            # What hangs is never heard of again.
            return world.chance("hangs", *name) < world.hangs
        return True

    def _report(self, team, seconds):
        report = super()._report(team, seconds)
        # Always before a stop, so that nothing is trained twice.
        stored = team.stop or team.epoch >= team.until or team.epoch % self.world.store_every == 0
        return replace(report, checkpoint=report.checkpoint if stored else None, batch_size=self.world.batch_size)

    def _command(self, command):
        if isinstance(command, m.EventBase):
            self._handle(command)
        else:
            self._runner_dies(command)

    def _runner_dies(self, seconds):
        """Machines live on until their lease ends or the next runner sweeps them; what was on its way is lost."""
        if self.state.phase == "paused":
            seconds = 0.0
        adopted = self._adopted(seconds)
        left = []
        for number, box in self.boxes.items():
            if box.gone_s is None and number not in adopted:
                told = box.told_s is not None
                last_s = box.told_s + box.offer.release_s if told else self.now_s + self.settings.lease_s
                if self.state.machines[number].ready_s is None:
                    last_s = max(last_s, box.opened_s + box.offer.boot_lease_s)
                if self.now_s + seconds < last_s and self.world.chance("left", number) < self.world.adopts:
                    left.append(number)
                else:
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
        for number in (*adopted, *left):
            self.boxes[number].opened_s -= unseen_s
        for number in left:
            self.boxes[number].told_s = self.now_s
            self._at(self.now_s + self._release_s(number), lambda number=number: self._end_machine(number, ""))
        self._handle(m.RunnerStarted(unseen_s=unseen_s, adopted=adopted, left=tuple(left)))

    def _adopted(self, seconds):
        """The machines that a new runner finds alive: all that were ready, if there is a scheduler and a lease left."""
        ready = [x for x in self.state.live.values() if x.state == "ready" and self.boxes[x.id].gone_s is None]
        found = self.settings.host is None or any(machine.hosts for machine in ready)
        keeps = (
            found and seconds < self.settings.lease_s and self.world.chance("adopts", self.steps) < self.world.adopts
        )
        return tuple(machine.id for machine in ready) if keeps else ()


def picture(state: State):
    """All that a state holds, comparable."""
    plain = {k: v for k, v in vars(state).items() if k not in {"ledger", "speed"}}
    ledger = state.ledger
    money = (ledger.budget, ledger.spent(state.now_s), ledger.committed(state.now_s))
    return plain, money, state.speed.estimate()
