"""How training goes in such a study, and what goes wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from seer_nb.core import model as m
from seer_nb.simulate.conditions import Chance, Conditions


class Named(Chance):
    """``world.chance("height", 3)``: a number from [0, 1) that depends on nothing but the seed and the name."""

    def __call__(self, *name: str | int) -> float:
        """See the class."""
        return self.uniform(*name)


@dataclass(frozen=True)
class World:
    """Probabilities are per machine, gang or epoch. See `seer_nb.simulate.world.World`."""

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

    def draw(self, number: int, trials: Any, *, proposed: bool) -> m.Config | None:  # noqa: ARG002 - as it is called
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
        return alone_s / m.Scaling(overhead=self.overhead).speedup(parallelism)
