"""A world extrapolated from a study: known curves are continued, and new trials resemble known ones.

Curves are continued as losses (lower is better) on a scale that is logarithmic above the least possible loss.
"""

from __future__ import annotations

import math
from statistics import NormalDist, fmean, pstdev
from typing import TYPE_CHECKING

import numpy as np

from seer_nb.simulate.worlds import Conditions, KeyedRandom

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from seer_nb.core import Config, Trial
    from seer_nb.core.state import State


FIRST_GAIN = 1.0
"""Expected gain of the second epoch before any trial has reported it, in standard deviations of first values."""
TRIAL_SIGMA = 0.4
"""Standard deviation, over trials, of the logarithm of their gains."""
EPOCH_SIGMA = 0.3
"""Standard deviation, over epochs of one trial, of the logarithm of gains."""
RECENT_EPOCHS = 2
"""Number of last epochs over which a trial's gain is averaged."""
DECAY_POWER = 1.5
"""Power of the number of epochs with which gains fall beyond the known curves, so that curves converge."""
FUTURE_SIGMA = 0.8
"""Standard deviation, over futures, of the logarithm of gains when only first epochs are known."""
MIN_REST = 0.05
"""Least further gain, as a share of the gap between the best and the median trial."""
GAIN_HORIZON = 10
"""Ratio of later to past epochs over which a gain may continue."""
PLASTIC_RATIO = 1.324717957244746
"""The plastic ratio, the real solution of x^3 = x + 1."""
LOG_OFFSET = 0.3
"""Offset of the logarithmic scale for an error of zero, as a share of the least error seen."""
BEST_OF = 3
"""Number of random configurations of which a proposed one counts as the best."""
NEW_TRIAL_SIGMA = 0.3
"""Standard deviation of a new trial's first value about its donor's, as a share of that of all first values."""


class StudyFit:
    """The results of a study so far, as a basis for extrapolated worlds.

    Args:
        state: State of the study.
        epoch_seconds: Seconds of an epoch on one worker; None: as measured.

    Raises:
        ValueError: No epoch has been timed, and ``epoch_seconds`` is None.
    """

    def __init__(self, state: State, epoch_seconds: float | None = None) -> None:
        scaling = state.speed.estimate()
        self.stall_s, self.speedup = scaling.stall_s, scaling.speedup
        self.sign = -1.0 if state.settings.mode == "max" else 1.0
        known = [trial for trial in state.trials.values() if trial.curve]
        measured_s = scaling.epoch_s if scaling.epoch_s is not None else epoch_seconds
        if measured_s is None:
            raise ValueError("epoch_seconds=None: no epoch has been timed; expected seconds")
        self.epoch_s = measured_s if epoch_seconds is None else epoch_seconds
        factor = self.epoch_s / max(measured_s, 1e-9)
        self.epoch_s_by_trial = {trial.id: factor * self._single_worker_epoch_s(trial) for trial in known}
        """Seconds of an epoch on one worker by trial."""
        losses = {trial.id: self._losses(trial) for trial in known}
        self.scale = _Scale(losses.values(), self.sign)
        self.curves = {trial: [self.scale.to_scale(loss) for loss in curve] for trial, curve in losses.items()}
        """Known losses by trial, on the scale."""
        self.donors = sorted(self.curves.values(), key=lambda losses: losses[-1])
        """The same curves, best first; new trials resemble one of them."""
        self.seconds = sorted(self.epoch_s_by_trial.values())
        self.gains = _Gains(self.donors)

    def _single_worker_epoch_s(self, trial: Trial) -> float:
        return fmean(report.seconds * self.speedup(report.parallelism) for report in trial.curve)

    def _losses(self, trial: Trial) -> list[float]:
        return [math.inf if report.value is None else self.sign * report.value for report in trial.curve]


class ExtrapolatedWorld:
    """A possible continuation of training. Different seeds give different, equally likely futures.

    A trial's next gain follows from its last gains, in the ratio that is seen on average. Beyond the longest curve,
    gains fall with the number of epochs.

    Args:
        fit: The results so far.
        seed: Seed of all randomness; seeds from 0 on cover the uncertainty evenly.
    """

    def __init__(self, fit: StudyFit, seed: int) -> None:
        self.conditions = Conditions(stall_seconds=fit.stall_s, spread=0.1)
        self.random = KeyedRandom(seed)
        self._fit = fit
        self._rng = np.random.default_rng([seed, 3])
        self._epoch_s = dict(fit.epoch_s_by_trial)
        self._curves: dict[int, list[float]] = {}
        """Continued curves by trial."""
        self._first_gain = fit.gains.first(_quasi_normal(seed, 1))
        self._least = fit.gains.least(_quasi_normal(seed, 1), _quasi_normal(seed, 2))
        """Lower bound of all curves: without it, the best of many randomly continued curves would be too good."""
        self._proposed: set[int] = set()

    def draw(self, number: int, trials: Mapping[int, Trial], *, proposed: bool) -> Config | None:  # noqa: ARG002
        """Return an empty configuration; its values do not matter here."""
        if proposed:
            self._proposed.add(number)
        return {}

    def report(self, trial: int, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """Return a known value, or one that continues the curve."""
        losses = self._curve(trial)
        while len(losses) < epoch:
            losses.append(max(self._least, self._next(losses)))
        loss = self._fit.scale.from_scale(losses[epoch - 1])
        return (self._fit.sign * loss if math.isfinite(loss) else None), {}

    def epoch_seconds(self, trial: int, parallelism: int, epoch: int) -> float:  # noqa: ARG002 - all epochs are alike
        """Return the mean of the trial's known epochs, or that of another trial."""
        if trial not in self._epoch_s:
            seconds = self._fit.seconds
            drawn = seconds[int(self._rng.integers(len(seconds)))] if seconds else self._fit.epoch_s
            self._epoch_s[trial] = drawn
        return self._epoch_s[trial] / self._fit.speedup(parallelism)

    def _curve(self, trial: int) -> list[float]:
        if trial not in self._curves:
            known = self._fit.curves.get(trial)
            self._curves[trial] = self._new(self._rank(trial)) if known is None else list(known)
        return self._curves[trial]

    def _rank(self, trial: int) -> int:
        tries = BEST_OF if trial in self._proposed else 1
        return int(self._rng.integers(max(1, len(self._fit.donors)), size=tries).min())

    def _new(self, rank: int) -> list[float]:
        """Return the first loss of a new trial: that of a known one, with noise."""
        if not self._fit.donors:
            return [float(self._rng.normal())]
        donor = self._fit.donors[rank]
        return [max(self._least, donor[0] + self._fit.gains.new_trial_sigma * float(self._rng.normal()))]

    def _next(self, losses: Sequence[float]) -> float:
        epoch = len(losses)
        if epoch == 1:
            pace = float(np.exp(TRIAL_SIGMA * self._rng.normal()))
            return losses[0] - pace * self._first_gain
        # Averaged over two epochs if possible, because single gains are noisy.
        span = min(RECENT_EPOCHS, epoch - 1)
        gain = (losses[-1 - span] - losses[-1]) / span
        if not math.isfinite(gain):
            return losses[-1]
        return losses[-1] - max(0.0, gain) * self._fit.gains.gain_ratio(epoch) * float(
            np.exp(EPOCH_SIGMA * self._rng.normal())
        )


def _quasi_normal(seed: int, which: int) -> float:
    """Return a normal quantile for a seed; the quantiles of seeds 0, 1, ... are spread evenly.

    A few futures must cover the uncertainty. Source: the additive recurrence in two dimensions by powers of the inverse
    plastic ratio (Roberts 2018).
    """
    return NormalDist().inv_cdf((0.5 + (seed + 1) * PLASTIC_RATIO**-which) % 1.0)


def natural_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of a metric, guessed from its values: shares lie between 0 and 1, losses above 0."""
    if not values or min(values) < 0:
        return -math.inf, math.inf
    return 0.0, 1.0 if max(values) <= 1 else math.inf


class _Scale:
    """The scale on which curves are continued: logarithmic above the least possible loss, if there is one.

    On it, a constant gain reduces the remaining error by a constant share.

    Args:
        curves: Losses by trial.
        sign: Factor from a value to a loss.
    """

    def __init__(self, curves: Iterable[Sequence[float]], sign: float) -> None:
        values = [sign * loss for curve in curves for loss in curve if math.isfinite(loss)]
        low, high = natural_range(values)
        bounded = (low if sign > 0 else -high) > -math.inf
        self._least = (low if sign > 0 else -high) if bounded else None
        errors = [value - low if sign > 0 else high - value for value in values] if bounded else []
        self._offset = LOG_OFFSET * min((error for error in errors if error > 0), default=1.0)

    def to_scale(self, loss: float) -> float:
        """Convert a loss."""
        return loss if self._least is None or loss == math.inf else math.log(loss - self._least + self._offset)

    def from_scale(self, place: float) -> float:
        """Convert back to a loss."""
        if self._least is None or place == math.inf:
            return place
        return max(self._least, math.exp(place) - self._offset + self._least)


class _Gains:
    """Average decreases of the loss from one epoch to the next.

    Args:
        curves: Losses on the scale.
    """

    def __init__(self, curves: Sequence[Sequence[float]]) -> None:
        longest = max(map(len, curves), default=0)
        pairs = ([c[e - 1] - c[e] for c in curves if len(c) > e and math.isfinite(c[e])] for e in range(1, longest))
        self._seen = [fmean(gains) if gains else 0.0 for gains in pairs]
        firsts = [curve[0] for curve in curves if math.isfinite(curve[0])]
        self._spread = pstdev(firsts) if len(firsts) > 1 else 1.0
        self.new_trial_sigma = NEW_TRIAL_SIGMA * self._spread
        """Standard deviation of a new trial's first loss about its donor's."""
        finite = [curve for curve in curves if math.isfinite(min(curve))]
        self._best = min(finite, key=min, default=())
        self._bests = sorted(map(min, finite))

    def first(self, quantile: float) -> float:
        """Return the gain from the first epoch to the second.

        Args:
            quantile: Normal quantile of gains that no trial has shown.
        """
        return self._seen[0] if self._seen else FIRST_GAIN * self._spread * math.exp(FUTURE_SIGMA * quantile)

    def least(self, quantile: float, other: float) -> float:
        """Return the best loss so far, minus the further gain of its trial.

        Args:
            quantile: Normal quantile of gains that no trial has shown.
            other: Normal quantile of the other gains.
        """
        best, bests = self._best, self._bests
        if not best:
            return -math.inf
        usual = MIN_REST * (bests[len(bests) // 2] - bests[0])
        if len(best) == 1:
            # Only the spread of first values is known.
            return best[0] - max(self.first(quantile), bests[-1] - bests[0], usual) * math.exp(
                0.5 + FUTURE_SIGMA * other
            )
        span = min(RECENT_EPOCHS, len(best) - 1)
        gain = max(0.0, (best[-1 - span] - best[-1]) / span) * math.log(GAIN_HORIZON)
        return min(best) - max(gain, usual) * math.exp(TRIAL_SIGMA * other)

    def gain_ratio(self, epoch: int) -> float:
        """Return the expected ratio of the gain after an epoch to the gain before it."""
        if epoch < len(self._seen) and self._seen[epoch - 2] > 0:
            return min(1.0, max(0.0, self._seen[epoch - 1] / self._seen[epoch - 2]))
        return float(((epoch - 1) / epoch) ** DECAY_POWER)
