"""A simulator with many more faults, for hand-made settings and worlds.

In addition to the simulator's faults, events arrive late and out of order, timers are late, training functions raise,
hang and return early, not every checkpoint is stored, and a dead runner leaves machines until their lease expires. All
random numbers depend only on the world's seed and a name, so an additional fault does not change the others.
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
    """A promise of seer_nb was broken."""


class Restart(NamedTuple):
    """The runner dies, and another one starts after some seconds."""

    seconds: float
    waited: tuple[core.Event, ...] = ()
    """Commands that arrived meanwhile."""


class AdverseCloud(Simulator):
    """Simulator of one study with faults.

    Args:
        settings: Settings of the study.
        policy: Policy of the study.
        world: Curves, times and probabilities of faults.
        commands: (study seconds, command) pairs, with `Restart` for a restart of the runner.
        check: Called with the cloud after every event.
        most: Maximum number of events; more of them indicate an endless loop.
    """

    world: World

    def __init__(  # noqa: PLR0913 - arguments of a study
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
        self.max_events = most
        self.log: list[tuple[float, core.Event, tuple[core.Action, ...]]] = []
        """(study seconds, event, resulting actions)."""
        self._begin()

    @property
    def events(self) -> list[core.Event]:
        """All events that the engine has handled."""
        return [event for _, event, _ in self.log]

    @property
    def actions(self) -> list[core.Action]:
        """All actions of the engine."""
        return [action for _, _, actions in self.log for action in actions]

    def records(self) -> list[tuple[float, core.Event | core.Action]]:
        """Return events and actions with their times, as a journal stores them."""
        return [(at_s, record) for at_s, event, actions in self.log for record in (event, *actions)]

    def of(self, kind: type) -> list[tuple[float, core.Action]]:
        """Return the actions of a type with their times."""
        return [(at_s, a) for at_s, _, actions in self.log for a in actions if isinstance(a, kind)]

    # --- hooks of the simulator ---

    def _on_handled(self, event: core.Event, actions: tuple[core.Action, ...]) -> None:
        self.log.append((self.now_s, event, actions))
        if self.steps >= self.max_events:
            raise PromiseError(f"endless loop at {self.now_s} s: {self.log[-3:]}")
        if self.check:
            self.check(self)

    def _deliver(self, event: core.Event) -> None:
        late_s = self.world.late_s * self.world.random("late", next(self._numbers))
        self._schedule(self.now_s + late_s, lambda: self.handle(event))

    def _wake_s(self) -> float:
        return super()._wake_s() + self.world.tick_late_s

    def _boot_s(self, machine: int) -> float:
        if self.world.random("no word", machine) < self.world.never_boots:
            return math.inf
        return self.world.random.about(self.world.boot_s, self.world.spread, "boot", machine)

    def _rent(self, action: core.Rent) -> None:
        super()._rent(action)
        number = action.machine
        if self.world.random("refused", number) < self.world.refused:
            self._schedule(self.now_s, lambda: self._refuse(number))
        elif self.world.random("notice", number) < self.world.notice:
            self._schedule(self.now_s + 200 * self.world.random("when", number), lambda: self._notice(number))

    def _begin_gang(self, gang: SimulatedGang) -> None:
        if gang.start.checkpoint and self.world.random("damaged", gang.start.gang) < self.world.damages:
            self._end_gang(gang, "damaged", "the checkpoint is damaged", own_fault=False)
        else:
            super()._begin_gang(gang)

    def _refuse(self, number: int) -> None:
        if self.machines[number].ended_s is None:
            self.machines[number].ended_s = self.machines[number].rented_s = self.now_s
            self.machines[number].offer = replace(self.machines[number].offer, price_per_hour_micro=0)
            self._deliver(core.MachineEnded(machine=number, expected=False, reason="no capacity", lived_s=0.0))

    def _notice(self, number: int) -> None:
        if self.machines[number].ended_s is None:
            self._deliver(core.MachineLeaving(machine=number, left_s=30.0, reason="spot"))
            self._schedule(self.now_s + 30.0, lambda: self.end_machine(number, "spot"))

    def end_machine(self, number: int, reason: str) -> None:
        super().end_machine(number, reason)
        if self.machines[number].offer.workers_per_machine == 0:
            for other, box in self.machines.items():
                if box.ended_s is None:
                    self._schedule(self.now_s + 1.0, partial(self.end_machine, other, "no scheduler"))

    def _release_s(self, machine: int) -> float:
        return super()._release_s(machine) * self.world.random("release", machine)

    def _inject_failure(self, gang: SimulatedGang) -> bool:
        world, name = self.world, (gang.start.gang, gang.epoch)
        if world.random("raises", *name) < world.raises:
            self._end_gang(gang, "failed", world.error)
        elif world.random("returns", *name) < world.returns:
            self._end_gang(gang, "returned")
        else:
            # A hung gang sends no further events.
            return world.random("hangs", *name) < world.hangs
        return True

    def _report(self, gang: SimulatedGang, seconds: float) -> core.Reported:
        report = super()._report(gang, seconds)
        # A stopping gang always stores its checkpoint, so that no epoch is repeated.
        stored = gang.stop or gang.epoch >= gang.until or gang.epoch % self.world.store_every == 0
        return replace(report, checkpoint=report.checkpoint if stored else None, batch_size=self.world.batch_size)

    def _handle_command(self, command: Any) -> None:
        if isinstance(command, Restart):
            self._runner_dies(command.seconds, len(command.waited))
            for waited in command.waited:
                self.handle(waited)
        else:
            self.handle(command)

    def _runner_dies(self, seconds: float, waiting: int) -> None:
        """Replace the runner: machines live until their lease expires, and pending events are lost."""
        if self.state.phase == "paused":
            seconds = 0.0
        adopted = self._adopted(seconds)
        left = []
        for number, box in self.machines.items():
            if box.ended_s is None and number not in adopted:
                told_s = box.retired_s
                last_s = self.now_s + self.settings.lease_s if told_s is None else told_s + box.offer.release_s
                if self.state.machines[number].ready_s is None:
                    last_s = max(last_s, box.rented_s + box.offer.boot_lease_s)
                if self.now_s + seconds < last_s and self.world.random("left", number) < self.world.adopts:
                    left.append(number)
                else:
                    box.ended_s = min(self.now_s + seconds, last_s)
        self._queue.clear()
        self.gangs.clear()
        old = self.engine
        self.engine = Engine(self.settings, self.policy)
        for at_s, record in self.records():
            self.engine.state.apply(record, at_s)
        if comparable_state(self.engine.state) != comparable_state(old.state):
            raise PromiseError("the records do not replay to the same state")
        # The study's clock continues from the last record.
        unseen_s, self.now_s = seconds + self.now_s - self.state.now_s, self.state.now_s
        for number in (*adopted, *left):
            self.machines[number].rented_s -= unseen_s
        for number in left:
            self.machines[number].retired_s = self.now_s
            self._schedule(self.now_s + self._release_s(number), partial(self.end_machine, number, ""))
        self.handle(core.RunnerStarted(unseen_s=unseen_s, adopted=adopted, retired=tuple(left), waiting=waiting))

    def _adopted(self, seconds: float) -> tuple[int, ...]:
        """Return the machines that a new runner adopts: all ready ones, if a scheduler and their leases remain."""
        ready = [
            x for x in self.state.live_machines.values() if x.state == "ready" and self.machines[x.id].ended_s is None
        ]
        found = self.settings.scheduler_offer is None or any(machine.runs_scheduler for machine in ready)
        unseen_s = seconds + self.now_s - self.state.now_s
        alive = seconds < self.settings.lease_s and self.state.ledger.covers_new_leases(self.state.now_s, unseen_s)
        keeps = found and alive and self.world.random("adopts", self.steps) < self.world.adopts
        return tuple(machine.id for machine in ready) if keeps else ()


def comparable_state(state: State) -> tuple[Any, ...]:
    """Return the content of a state as comparable values."""
    plain = {k: v for k, v in vars(state).items() if k not in {"ledger", "speed"}}
    ledger = state.ledger
    money = (ledger.budget_micro, ledger.spent_micro(state.now_s), ledger.committed_micro(state.now_s))
    return plain, money, state.speed.estimate()


class NamedChance(KeyedRandom):
    """Random numbers by name: ``world.random("height", 3)`` in [0, 1) depends only on the seed and the name."""

    def __call__(self, *name: str | int) -> float:
        """Return the random number of a name."""
        return self.uniform(*name)


@dataclass(frozen=True)
class World:
    """Curves, times and fault probabilities (per machine, gang or epoch); see `seer_nb.simulate.worlds.World`."""

    seed: int = 0
    configs: float = math.inf
    """Number of configurations after which the space is exhausted."""
    epoch_s: float = 10.0
    overhead: float = 0.15
    stall_s: float = 1.0
    boot_s: float = 10.0
    spread: float = 0.0
    """Relative variation of epochs, boots and stalls."""
    batch_size: int | None = None
    store_every: int = 1
    """Epochs between checkpoints."""
    late_s: float = 0.0
    """Maximum delay of each event in seconds; delays are independent, so events arrive out of order."""
    tick_late_s: float = 0.0
    """Delay of timers in seconds."""
    boot_failure: float = 0.0
    """Probability that a machine ends while it boots."""
    never_boots: float = 0.0
    """Probability that a boot never finishes."""
    life_s: float = math.inf
    """Mean life of a machine in seconds."""
    notice: float = 0.0
    """Probability of a preemption notice."""
    refused: float = 0.0
    """Probability that a launch is refused."""
    adopts: float = 0.0
    """Probability that a new runner adopts the machines of the previous one."""
    raises: float = 0.0
    hangs: float = 0.0
    diverges: float = 0.0
    returns: float = 0.0
    damages: float = 0.0
    """Probability that the checkpoint of a new gang is damaged."""
    error: str = 'Traceback (most recent call last):\n  File "x.py", line 1, in train\nRuntimeError: boom'

    @cached_property
    def random(self) -> NamedChance:
        """All random numbers of the world."""
        return NamedChance(self.seed)

    @cached_property
    def conditions(self) -> Conditions:
        """Conditions that the base simulator handles."""
        return Conditions(
            stall_seconds=self.stall_s, spread=self.spread, boot_failure=self.boot_failure, machine_life_s=self.life_s
        )

    def draw(self, number: int, trials: Any, *, proposed: bool) -> core.Config | None:  # noqa: ARG002 - signature of the base class
        """Return the next configuration, or None if the space is exhausted."""
        return {"x": number} if number < self.configs else None

    def value(self, trial: int, epoch: int) -> float:
        """Return a learning curve that rises to a random level."""
        return self.random("height", trial) * (1 - 0.8**epoch)

    def report(self, trial: int, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """Return the value, None after divergence, and other metrics."""
        diverges = self.random("diverges", trial, epoch) < self.diverges
        return None if diverges else self.value(trial, epoch), {}

    def epoch_seconds(self, trial: int, parallelism: int, epoch: int) -> float:  # noqa: ARG002 - equal for all epochs
        """Return the seconds of an epoch, by Amdahl's law."""
        alone_s = self.random.about(self.epoch_s, self.spread, "epoch", trial)
        return alone_s / core.Scaling(overhead=self.overhead).speedup(parallelism)
