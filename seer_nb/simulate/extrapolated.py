"""A world that goes on as a study has gone so far: known curves are continued, new trials resemble known ones."""

from __future__ import annotations

import math
from statistics import NormalDist, fmean, pstdev
from typing import TYPE_CHECKING

import numpy as np

from seer_nb.simulate.worlds import Chance, Conditions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from seer_nb.core import Config, Trial
    from seer_nb.core.state import State


FIRST_GAIN = 1.0
"""What the second epoch is thought to gain before any trial has shown it, in standard deviations of first values."""
OWN = 0.4
"""How much one trial's gains differ from another's: standard deviation of their logarithm."""
NOISE = 0.3
"""The same of one epoch's gain from what is expected of it."""
RECENT = 2
"""Epochs of which a trial's gains are averaged."""
FALL = 1.5
"""Where nothing was seen yet, gains fall off with this power of the number of epochs: so a curve comes to an end."""
UNKNOWN = 0.8
"""Standard deviation of the logarithm of gains when only first epochs are known: one future differs from another."""
REST = 0.05
"""What may still be gained at least: this share of how much better the best is than the median."""
EPOCHS = 10
"""For so many times the epochs so far a gain may go on."""
PLASTIC = 1.324717957244746
AIR = 0.3
"""An error of nothing is thought to be so many times the least one seen."""
CHOICE = 3
"""A proposed configuration is thought to be as good as the best of so many random ones."""


class Fit:
    """What a study has shown so far, to be continued by worlds.

    Args:
        state: Of the study.
        epoch_seconds: Of an epoch on one worker; None: as measured.

    Raises:
        ValueError: No time of an epoch is known.
    """

    def __init__(self, state: State, epoch_seconds: float | None = None) -> None:
        scaling = state.speed.estimate()
        self.stall_s, self.speedup = scaling.stall_s, scaling.speedup
        self.sign = -1.0 if state.settings.mode == "max" else 1.0
        known = [trial for trial in state.trials.values() if trial.curve]
        measured_s = scaling.epoch_s if scaling.epoch_s is not None else epoch_seconds
        if measured_s is None:
            raise ValueError("no epoch has been timed yet")
        self.epoch_s = measured_s if epoch_seconds is None else epoch_seconds
        factor = self.epoch_s / max(measured_s, 1e-9)
        self.alone_s = {trial.id: factor * self._alone(trial) for trial in known}
        """Seconds of an epoch on one worker, by trial."""
        losses = {trial.id: self._losses(trial) for trial in known}
        self.scale = _Scale(losses.values(), self.sign)
        self.curves = {trial: [self.scale.there(loss) for loss in curve] for trial, curve in losses.items()}
        """On the scale; as far as they are known."""
        self.donors = sorted(self.curves.values(), key=lambda losses: losses[-1])
        """The same, the best first."""
        self.seconds = sorted(self.alone_s.values())
        self.gains = _Gains(self.donors)

    def _alone(self, trial: Trial) -> float:
        return fmean(report.seconds * self.speedup(report.parallelism) for report in trial.curve)

    def _losses(self, trial: Trial) -> list[float]:
        return [math.inf if report.value is None else self.sign * report.value for report in trial.curve]


class FittedWorld:
    """Training as it may go on. Different seeds give different, equally likely, futures.

    A trial's gain from one epoch to the next follows from its last ones, in the proportion that is seen on average;
    beyond the longest curve gains fall off with the number of epochs.

    Args:
        fit: To what is known.
        seed: Of all chance.
    """

    def __init__(self, fit: Fit, seed: int) -> None:
        self.conditions = Conditions(stall_seconds=fit.stall_s, spread=0.1)
        self.chance = Chance(seed)
        self._fit = fit
        self._rng = np.random.default_rng([seed, 3])
        self._alone_s = dict(fit.alone_s)
        self._curves: dict[int, list[float]] = {}
        """Those that were asked for."""
        self._first_gain = fit.gains.first(_luck(seed, 1))
        self._least = fit.gains.least(_luck(seed, 1), _luck(seed, 2))
        """No curve is thought to fall below this: the best of many continued by chance would be too good to be true."""
        self._proposed: set[int] = set()

    def draw(self, number: int, trials: Mapping[int, Trial], *, proposed: bool) -> Config | None:  # noqa: ARG002
        """Which configuration it is does not matter here."""
        if proposed:
            self._proposed.add(number)
        return {}

    def report(self, trial: int, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """A known value, or one that continues the curve."""
        losses = self._curve(trial)
        while len(losses) < epoch:
            losses.append(max(self._least, self._next(losses)))
        loss = self._fit.scale.back(losses[epoch - 1])
        return (self._fit.sign * loss if math.isfinite(loss) else None), {}

    def epoch_seconds(self, trial: int, parallelism: int, epoch: int) -> float:  # noqa: ARG002 - all epochs are alike
        """As the trial's epochs took so far, or as those of another one."""
        if trial not in self._alone_s:
            seconds = self._fit.seconds
            drawn = seconds[int(self._rng.integers(len(seconds)))] if seconds else self._fit.epoch_s
            self._alone_s[trial] = drawn
        return self._alone_s[trial] / self._fit.speedup(parallelism)

    def _curve(self, trial: int) -> list[float]:
        if trial not in self._curves:
            known = self._fit.curves.get(trial)
            self._curves[trial] = self._new(self._rank(trial)) if known is None else list(known)
        return self._curves[trial]

    def _rank(self, trial: int) -> int:
        tries = CHOICE if trial in self._proposed else 1
        return int(self._rng.integers(max(1, len(self._fit.donors)), size=tries).min())

    def _new(self, rank: int) -> list[float]:
        """Like a known trial, but not the same."""
        if not self._fit.donors:
            return [float(self._rng.normal())]
        donor = self._fit.donors[rank]
        return [max(self._least, donor[0] + self._fit.gains.noise * float(self._rng.normal()))]

    def _next(self, losses: Sequence[float]) -> float:
        epoch = len(losses)
        if epoch == 1:
            pace = float(np.exp(OWN * self._rng.normal()))
            return losses[0] - pace * self._first_gain
        # Averaged over two epochs where there are as many: single gains are noisy.
        back = min(RECENT, epoch - 1)
        gain = (losses[-1 - back] - losses[-1]) / back
        if not math.isfinite(gain):
            return losses[-1]
        return losses[-1] - max(0.0, gain) * self._fit.gains.kept(epoch) * float(np.exp(NOISE * self._rng.normal()))


def _luck(seed: int, which: int) -> float:
    """From a normal distribution, evenly spread over the seeds from 0 on: a few futures must show how much may differ.

    The additive recurrence of two dimensions by the powers of the plastic ratio's inverse (Roberts 2018).
    """
    return NormalDist().inv_cdf((0.5 + (seed + 1) * PLASTIC**-which) % 1.0)


def natural_range(values: Sequence[float]) -> tuple[float, float]:
    """What a metric can be, going by what was seen: shares lie between 0 and 1, losses above 0."""
    if not values or min(values) < 0:
        return -math.inf, math.inf
    return 0.0, 1.0 if max(values) <= 1 else math.inf


class _Scale:
    """On which curves are continued: logarithmic above the least loss that there can be, if there is one.

    What is left of an error falls by a share of it.

    Args:
        curves: Losses.
        sign: Of a loss: a value times this.
    """

    def __init__(self, curves: Iterable[Sequence[float]], sign: float) -> None:
        values = [sign * loss for curve in curves for loss in curve if math.isfinite(loss)]
        low, high = natural_range(values)
        bounded = (low if sign > 0 else -high) > -math.inf
        self._least = (low if sign > 0 else -high) if bounded else None
        errors = [value - low if sign > 0 else high - value for value in values] if bounded else []
        self._air = AIR * min((error for error in errors if error > 0), default=1.0)

    def there(self, loss: float) -> float:
        """From a loss."""
        return loss if self._least is None or loss == math.inf else math.log(loss - self._least + self._air)

    def back(self, place: float) -> float:
        """To a loss."""
        if self._least is None or place == math.inf:
            return place
        return max(self._least, math.exp(place) - self._air + self._least)


class _Gains:
    """By how much the loss falls from one epoch to the next, on average. Luck is from a normal distribution."""

    def __init__(self, curves: Sequence[Sequence[float]]) -> None:
        longest = max(map(len, curves), default=0)
        pairs = ([c[e - 1] - c[e] for c in curves if len(c) > e and math.isfinite(c[e])] for e in range(1, longest))
        self._seen = [fmean(gains) if gains else 0.0 for gains in pairs]
        firsts = [curve[0] for curve in curves if math.isfinite(curve[0])]
        self._spread = pstdev(firsts) if len(firsts) > 1 else 1.0
        self.noise = 0.3 * self._spread
        """Of a trial about the one that it resembles."""
        finite = [curve for curve in curves if math.isfinite(min(curve))]
        self._best = min(finite, key=min, default=())
        self._bests = sorted(map(min, finite))

    def first(self, luck: float) -> float:
        """From the first epoch to the second."""
        return self._seen[0] if self._seen else FIRST_GAIN * self._spread * math.exp(UNKNOWN * luck)

    def least(self, luck: float, other: float) -> float:
        """The best loss so far, less what its own trial may still gain.

        Args:
            luck: How the gains turn out that were not seen yet.
            other: How the others do.
        """
        best, bests = self._best, self._bests
        if not best:
            return -math.inf
        usual = REST * (bests[len(bests) // 2] - bests[0])
        if len(best) == 1:
            # All that is known is how far apart first values lie.
            return best[0] - max(self.first(luck), bests[-1] - bests[0], usual) * math.exp(0.5 + UNKNOWN * other)
        back = min(RECENT, len(best) - 1)
        gain = max(0.0, (best[-1 - back] - best[-1]) / back) * math.log(EPOCHS)
        return min(best) - max(gain, usual) * math.exp(OWN * other)

    def kept(self, epoch: int) -> float:
        """A gain up to that epoch, as a share of which the next one is to be expected."""
        if epoch < len(self._seen) and self._seen[epoch - 2] > 0:
            return min(1.0, max(0.0, self._seen[epoch - 1] / self._seen[epoch - 2]))
        return float(((epoch - 1) / epoch) ** FALL)
