"""The simulator's cloud, for settings and worlds made by hand, in which everything can go wrong.

Beyond what the simulator does, events come late and overtake each other, timers are late, functions raise, hang and
return early, checkpoints are stored now and then, and a lost runner leaves machines behind until their lease ends. All
chance comes from the world's seed, by name, so that one fault more moves no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.simulate.simulator import Simulator
from seer_nb.simulate.worlds import Conditions, KeyedRandom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.simulate.simulator import SimulatedGang


class PromiseError(AssertionError):
    """What seer_nb promises was not kept."""


class Restart(NamedTuple):
    """The runner dies, and another one is there after a while."""

    seconds: float
    waited: tuple[core.Event, ...] = ()
    """What was asked for meanwhile."""


class AdverseCloud(Simulator):
    """Runs one study.

    Args:
        settings: Of the study.
        policy: Decides.
        world: What goes wrong.
        commands: (study seconds, command); or a `Restart` instead of a command.
        check: Called with the cloud after every event.
        most: Events; more of them mean that it runs hot.
    """

    world: World

    def __init__(  # noqa: PLR0913 - a study has many parts
        self,
        settings: core.Settings,
        policy: Policy,
        world: World,
        commands: Iterable[tuple[float, Any]] = (),
        *,
        check: Callable[[AdverseCloud], None] | None = None,
        most: int = 20_000,
    ) -> None:
        super().__init__(settings, policy, world, commands)
        self.check = check
        self.most = most
        self.log: list[tuple[float, core.Event, tuple[core.Action, ...]]] = []
        """(study seconds, event, the actions that it called for)."""
        self._begin()

    @property
    def events(self) -> list[core.Event]:
        """All that the engine has heard."""
        return [event for _, event, _ in self.log]

    @property
    def actions(self) -> list[core.Action]:
        """All that it has called for."""
        return [action for _, _, actions in self.log for action in actions]

    def records(self) -> list[tuple[float, core.Event | core.Action]]:
        """As a journal holds them."""
        return [(at_s, record) for at_s, event, actions in self.log for record in (event, *actions)]

    def of(self, kind: type) -> list[tuple[float, core.Action]]:
        """Actions of a kind, with their times."""
        return [(at_s, a) for at_s, _, actions in self.log for a in actions if isinstance(a, kind)]

    # --- what the simulator's cloud asks ---

    def _saw(self, event: core.Event, actions: tuple[core.Action, ...]) -> None:
        self.log.append((self.now_s, event, actions))
        if self.steps >= self.most:
            raise PromiseError(f"it runs hot at {self.now_s}: {self.log[-3:]}")
        if self.check:
            self.check(self)

    def _emit(self, event: core.Event) -> None:
        late_s = self.world.late_s * self.world.chance("late", next(self._numbers))
        self._at(self.now_s + late_s, lambda: self._handle(event))

    def _wake_s(self) -> float:
        return super()._wake_s() + self.world.tick_late_s

    def _boot_s(self, machine: int) -> float:
        if self.world.chance("no word", machine) < self.world.no_word:
            return math.inf
        return self.world.chance.about(self.world.boot_s, self.world.spread, "boot", machine)

    def _rent(self, action: core.Rent) -> None:
        super()._rent(action)
        number = action.machine
        if self.world.chance("refused", number) < self.world.refused:
            self._at(self.now_s, lambda: self._refuse(number))
        elif self.world.chance("notice", number) < self.world.notice:
            self._at(self.now_s + 200 * self.world.chance("when", number), lambda: self._notice(number))

    def _begin_gang(self, team: SimulatedGang) -> None:
        if team.start.checkpoint and self.world.chance("damaged", team.start.gang) < self.world.damages:
            self._end_team(team, "damaged", "the checkpoint is damaged", own_fault=False)
        else:
            super()._begin_gang(team)

    def _refuse(self, number: int) -> None:
        if self.boxes[number].gone_s is None:
            self.boxes[number].gone_s = self.boxes[number].opened_s = self.now_s
            self.boxes[number].offer = replace(self.boxes[number].offer, price_per_hour_micro=0)
            self._emit(core.MachineEnded(machine=number, expected=False, reason="no capacity", lived_s=0.0))

    def _notice(self, number: int) -> None:
        if self.boxes[number].gone_s is None:
            self._emit(core.MachineLeaving(machine=number, left_s=30.0, reason="spot"))
            self._at(self.now_s + 30.0, lambda: self._end_machine(number, "spot"))

    def _end_machine(self, number: int, reason: str) -> None:
        super()._end_machine(number, reason)
        if self.boxes[number].offer.workers_per_machine == 0:
            for other, box in self.boxes.items():
                if box.gone_s is None:
                    self._at(self.now_s + 1.0, partial(self._end_machine, other, "no scheduler"))

    def _release_s(self, machine: int) -> float:
        return super()._release_s(machine) * self.world.chance("release", machine)

    def _mishap(self, team: SimulatedGang) -> bool:
        world, name = self.world, (team.start.gang, team.epoch)
        if world.chance("raises", *name) < world.raises:
            self._end_team(team, "failed", world.error)
        elif world.chance("returns", *name) < world.returns:
            self._end_team(team, "returned")
        else:
            # What hangs is never heard of again.
            return world.chance("hangs", *name) < world.hangs
        return True

    def _report(self, team: SimulatedGang, seconds: float) -> core.Reported:
        report = super()._report(team, seconds)
        # Always before a stop, so that nothing is trained twice.
        stored = team.stop or team.epoch >= team.until or team.epoch % self.world.store_every == 0
        return replace(report, checkpoint=report.checkpoint if stored else None, batch_size=self.world.batch_size)

    def _command(self, command: Any) -> None:
        if isinstance(command, Restart):
            self._runner_dies(command.seconds, len(command.waited))
            for waited in command.waited:
                self._handle(waited)
        else:
            self._handle(command)

    def _runner_dies(self, seconds: float, waiting: int) -> None:
        """Machines live on until their lease ends or the next runner sweeps them; what was on its way is lost."""
        if self.state.phase == "paused":
            seconds = 0.0
        adopted = self._adopted(seconds)
        left = []
        for number, box in self.boxes.items():
            if box.gone_s is None and number not in adopted:
                told_s = box.told_s
                last_s = self.now_s + self.settings.lease_s if told_s is None else told_s + box.offer.release_s
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
        if picture(self.engine.state) != picture(old.state):
            raise PromiseError("records do not give the same state again")
        # The study's clock goes on from the last record.
        unseen_s, self.now_s = seconds + self.now_s - self.state.now_s, self.state.now_s
        for number in (*adopted, *left):
            self.boxes[number].opened_s -= unseen_s
        for number in left:
            self.boxes[number].told_s = self.now_s
            self._at(self.now_s + self._release_s(number), partial(self._end_machine, number, ""))
        self._handle(core.RunnerStarted(unseen_s=unseen_s, adopted=adopted, left=tuple(left), waiting=waiting))

    def _adopted(self, seconds: float) -> tuple[int, ...]:
        """The machines that a new runner finds alive: all that were ready, if there is a scheduler and a lease left."""
        ready = [x for x in self.state.live.values() if x.state == "ready" and self.boxes[x.id].gone_s is None]
        found = self.settings.host is None or any(machine.runs_scheduler for machine in ready)
        unseen_s = seconds + self.now_s - self.state.now_s
        alive = seconds < self.settings.lease_s and self.state.ledger.lasts(self.state.now_s, unseen_s)
        keeps = found and alive and self.world.chance("adopts", self.steps) < self.world.adopts
        return tuple(machine.id for machine in ready) if keeps else ()


def picture(state: State) -> tuple[Any, ...]:
    """All that a state holds, comparable."""
    plain = {k: v for k, v in vars(state).items() if k not in {"ledger", "speed"}}
    ledger = state.ledger
    money = (ledger.budget, ledger.spent(state.now_s), ledger.committed(state.now_s))
    return plain, money, state.speed.estimate()


class Named(KeyedRandom):
    """``world.chance("height", 3)``: a number from [0, 1) that depends on nothing but the seed and the name."""

    def __call__(self, *name: str | int) -> float:
        """See the class."""
        return self.uniform(*name)


@dataclass(frozen=True)
class World:
    """Probabilities are per machine, gang or epoch. See `seer_nb.simulate.worlds.World`."""

    seed: int = 0
    configs: float = math.inf
    """After so many the space is exhausted."""
    epoch_s: float = 10.0
    overhead: float = 0.15
    stall_s: float = 1.0
    boot_s: float = 10.0
    spread: float = 0.0
    """Trials' epochs, boots and stalls are longer or shorter by up to this share."""
    batch_size: int | None = None
    store_every: int = 1
    """Epochs between checkpoints."""
    late_s: float = 0.0
    """Each event comes late by up to so much, on its own: so they overtake each other."""
    tick_late_s: float = 0.0
    """Timers are late by so much."""
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
    def chance(self) -> Named:
        """All chance: one fault more moves no other."""
        return Named(self.seed)

    @cached_property
    def conditions(self) -> Conditions:
        """What the simulator knows of by itself."""
        return Conditions(
            stall_seconds=self.stall_s, spread=self.spread, boot_failure=self.no_boot, machine_life_s=self.life_s
        )

    def draw(self, number: int, trials: Any, *, proposed: bool) -> core.Config | None:  # noqa: ARG002 - as it is called
        """Numbers, as long as there are some."""
        return {"x": number} if number < self.configs else None

    def value(self, trial: int, epoch: int) -> float:
        """A learning curve that rises to a height of the trial's own."""
        return self.chance("height", trial) * (1 - 0.8**epoch)

    def report(self, trial: int, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """Value and other metrics."""
        diverges = self.chance("diverges", trial, epoch) < self.diverges
        return None if diverges else self.value(trial, epoch), {}

    def epoch_seconds(self, trial: int, parallelism: int, epoch: int) -> float:  # noqa: ARG002 - all are alike
        """By Amdahl's law."""
        alone_s = self.chance.about(self.epoch_s, self.spread, "epoch", trial)
        return alone_s / core.Scaling(overhead=self.overhead).speedup(parallelism)
