"""Worlds for the simulator: curves, durations and faults, the same for every policy."""

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
    """Conditions of a simulated cloud. With the defaults nothing varies and nothing fails.

    Args:
        stall_seconds: Seconds from the decision to start or resize a gang to its first step. Default: 1.
        save_seconds: Seconds to store a checkpoint, at each report. Default: 0.
        noise: Standard deviation of the logarithm of epoch times, whose mean stays the same; 0 to 1. Throughput that a
            policy measures is off by about this share.
        spread: Greatest relative deviation of boots and stalls; 0 to 1.
        boot_failure: Probability that a machine ends before it is ready.
        machine_life_s: Mean seconds until a machine is lost (exponential). Default: infinite.
        spot_life_s: Mean seconds until a machine of a spot offer is preempted (exponential), in addition.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> from seer_nb import simulate
        >>> flaky = simulate.Conditions(noise=0.3, machine_life_s=3600)
        >>> outcome = simulate.run(table, deadline="1h", budget=24.48, conditions=flaky)  # doctest: +SKIP
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
                raise ValueError(f"{name}={getattr(self, name)!r}: not a duration; expected finite seconds >= 0")
        for name in ("noise", "spread", "boot_failure"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: not a share; expected a number from 0 to 1")
        for name in ("machine_life_s", "spot_life_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: not a duration; expected seconds > 0, or math.inf")


class KeyedRandom:
    """Random numbers that depend only on the seed and a name.

    An additional fault or another policy therefore changes no other number.

    Args:
        seed: Seed of all numbers.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def uniform(self, *name: str | int) -> float:
        """Return a number from [0, 1)."""
        return random.Random(repr((self._seed, *name))).random()  # noqa: S311

    def about(self, seconds: float, spread: float, *name: str | int) -> float:
        """Return a duration that deviates from ``seconds`` by at most the share ``spread``."""
        return seconds * (1 + spread * (2 * self.uniform(*name) - 1)) if spread else seconds

    def life_s(self, mean_s: float, *name: str | int) -> float:
        """Return an exponentially distributed duration."""
        return math.inf if mean_s == math.inf else -mean_s * math.log(1 - self.uniform(*name))


class World(Protocol):
    """The interface between the simulator and training and machines. All times are seconds."""

    @property
    def conditions(self) -> Conditions:
        """Noise and faults."""
        ...

    @property
    def random(self) -> KeyedRandom:
        """Source of all random numbers."""
        ...

    def draw(self, number: int, trials: Mapping[int, Trial], *, proposed: bool) -> Config | None:
        """Return the configuration of a trial; None when there are no more."""
        ...

    def report(self, trial: int, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """Return the metric's value, None if it is not finite, and other metrics."""
        ...

    def epoch_seconds(self, trial: int, parallelism: int, epoch: int) -> float:
        """Return the seconds of an epoch on ``parallelism`` workers."""
        ...


class TableWorld:
    """Training from a curve table.

    Each trial gets a configuration of the table. The random order depends on the seed alone, so that all policies that
    draw at random get the same configurations in the same order. The curve and the epoch times of a configuration
    depend only on table, seed and configuration.

    Args:
        table: The curves.
        epoch_seconds: Seconds of an epoch on one worker, for tables without them.
        speedup: Epochs per second on p workers over those on one.
        conditions: Noise and faults.
        seed: Seed of the order and of all randomness.
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
        self.random = KeyedRandom(seed)
        self._seed = seed
        self._alone_s = table.epoch_seconds or (epoch_seconds,) * len(table)
        self._speedup = speedup
        self._speeds: dict[int, float] = {1: 1.0}
        self._order = [int(row) for row in np.random.default_rng([seed, 1]).permutation(len(table))]
        self._cursor = 0
        self._rows: list[int] = []
        """Row of the table by trial."""
        self._taken: set[int] = set()
        self._noise: dict[int, list[float]] = {}
        self._proposer = Proposer(table.mode, seed)
        self._ranking: list[int] = []
        """Rows in the order of the last fit, best last."""

    def row(self, trial: int) -> int:
        """Return the table's row of a trial."""
        return self._rows[trial]

    def draw(self, number: int, trials: Mapping[int, core.Trial], *, proposed: bool) -> Config | None:  # noqa: ARG002 - the protocol
        """Return the next configuration in the seed's order, or the model's best one if ``proposed``."""
        row = self._propose(trials) if proposed else None
        if row is None:
            row = self._next_row()
        if row is None:
            return None
        self._rows.append(row)
        self._taken.add(row)
        return self.table.configs[row]

    def _propose(self, trials: Mapping[int, core.Trial]) -> int | None:
        """Return the best unused row by a forest; None while too few trials have reported."""
        started = [trials[number] for number in range(len(self._rows)) if number in trials]
        if not self._ranking or self._proposer.stale(started):
            left = [row for row in range(len(self.table)) if row not in self._taken]
            features = self.table.features
            order = self._proposer.rank(features[[self._rows[trial.id] for trial in started]], started, features[left])
            self._ranking = [] if order is None else [left[place] for place in reversed(order)]
        while self._ranking:
            row = self._ranking.pop()
            if row not in self._taken:
                return row
        return None

    def _next_row(self) -> int | None:
        while self._cursor < len(self._order):
            row = self._order[self._cursor]
            if row not in self._taken:
                return row
            self._cursor += 1
        return None

    def report(self, trial: int, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """Return the recorded values."""
        row = self._rows[trial]
        metrics = {} if self.table.test_values is None else {"test_value": self.table.test_value(row, epoch)}
        return self.table.value(row, epoch), metrics

    def epoch_seconds(self, trial: int, parallelism: int, epoch: int) -> float:
        """Return the seconds of an epoch, with the noise of that configuration and epoch."""
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
        raise ValueError(f"speedup({parallelism})={speed!r}: not a speedup; expected a finite number > 0")
    return float(speed)
