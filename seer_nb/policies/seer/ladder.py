"""SEER's ladder: how many trials may pass each rung, their rankings, and whose promotion is certain."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.curve import value_at
from seer_nb.core.planner import StageWork
from seer_nb.policies._rungs import epoch_in_progress_s, epoch_progress, single_worker_epoch_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core import PolicyView, Trial


EXTRAPOLATION = 0.5
"""Share of the way to the next rung, in log epochs, over which a curve is extrapolated.

The slope is that since half the trial's epochs. Measured on real curves: twice the share does harm."""
SLOW_FACTOR = 2.0
"""Ratio of a trial's epoch time to the average from which on no promotion waits for its report."""
ELIMINATION_FACTOR = 2
"""Ratio of rank to places beyond which a trial is eliminated; up to there, spare budget may still keep it."""


class Rankings:
    """The trials at each rung, in order. They follow from the trials' curves alone.

    Args:
        view: The policy view.
        epochs: The rungs, ascending.
        slopes: Whether scores are extrapolated values; otherwise the values at the rung.
        before: Earlier rankings of the same study; then only the changes since are processed.
        counts_only: Whether to count trials without ranking them, for plans that need no order.
    """

    def __init__(
        self,
        view: PolicyView,
        epochs: Sequence[int],
        *,
        slopes: bool = False,
        before: Rankings | None = None,
        counts_only: bool = False,
    ) -> None:
        self.epochs = tuple(epochs)
        self.slopes = slopes
        self.counts_only = counts_only
        self.mode = view.mode
        self._sign = -1.0 if view.mode == "max" else 1.0
        self._trials = view.trials
        self.trials = {trial.id: trial for trial in view.trials}
        self.ranks: list[list[tuple[float, int]]] = [[] for _ in epochs]
        """(score, trial id) by rung, best first, of the trials that have reported it and have not failed.

        Equal scores are ordered by trial id."""
        self.reported = [0] * len(epochs)
        """Number of trials by rung that have reported it, including those that failed later."""
        self.between: list[set[int]] = [set() for _ in range(len(epochs) + 1)]
        """Trial ids by rung whose last epoch lies between the previous rung (or the start) and this one."""
        if before is None or not self._update(before):
            for trial in view.trials:
                self._enter(trial, -1)

    def score(self, trial: Trial, k: int) -> float:
        """Return a trial's score at rung k: its value, extrapolated if the curve still improves. Lower is better."""
        epoch = self.epochs[k]
        value = self.value(trial, epoch)
        if not self.slopes or epoch == 1 or k + 1 == len(self.epochs) or value == math.inf:
            return value
        half = epoch // 2
        gain = min(0.0, value - self.value(trial, half)) / math.log(epoch / half)
        ahead = EXTRAPOLATION * math.log(self.epochs[k + 1] / epoch)
        return value + ahead * gain if gain > -math.inf else value

    def value(self, trial: Trial, epoch: int) -> float:
        """Return a trial's value at an epoch, signed so that lower is better; infinity if it was not finite."""
        value = value_at(trial.curve, epoch - 1)
        return math.inf if value is None else self._sign * value

    def _update(self, before: Rankings) -> bool:
        """Copy earlier rankings and enter the changes; return False if that is impossible."""
        if (before.epochs, before.slopes, before.mode) != (self.epochs, self.slopes, self.mode):
            return False
        old, new = before._trials, self._trials
        changed = [(a, b) for a, b in zip(old, new, strict=False) if a is not b]
        failed = any(b.state == "failed" and a.state != "failed" for a, b in changed)
        if len(new) < len(old) or failed or any(a.id != b.id for a, b in changed):
            return False
        self.ranks = [list(row) for row in before.ranks]
        self.reported = list(before.reported)
        self.between = [set(row) for row in before.between]
        for a, b in changed:
            if len(b.curve) != len(a.curve):
                self._enter(b, len(a.curve))
        for trial in new[len(old) :]:
            self._enter(trial, -1)
        return True

    def _enter(self, trial: Trial, last_epoch: int) -> None:
        """Enter a trial whose last known epoch was ``last_epoch``; -1 for a new trial."""
        epoch = len(trial.curve)
        k, was = bisect_right(self.epochs, epoch), bisect_right(self.epochs, last_epoch)
        if last_epoch >= 0:
            self.between[was].discard(trial.id)
        if not k or epoch > self.epochs[k - 1]:
            self.between[k].add(trial.id)
        for rung in range(was, k):
            self.reported[rung] += 1
            if trial.state != "failed" and not self.counts_only:
                insort(self.ranks[rung], (self.score(trial, rung), trial.id))


class Place(NamedTuple):
    """A trial that is paused at a rung, with its rank."""

    trial: Trial
    rank: int
    """Rank among all that reported the rung, from 1."""
    reported: int
    """Number of trials that reported the rung."""
    places: int
    """Number of trials that are promoted from the rung."""

    @property
    def eliminated(self) -> bool:
        """Whether the trial is eliminated."""
        return self.rank > ELIMINATION_FACTOR * self.places and not self.trial.pinned


class Ladder:
    """The rungs of successive halving, with the trials on and between them.

    With n configurations, max(1, floor(n / eta^k)) are trained to rung k, but never more than can be started. So an n
    above ``startable`` keeps more survivors.

    Args:
        view: The policy view.
        epochs: The rungs, ascending; the last one is the top.
        eta: Reduction factor.
        startable: Configurations that can be started in all.
        early_from: Number of reports at the first rung from which on the best so far are promoted before the others
            have reported; None: only trials whose promotion is certain.
        rankings: Rankings at these rungs; None: they are computed.
    """

    def __init__(  # noqa: PLR0913 - two inputs, two numbers, two options
        self,
        view: PolicyView,
        epochs: Sequence[int],
        eta: int,
        startable: int,
        *,
        early_from: int | None = None,
        rankings: Rankings | None = None,
    ) -> None:
        self.epochs = tuple(epochs)
        self.eta = eta
        self.startable = startable
        self.early_from = early_from
        self.started = len(view.trials)
        self.rankings = rankings or Rankings(view, epochs)
        self.trials = self.rankings.trials
        self._view = view
        self._until = {gang.trial: gang.until for gang in view.gangs}
        self._gangs = {gang.trial: gang for gang in view.gangs}
        self._count()

    @property
    def top(self) -> int:
        """Epochs of the last rung."""
        return self.epochs[-1]

    @property
    def largest(self) -> int:
        """The n with which every configuration is trained to the top."""
        size: int = self.eta ** (len(self.epochs) - 1)
        return max(1, self.startable) * size

    def previous_epoch(self, k: int) -> int:
        """Return the epochs of the rung before rung k; 0 for the first rung."""
        return self.epochs[k - 1] if k else 0

    def next_rung(self, epoch: int) -> int | None:
        """Return the index of the first rung above an epoch; None at the top."""
        k = bisect_right(self.epochs, epoch)
        return k if k < len(self.epochs) else None

    def allowed(self, n: int, k: int) -> int:
        """Return how many of n configurations are trained to rung k."""
        size = self.eta**k
        share: int = (n + size // 2) // size
        return max(1, min(self.startable, share))

    def left(self, n: int, k: int) -> int:
        """Return how many of them have not reported rung k."""
        return max(0, self.allowed(n, k) - self.passed[k])

    def leg(self, n: int, k: int, less: int = 0) -> StageWork:
        """Return the remaining way to rung k as a planner's stage, without ``less`` trials that another stage holds."""
        left = max(0, self.left(n, k) - less)
        epochs = self.epochs[k] - self.previous_epoch(k)
        return StageWork(left, max(0.0, epochs - self.progress[k] / left) if left else epochs)

    def certain_rung(self, n: int, k: int) -> int:
        """Return the rung that every trial on the way to rung k will reach: where all go on, none is compared."""
        while k + 1 < len(self.epochs) and self.allowed(n, k + 1) >= max(self.allowed(n, k), self.begun[k]):
            k += 1
        return k

    def promotable(self, n: int, k: int) -> int:
        """Return how many trials may be promoted to rung k > 0 now, best first."""
        places, expected, passed = self.allowed(n, k), self.allowed(n, k - 1), self.passed[k - 1]
        # These places are certain, whatever the missing trials report.
        certain = places - max(0, expected - passed - self.slow[k - 1])
        if k == 1 and self.early_from is not None and passed >= self.early_from:
            # The reported trials get their proportion of the places.
            certain = max(certain, places * passed // max(passed, expected))
        return max(0, certain - self.begun[k])

    def surplus(self, n: int, k: int) -> int:
        """Return how many more trials are on the way to rung k than n configurations allow."""
        return self.begun[k] - max(self.allowed(n, k), self.passed[k])

    def weakest(self, k: int, count: int) -> list[int]:
        """Return the ids of trials on the way to rung k, running or interrupted, weakest first, without pinned ones."""
        on_the_way = (t for t in map(self.trials.__getitem__, self._on_the_way[k]) if t.alive and not t.pinned)
        return [trial.id for trial in reversed(self.strongest(on_the_way))][:count]

    def strongest(self, trials: Iterable[Trial]) -> list[Trial]:
        """Sort trials by the last rung that they passed, highest first, then by their score at it."""
        keyed = []
        for trial in trials:
            passed = bisect_right(self.epochs, len(trial.curve))
            keyed.append((-passed, self.rankings.score(trial, passed - 1) if passed else 0.0, trial.id, trial))
        return [trial for *_, trial in sorted(keyed, key=lambda each: each[:3])]

    def waiting(self, n: int, k: int) -> list[Place]:
        """Return the trials paused at rung k, best first."""
        ranks, trials, until = self.rankings.ranks[k], self.trials, self._until
        places, reported, epoch = self.allowed(n, k + 1), len(ranks), self.epochs[k]
        return [
            Place(trial, rank, reported, places)
            for rank, (_, number) in enumerate(ranks, 1)
            if (trial := trials[number]).state == "paused" and len(trial.curve) == epoch and number not in until
        ]

    def interrupted(self) -> list[tuple[Trial, int]]:
        """Return the trials paused between two rungs, strongest first, each with the index of its next rung."""
        between = (self.trials[number] for numbers in self.rankings.between for number in numbers)
        paused = (trial for trial in between if trial.state == "paused" and trial.id not in self._until)
        found = ((trial, self.next_rung(trial.epoch)) for trial in self.strongest(paused))
        return [(trial, k) for trial, k in found if k is not None]

    # --- counts ---

    def _count(self) -> None:
        n_rungs, rankings, trials = len(self.epochs), self.rankings, self.trials
        on_the_way = [set(numbers) for numbers in rankings.between[:n_rungs]]
        for number, until in self._until.items():
            epoch = len(trials[number].curve)
            k = bisect_right(self.epochs, epoch)
            if k < n_rungs and until > epoch:
                on_the_way[k].add(number)
        self._on_the_way = on_the_way
        """Trial ids by rung that are on the way to it; the way to the first rung begins with the start."""
        lost = [sum(not trials[number].alive for number in numbers) for numbers in on_the_way]
        self.passed = [reported + count for reported, count in zip(rankings.reported, lost, strict=True)]
        """Number of trials by rung that have reported it, or have ended before it."""
        self.begun = [reported + len(numbers) for reported, numbers in zip(rankings.reported, on_the_way, strict=True)]
        """Number of trials by rung that have begun the way to it."""
        self.slow = [sum(self._is_slow(number) for number in numbers) for numbers in on_the_way]
        """Number of trials by rung on the way to it that are too slow to be waited for."""

    def _is_slow(self, number: int) -> bool:
        gang, mean_s = self._gangs.get(number), self._view.scaling.epoch_s
        if gang is None or mean_s is None:
            return False
        known_s = single_worker_epoch_s(self._view, self.trials[number]) or 0.0
        return max(known_s, epoch_in_progress_s(self._view, gang)) > SLOW_FACTOR * mean_s

    @cached_property
    def progress(self) -> list[float]:
        """Epochs by rung that the trials on the way to it have trained since the previous rung."""
        parts = {gang.trial: epoch_progress(self._view, gang) for gang in self._view.gangs}
        return [
            sum(
                len(trial.curve) - self.previous_epoch(k) + parts.get(trial.id, 0.0)
                for trial in (self.trials[number] for number in sorted(numbers))
                if trial.alive
            )
            for k, numbers in enumerate(self._on_the_way)
        ]
