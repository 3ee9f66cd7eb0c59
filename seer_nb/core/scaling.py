"""Estimates of training speed: epoch time, speedup s(p), stalls and boots, from a prior and from measurements.

The speedup is s(p) = p / (1 + c (p - 1)), where c is the share of an epoch that does not shrink with more workers: the
serial fraction of Amdahl (1967). c = 0.15 fits measured data-parallel training of common vision models on up to 8 GPUs.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

from seer_nb.core.policy import Scaling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core.curve import Report


PRIOR_OVERHEAD = 0.15
"""Prior of c."""
PRIOR_EPOCHS = 2.0
"""Weight of the prior, in epochs measured at p > 1."""
OUTLIER = 5.0
"""Ratio to the usual epoch time from which an epoch is an outlier: its worker was suspended rather than slow."""
MOST_OVERHEAD = 5.0
"""Largest c that one measurement may contribute."""
RECENT = 20
"""Number of latest stalls and boots that are averaged."""


Sum: TypeAlias = tuple[int, float]
"""(number of epochs, their total seconds)."""


class Measurements(NamedTuple):
    """All measurements of a tracker, as plain data that can be stored."""

    priors: tuple[float, float]
    """Prior seconds of a boot and of a stall."""
    stalls: list[float]
    boots: list[float]
    trials: dict[int, tuple[Sum, dict[int, Sum]]]
    """By trial: epochs on one worker, and epochs in gangs by parallelism."""
    alone: Sum
    """Epochs on one worker, of all trials."""
    together: dict[int, Sum]
    """Epochs in gangs by parallelism, of all trials."""


class _Trial:
    """Epochs of one trial, on one worker and in gangs by parallelism."""

    __slots__ = ("alone", "together")

    def __init__(self) -> None:
        self.alone = (0, 0.0)
        self.together: dict[int, tuple[int, float]] = {}


class SpeedTracker:
    """Collects measurements of speed, and estimates what a planner may assume.

    Args:
        boot_s: Prior seconds of a boot.
        stall_s: Prior seconds of a stall, the time between a gang's start and its first step.
    """

    def __init__(self, boot_s: float, stall_s: float = 0.5) -> None:
        self._prior_boot_s = boot_s
        self._prior_stall_s = stall_s
        self._stalls: deque[float] = deque(maxlen=RECENT)
        self._boots: deque[float] = deque(maxlen=RECENT)
        self._trials: dict[int, _Trial] = {}
        self._alone = (0, 0.0)
        self._together: dict[int, tuple[int, float]] = {}
        self._both: set[int] = set()
        """Trials that trained in gangs."""
        self._estimate: Scaling | None = None

    @property
    def measurements(self) -> Measurements:
        """All measurements."""
        trials = {number: (trial.alone, trial.together) for number, trial in self._trials.items()}
        priors = self._prior_boot_s, self._prior_stall_s
        return Measurements(priors, [*self._stalls], [*self._boots], trials, self._alone, self._together)

    @classmethod
    def from_measurements(cls, seen: Measurements) -> Self:
        """Return a tracker with the given measurements."""
        tracker = cls(*seen.priors)
        tracker._stalls.extend(seen.stalls)
        tracker._boots.extend(seen.boots)
        for number, (alone, together) in seen.trials.items():
            trial = tracker._trials[number] = _Trial()
            trial.alone, trial.together = alone, together
        tracker._alone, tracker._together = seen.alone, seen.together
        tracker._both = {number for number, (_, together) in seen.trials.items() if together}
        return tracker

    def epoch(self, trial: int, parallelism: int, seconds: float) -> None:
        """Add an epoch of a trial."""
        self._estimate = None
        seen = self._trials.setdefault(trial, _Trial())
        seconds = _clipped(seen.alone if parallelism == 1 else seen.together.get(parallelism, (0, 0.0)), seconds)
        if parallelism == 1:
            seen.alone = _add(seen.alone, seconds)
            self._alone = _add(self._alone, seconds)
        else:
            self._both.add(trial)
            seen.together[parallelism] = _add(seen.together.get(parallelism, (0, 0.0)), seconds)
            self._together[parallelism] = _add(self._together.get(parallelism, (0, 0.0)), seconds)

    def stall(self, seconds: float) -> None:
        """Add a stall: seconds from the decision to start a gang until its first step."""
        self._estimate = None
        self._stalls.append(max(0.0, seconds))

    def boot(self, seconds: float) -> None:
        """Add a boot: seconds from renting a machine until it was ready."""
        self._estimate = None
        self._boots.append(max(0.0, seconds))

    def estimate(self) -> Scaling:
        """Return the current estimate."""
        if self._estimate is None:
            self._estimate = self._fit()
        return self._estimate

    def _fit(self) -> Scaling:
        overhead = self._overhead()
        return Scaling(
            epoch_s=self._epoch_s(overhead),
            overhead=overhead,
            stall_s=fmean(self._stalls) if self._stalls else self._prior_stall_s,
            boot_s=fmean(self._boots) if self._boots else self._prior_boot_s,
        )

    def _overhead(self) -> float:
        """Return the mean of c over trials that trained both alone and in gangs, weighted by epochs, with the prior."""
        weight, total = PRIOR_EPOCHS, PRIOR_EPOCHS * PRIOR_OVERHEAD
        for trial in (self._trials[number] for number in sorted(self._both)):
            if not trial.alone[0]:
                continue
            alone_s = trial.alone[1] / trial.alone[0]
            for parallelism, (count, seconds) in trial.together.items():
                # t_p / t_1 = (1 + c (p - 1)) / p
                ratio = (seconds / count) / max(alone_s, 1e-9)
                total += count * min(MOST_OVERHEAD, max(0.0, (ratio * parallelism - 1) / (parallelism - 1)))
                weight += count
        return total / weight

    def _epoch_s(self, overhead: float) -> float | None:
        """Return the mean seconds on one worker; epochs of gangs count with the time they would have taken alone."""
        count, seconds = self._alone
        for parallelism, (more, together_s) in self._together.items():
            count += more
            seconds += together_s * parallelism / (1 + overhead * (parallelism - 1))
        return seconds / count if count else None


def usual_s(curve: Sequence[Report]) -> float:
    """Return the seconds of the last epoch; if it is an outlier, of the one before at the same parallelism."""
    last, before = curve[-1], curve[-2] if len(curve) > 1 else curve[-1]
    outlier = last.parallelism == before.parallelism and last.seconds > OUTLIER * before.seconds > 0
    return before.seconds if outlier else last.seconds


def _clipped(seen: Sum, seconds: float) -> float:
    """Return an epoch's seconds, at most OUTLIER times the mean, so that repeated outliers still shift the estimate."""
    count, total = seen
    return min(seconds, OUTLIER * total / count) if total > 0 else seconds


def _add(old: tuple[int, float], seconds: float) -> tuple[int, float]:
    return old[0] + 1, old[1] + max(0.0, seconds)
