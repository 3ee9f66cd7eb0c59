"""Who has reported which rung, in what order: kept from one decision to the next, since few trials change between."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from typing import TYPE_CHECKING

from seer_nb.core.curve import value_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core.model import Snapshot, Trial

LOOK = 0.5
"""A curve is thought to go on as it went since half its epochs, for so much of the way to the next rung, in log
epochs (measured on real curves: twice as far does harm)."""


class Standing:
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
        before: Standing | None = None,
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

    def _follows(self, before: Standing) -> bool:
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
