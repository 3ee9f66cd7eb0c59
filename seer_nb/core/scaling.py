"""How fast training goes: time of an epoch, speedup s(p), stalls and boots, from a prior and from what was seen.

The speedup law is s(p) = p / (1 + c (p - 1)): c is the share of an epoch that does not get shorter with more workers
(Amdahl's serial fraction). c = 0.15 fits measured data-parallel training of common vision models on up to 8 GPUs.
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
PRIOR_EPOCHS = 2.0
"""Weight of the prior, in epochs seen at p > 1."""
OUTLIER = 5.0
"""An epoch that took so many times as long as those before it tells of a worker that stood still, not of its speed."""
RECENT = 20
"""How many stalls and boots are remembered."""


Sum: TypeAlias = tuple[int, float]
"""(epochs, their seconds)."""


class Seen(NamedTuple):
    """What a tracker has learned from."""

    priors: tuple[float, float]
    """Seconds of a boot, and of a stall."""
    stalls: list[float]
    boots: list[float]
    trials: dict[int, tuple[Sum, dict[int, Sum]]]
    """By trial: epochs alone, and in gangs by parallelism."""
    alone: Sum
    together: dict[int, Sum]


class _Trial:
    """Epoch seconds of one trial by parallelism: (count, sum)."""

    __slots__ = ("alone", "together")

    def __init__(self) -> None:
        self.alone = (0, 0.0)
        self.together: dict[int, tuple[int, float]] = {}


class SpeedTracker:
    """Learns from reports; ``estimate`` says what a planner may assume."""

    def __init__(self, boot_s: float, stall_s: float = 0.5) -> None:
        self._prior_boot_s = boot_s
        self._prior_stall_s = stall_s
        self._stalls: deque[float] = deque(maxlen=RECENT)
        self._boots: deque[float] = deque(maxlen=RECENT)
        self._trials: dict[int, _Trial] = {}
        self._alone = (0, 0.0)
        self._together: dict[int, tuple[int, float]] = {}
        self._both: set[int] = set()
        """Trials seen in gangs."""
        self._estimate: Scaling | None = None

    @property
    def seen(self) -> Seen:
        """All that was learned from."""
        trials = {number: (trial.alone, trial.together) for number, trial in self._trials.items()}
        priors = self._prior_boot_s, self._prior_stall_s
        return Seen(priors, [*self._stalls], [*self._boots], trials, self._alone, self._together)

    @classmethod
    def of(cls, seen: Seen) -> Self:
        """One that has learned from that."""
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
        """An epoch took so long."""
        self._estimate = None
        seen = self._trials.setdefault(trial, _Trial())
        seconds = _usual(seen.alone if parallelism == 1 else seen.together.get(parallelism, (0, 0.0)), seconds)
        if parallelism == 1:
            seen.alone = _add(seen.alone, seconds)
            self._alone = _add(self._alone, seconds)
        else:
            self._both.add(trial)
            seen.together[parallelism] = _add(seen.together.get(parallelism, (0, 0.0)), seconds)
            self._together[parallelism] = _add(self._together.get(parallelism, (0, 0.0)), seconds)

    def stall(self, seconds: float) -> None:
        """A gang took so long from the decision to its first step."""
        self._estimate = None
        self._stalls.append(max(0.0, seconds))

    def boot(self, seconds: float) -> None:
        """A machine took so long to be ready."""
        self._estimate = None
        self._boots.append(max(0.0, seconds))

    def estimate(self) -> Scaling:
        """What may be assumed now."""
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
        """Mean of c over trials seen both alone and in gangs, weighted by epochs, with the prior."""
        weight, total = PRIOR_EPOCHS, PRIOR_EPOCHS * PRIOR_OVERHEAD
        for trial in (self._trials[number] for number in sorted(self._both)):
            if not trial.alone[0]:
                continue
            alone_s = trial.alone[1] / trial.alone[0]
            for parallelism, (count, seconds) in trial.together.items():
                # t_p / t_1 = (1 + c (p - 1)) / p
                ratio = (seconds / count) / max(alone_s, 1e-9)
                total += count * min(5.0, max(0.0, (ratio * parallelism - 1) / (parallelism - 1)))
                weight += count
        return total / weight

    def _epoch_s(self, overhead: float) -> float | None:
        """Mean seconds on one worker; epochs of gangs count as what they would have taken alone."""
        count, seconds = self._alone
        for parallelism, (more, together_s) in self._together.items():
            count += more
            seconds += together_s * parallelism / (1 + overhead * (parallelism - 1))
        return seconds / count if count else None


def usual_s(curve: Sequence[Report]) -> float:
    """Seconds of the last epoch; of the one before, on as many workers, where the last one is an outlier."""
    last, before = curve[-1], curve[-2] if len(curve) > 1 else curve[-1]
    strange = last.parallelism == before.parallelism and last.seconds > OUTLIER * before.seconds > 0
    return before.seconds if strange else last.seconds


def _usual(seen: Sum, seconds: float) -> float:
    """No more than an outlier's worth, so that several of them are believed in the end."""
    count, total = seen
    return min(seconds, OUTLIER * total / count) if total > 0 else seconds


def _add(old: tuple[int, float], seconds: float) -> tuple[int, float]:
    return old[0] + 1, old[1] + max(0.0, seconds)
