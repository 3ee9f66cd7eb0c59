"""What would happen if a configuration were trained: curves, seconds, and luck, whatever policy asks."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from seer_nb.search_space.surrogate import Proposer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seer_nb import core
    from seer_nb.core import Config, Trial
    from seer_nb.simulate.curve_table import CurveTable


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What is not in the curves. The defaults are a world in which nothing varies and nothing fails.

    Args:
        stall_seconds: From the decision to start or resize a gang to its first step.
        save_seconds: For storing a checkpoint, at each report.
        noise: Epochs take exp(noise x N(0, 1)) times their time, with a mean of 1; so the throughput that a policy
            sees is off by about that share.
        spread: Boots and stalls are longer or shorter by up to that share.
        boot_failure: Probability that a machine ends before it is ready.
        machine_life_s: Mean life of a machine until it is lost (exponential).
        spot_life_s: The same for machines of a spot offer, on top: mean time until the provider takes them back.

    Raises:
        ValueError: A number is out of range.
    """

    stall_seconds: float = 1.0
    save_seconds: float = 0.0
    noise: float = 0.0
    spread: float = 0.0
    boot_failure: float = 0.0
    machine_life_s: float = math.inf
    spot_life_s: float = math.inf

    def __post_init__(self) -> None:
        for name in ("stall_seconds", "save_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a time: give seconds from 0 on")
        for name in ("noise", "spread", "boot_failure"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a share: give a number from 0 to 1")
        for name in ("machine_life_s", "spot_life_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a time: give seconds above 0, or math.inf")


class Chance:
    """Numbers that depend on nothing but the seed and a name: so one fault more, or another policy, moves no other."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def uniform(self, *name: str | int) -> float:
        """From [0, 1)."""
        return random.Random(repr((self._seed, *name))).random()  # noqa: S311

    def about(self, seconds: float, spread: float, *name: str | int) -> float:
        """Longer or shorter by up to a share."""
        return seconds * (1 + spread * (2 * self.uniform(*name) - 1)) if spread else seconds

    def life_s(self, mean_s: float, *name: str | int) -> float:
        """Exponential."""
        return math.inf if mean_s == math.inf else -mean_s * math.log(1 - self.uniform(*name))


class World(Protocol):
    """What a virtual cloud asks about training and machines. All times are seconds."""

    @property
    def conditions(self) -> Conditions:
        """Noise and faults."""
        ...

    @property
    def chance(self) -> Chance:
        """Where all luck comes from."""
        ...

    def draw(self, number: int, trials: Mapping[int, Trial], *, proposed: bool) -> Config | None:
        """The configuration for the trial of that number; None when there are no more."""
        ...

    def report(self, trial: int, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """The metric's value, None if it is not finite, and other metrics."""
        ...

    def epoch_seconds(self, trial: int, parallelism: int, epoch: int) -> float:
        """How long that epoch takes on so many workers."""
        ...


class TableWorld:
    """Training from a curve table.

    Trial number i of a study gets a configuration of the table; the random order is that of the seed, so policies that
    draw at random meet the same configurations in the same order. A configuration's curve, and how long its epochs
    take, depend on the table, the seed and the configuration alone.

    Args:
        table: The curves.
        epoch_seconds: Of an epoch on one worker, for tables that do not tell.
        speedup: Epochs per second on p workers over those on one.
        conditions: Noise and faults.
        seed: Of the order and of all chance.
    """

    def __init__(
        self,
        table: CurveTable,
        *,
        epoch_seconds: float,
        speedup: Callable[[int], float],
        conditions: Conditions,
        seed: int,
    ) -> None:
        self.table = table
        self.conditions = conditions
        self.chance = Chance(seed)
        self._seed = seed
        self._alone_s = table.epoch_seconds or (epoch_seconds,) * len(table)
        self._speedup = speedup
        self._speeds: dict[int, float] = {1: 1.0}
        self._order = [int(row) for row in np.random.default_rng([seed, 1]).permutation(len(table))]
        self._cursor = 0
        self._rows: list[int] = []
        """By trial: its row of the table."""
        self._taken: set[int] = set()
        self._noise: dict[int, list[float]] = {}
        self._proposer = Proposer(table.mode, seed)
        self._ranking: list[int] = []
        """Rows as proposed at the last fit, the best last."""

    def row(self, trial: int) -> int:
        """The row of the table that a trial got."""
        return self._rows[trial]

    def draw(self, number: int, trials: Mapping[int, core.Trial], *, proposed: bool) -> Config | None:  # noqa: ARG002 - the protocol
        """The next one in the seed's order, or the one that a model of what was seen thinks best."""
        row = self._propose(trials) if proposed else None
        if row is None:
            row = self._next()
        if row is None:
            return None
        self._rows.append(row)
        self._taken.add(row)
        return self.table.configs[row]

    def _propose(self, trials: Mapping[int, core.Trial]) -> int | None:
        """The best by a forest, of those that are left; None as long as too little is known."""
        begun = [trials[number] for number in range(len(self._rows)) if number in trials]
        if not self._ranking or self._proposer.stale(begun):
            left = [row for row in range(len(self.table)) if row not in self._taken]
            features = self.table.features
            order = self._proposer.rank(features[[self._rows[trial.id] for trial in begun]], begun, features[left])
            self._ranking = [] if order is None else [left[place] for place in reversed(order)]
        while self._ranking:
            row = self._ranking.pop()
            if row not in self._taken:
                return row
        return None

    def _next(self) -> int | None:
        while self._cursor < len(self._order):
            row = self._order[self._cursor]
            if row not in self._taken:
                return row
            self._cursor += 1
        return None

    def report(self, trial: int, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """As recorded."""
        row = self._rows[trial]
        metrics = {} if self.table.test_values is None else {"test_value": self.table.test_value(row, epoch)}
        return self.table.value(row, epoch), metrics

    def epoch_seconds(self, trial: int, parallelism: int, epoch: int) -> float:
        """With the noise of that configuration's epoch."""
        row = self._rows[trial]
        if parallelism not in self._speeds:
            self._speeds[parallelism] = _checked(self._speedup(parallelism), parallelism)
        seconds = self._alone_s[row] / self._speeds[parallelism]
        return seconds * self._noise_of(row, epoch) if self.conditions.noise else seconds

    def _noise_of(self, row: int, epoch: int) -> float:
        if row not in self._noise:
            noise = self.conditions.noise
            drawn = np.random.default_rng([self._seed, 2, row]).normal(size=1 + self.table.max_epochs)
            self._noise[row] = [float(x) for x in np.exp(noise * drawn - noise**2 / 2)]
        factors = self._noise[row]
        return factors[epoch % len(factors)]


def _checked(speed: float, parallelism: int) -> float:
    if not 0 < speed < math.inf:
        raise ValueError(f"speedup({parallelism})={speed!r} is not allowed: give a number above 0")
    return float(speed)
