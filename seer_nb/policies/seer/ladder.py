"""SEER's ladder: how many trials may pass each rung, who stands where, and whose verdict is certain."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.curve import value_at
from seer_nb.core.planner import Leg
from seer_nb.policies._rungs import alone_s, busy_s, epoch_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core import Snapshot, Trial


LOOK = 0.5
"""A curve is thought to go on as it went since half its epochs, for so much of the way to the next rung, in log
epochs (measured on real curves: twice as far does harm)."""


class Rankings:
    """Trials on rungs. What it says follows from the trials' curves alone.

    Args:
        snapshot: What there is.
        epochs: The rungs, ascending.
        slopes: Whether trials are ranked by where their curves lead, or by their last value.
        before: An earlier one of the same study, if there is one: then only what has changed since is looked at.
        counts: Only count, without ranks: for plans that ask how many, not who.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        epochs: Sequence[int],
        *,
        slopes: bool = False,
        before: Rankings | None = None,
        counts: bool = False,
    ) -> None:
        self.epochs = tuple(epochs)
        self.slopes = slopes
        self.counts = counts
        self.mode = snapshot.mode
        self._sign = -1.0 if snapshot.mode == "max" else 1.0
        self._trials = snapshot.trials
        self.trials = {trial.id: trial for trial in snapshot.trials}
        self.ranks: list[list[tuple[float, int]]] = [[] for _ in epochs]
        """By rung: (score, trial) of those that have reported it and have not failed, best first; equal ones in order
        of their numbers."""
        self.above = [0] * len(epochs)
        """By rung: how many have reported it, those that failed later included."""
        self.below: list[set[int]] = [set() for _ in range(len(epochs) + 1)]
        """By rung: trials that have more epochs than the rung before (or none) and fewer than the rung has."""
        if before is None or not self._follows(before):
            for trial in snapshot.trials:
                self._enter(trial, -1)

    def score(self, trial: Trial, k: int) -> float:
        """The lower the better: the value at rung k, extrapolated if the curve still gets better."""
        epoch = self.epochs[k]
        value = self.value(trial, epoch)
        if not self.slopes or epoch == 1 or k + 1 == len(self.epochs) or value == math.inf:
            return value
        half = epoch // 2
        gain = min(0.0, value - self.value(trial, half)) / math.log(epoch / half)
        ahead = LOOK * math.log(self.epochs[k + 1] / epoch)
        return value + ahead * gain if gain > -math.inf else value

    def value(self, trial: Trial, epoch: int) -> float:
        """The lower the better; infinite if it was not finite."""
        value = value_at(trial.curve, epoch - 1)
        return math.inf if value is None else self._sign * value

    def _follows(self, before: Rankings) -> bool:
        """Take over what was known, if that can be done."""
        if (before.epochs, before.slopes, before.mode) != (self.epochs, self.slopes, self.mode):
            return False
        old, new = before._trials, self._trials
        changed = [(a, b) for a, b in zip(old, new, strict=False) if a is not b]
        failed = any(b.state == "failed" and a.state != "failed" for a, b in changed)
        if len(new) < len(old) or failed or any(a.id != b.id for a, b in changed):
            return False
        self.ranks = [list(row) for row in before.ranks]
        self.above = list(before.above)
        self.below = [set(row) for row in before.below]
        for a, b in changed:
            if len(b.curve) != len(a.curve):
                self._enter(b, len(a.curve))
        for trial in new[len(old) :]:
            self._enter(trial, -1)
        return True

    def _enter(self, trial: Trial, since: int) -> None:
        """Count a trial that had so many epochs before; -1: it is new."""
        epoch = len(trial.curve)
        k, was = bisect_right(self.epochs, epoch), bisect_right(self.epochs, since)
        if since >= 0:
            self.below[was].discard(trial.id)
        if not k or epoch > self.epochs[k - 1]:
            self.below[k].add(trial.id)
        for rung in range(was, k):
            self.above[rung] += 1
            if trial.state != "failed" and not self.counts:
                insort(self.ranks[rung], (self.score(trial, rung), trial.id))


SLOW = 2.0
"""Whose epochs take so many times as long as the average is not waited for."""
OUT = 2
"""A trial is eliminated when it ranks beyond so many times the places: until then a slack budget may still keep it."""


class Place(NamedTuple):
    """A trial that waits at a rung."""

    trial: Trial
    rank: int
    """From 1, among all that reported the rung."""
    reported: int
    """How many have."""
    places: int
    """How many go on from the rung."""

    @property
    def out(self) -> bool:
        """Whether it is eliminated."""
        return self.rank > OUT * self.places and not self.trial.pinned


class Ladder:
    """Where the trials of a snapshot stand on the rungs of successive halving.

    With n configurations to start, max(1, floor(n / eta^k)) go on to rung k, and never more than can be started: a
    larger n than that keeps more survivors.

    Args:
        snapshot: What there is.
        epochs: The rungs, ascending; the last is the top.
        eta: One in so many goes on from a rung.
        startable: Configurations that can be started in all.
        first: From so many reports of the first rung on the best of those that have reported go on, before the others
            have; None: only those whose place is certain.
        standing: Where the trials stand on these rungs.
    """

    def __init__(  # noqa: PLR0913 - two of them say how, four say what
        self,
        snapshot: Snapshot,
        epochs: Sequence[int],
        eta: int,
        startable: int,
        *,
        first: int | None = None,
        standing: Rankings | None = None,
    ) -> None:
        self.epochs = tuple(epochs)
        self.eta = eta
        self.startable = startable
        self.first = first
        self.started = len(snapshot.trials)
        self.standing = standing or Rankings(snapshot, epochs)
        self.trials = self.standing.trials
        self._snapshot = snapshot
        self._until = {gang.trial: gang.until for gang in snapshot.gangs}
        self._gangs = {gang.trial: gang for gang in snapshot.gangs}
        self._count()

    @property
    def top(self) -> int:
        """The last rung."""
        return self.epochs[-1]

    @property
    def largest(self) -> int:
        """The n with which every configuration goes to the top."""
        size: int = self.eta ** (len(self.epochs) - 1)
        return max(1, self.startable) * size

    def before(self, k: int) -> int:
        """The rung before rung k, in epochs."""
        return self.epochs[k - 1] if k else 0

    def rung(self, epoch: int) -> int | None:
        """Index of the first rung above an epoch; None at the top."""
        k = bisect_right(self.epochs, epoch)
        return k if k < len(self.epochs) else None

    def allowed(self, n: int, k: int) -> int:
        """How many of n trials are trained to rung k."""
        size = self.eta**k
        share: int = (n + size // 2) // size
        return max(1, min(self.startable, share))

    def left(self, n: int, k: int) -> int:
        """How many of them have not reported rung k yet."""
        return max(0, self.allowed(n, k) - self.passed[k])

    def leg(self, n: int, k: int, less: int = 0) -> Leg:
        """The way to rung k for those left, less so many that are dealt with elsewhere."""
        left = max(0, self.left(n, k) - less)
        epochs = self.epochs[k] - self.before(k)
        return Leg(left, max(0.0, epochs - self.progress[k] / left) if left else epochs)

    def through(self, n: int, k: int) -> int:
        """The rung that whoever is on the way to rung k is sure to reach: where all go on, there is no verdict."""
        while k + 1 < len(self.epochs) and self.allowed(n, k + 1) >= max(self.allowed(n, k), self.begun[k]):
            k += 1
        return k

    def room(self, n: int, k: int) -> int:
        """How many more may begin to be trained to rung k."""
        return max(0, self.allowed(n, k) - self.begun[k])

    def due(self, n: int, k: int) -> int:
        """How many may be promoted to rung k > 0 at once, the best first."""
        places, expected, passed = self.allowed(n, k), self.allowed(n, k - 1), self.passed[k - 1]
        # Whoever is in the places whatever the others still report.
        due = places - max(0, expected - passed - self.slow[k - 1])
        if k == 1 and self.first is not None and passed >= self.first:
            # The share of the places of those that have reported.
            due = max(due, places * passed // max(passed, expected))
        return max(0, due - self.begun[k])

    def surplus(self, n: int, k: int) -> int:
        """How many more are on their way to rung k than n configurations allow."""
        return self.begun[k] - max(self.allowed(n, k), self.passed[k])

    def weakest(self, k: int, count: int) -> list[int]:
        """Trials on their way to rung k, running or interrupted, the weakest first; those that are pinned stay."""
        on_the_way = (t for t in map(self.trials.__getitem__, self._on_the_way[k]) if t.alive and not t.pinned)
        return [trial.id for trial in reversed(self.strongest(on_the_way))][:count]

    def strongest(self, trials: Iterable[Trial]) -> list[Trial]:
        """Trials by the rung that they passed last, the highest first, and there by their value."""
        keyed = []
        for trial in trials:
            passed = bisect_right(self.epochs, len(trial.curve))
            keyed.append((-passed, self.standing.score(trial, passed - 1) if passed else 0.0, trial.id, trial))
        return [trial for *_, trial in sorted(keyed, key=lambda each: each[:3])]

    def waiting(self, n: int, k: int) -> list[Place]:
        """The trials paused at rung k, best first."""
        ranks, trials, until = self.standing.ranks[k], self.trials, self._until
        places, reported, epoch = self.allowed(n, k + 1), len(ranks), self.epochs[k]
        return [
            Place(trial, rank, reported, places)
            for rank, (_, number) in enumerate(ranks, 1)
            if (trial := trials[number]).state == "paused" and len(trial.curve) == epoch and number not in until
        ]

    def interrupted(self) -> list[tuple[Trial, int]]:
        """Trials paused between two rungs, the strongest first, each with the index of the rung it was going to."""
        between = (self.trials[number] for numbers in self.standing.below for number in numbers)
        waiting = (trial for trial in between if trial.state == "paused" and trial.id not in self._until)
        found = ((trial, self.rung(trial.epoch)) for trial in self.strongest(waiting))
        return [(trial, k) for trial, k in found if k is not None]

    # --- counts ---

    def _count(self) -> None:
        rungs, standing, trials = len(self.epochs), self.standing, self.trials
        on_the_way = [set(numbers) for numbers in standing.below[:rungs]]
        for number, until in self._until.items():
            epoch = len(trials[number].curve)
            k = bisect_right(self.epochs, epoch)
            if k < rungs and until > epoch:
                on_the_way[k].add(number)
        self._on_the_way = on_the_way
        """By rung: trials that have begun the way to it; the way to the first begins with the start."""
        lost = [sum(not trials[number].alive for number in numbers) for numbers in on_the_way]
        self.passed = [above + count for above, count in zip(standing.above, lost, strict=True)]
        """By rung: how many have reported it, or never will."""
        self.begun = [above + len(numbers) for above, numbers in zip(standing.above, on_the_way, strict=True)]
        """By rung: how many have begun the way to it."""
        self.slow = [sum(self._is_slow(number) for number in numbers) for numbers in on_the_way]
        """By rung: how many of those are on their way for so long that nobody waits for their verdict."""

    def _is_slow(self, number: int) -> bool:
        gang, mean_s = self._gangs.get(number), self._snapshot.scaling.epoch_s
        if gang is None or mean_s is None:
            return False
        known_s = alone_s(self._snapshot, self.trials[number]) or 0.0
        return max(known_s, busy_s(self._snapshot, gang)) > SLOW * mean_s

    @cached_property
    def progress(self) -> list[float]:
        """By rung: epochs that those on the way to it have behind them."""
        parts = {gang.trial: epoch_part(self._snapshot, gang) for gang in self._snapshot.gangs}
        return [
            sum(
                len(trial.curve) - self.before(k) + parts.get(trial.id, 0.0)
                for trial in (self.trials[number] for number in sorted(numbers))
                if trial.alive
            )
            for k, numbers in enumerate(self._on_the_way)
        ]
