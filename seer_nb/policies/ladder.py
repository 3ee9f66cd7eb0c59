"""SEER's ladder: how many trials may pass each rung, who stands where, and whose verdict is certain."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.planner import Leg
from seer_nb.policies.rungs import epoch_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core.model import Snapshot, Trial

OUT = 2
"""A trial is eliminated when it ranks beyond so many times the places: until then a slack budget may still keep it."""
LOOK = 0.5
"""A curve is thought to go on as it went since half its epochs, for so much of the way to the next rung, in log
epochs (measured on real curves: twice as far does harm)."""


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
        slopes: Whether trials are ranked by where their curves lead, or by their last value.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        epochs: Sequence[int],
        eta: int,
        startable: int,
        *,
        first: int | None = None,
        slopes: bool = False,
    ) -> None:
        self.epochs = tuple(epochs)
        self.eta = eta
        self.startable = startable
        self.first = first
        self.slopes = slopes
        self.started = len(snapshot.trials)
        self._sign = -1.0 if snapshot.mode == "max" else 1.0
        self._trials = snapshot.trials
        self._until = {gang.trial: gang.until for gang in snapshot.gangs}
        self._parts = {gang.trial: epoch_part(snapshot, gang) for gang in snapshot.gangs}
        self._orders: dict[int, list[Trial]] = {}
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
        return next((k for k, rung in enumerate(self.epochs) if rung > epoch), None)

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
        due = places - max(0, expected - passed)
        if k == 1 and self.first is not None and passed >= self.first:
            # The share of the places of those that have reported.
            due = max(due, places * passed // max(passed, expected))
        return max(0, due - self.begun[k])

    def surplus(self, n: int, k: int) -> int:
        """How many more are on their way to rung k than n configurations allow."""
        return self.begun[k] - max(self.allowed(n, k), self.passed[k])

    def weakest(self, k: int, count: int) -> list[int]:
        """Trials on their way to rung k, running or interrupted, the weakest first; those that are pinned stay."""
        on_the_way = (t for t in self._trials if self._between(t) and self.rung(t.epoch) == k and not t.pinned)
        return [trial.id for trial in reversed(self.strongest(on_the_way))][:count]

    def strongest(self, trials: Iterable[Trial]) -> list[Trial]:
        """Trials by the rung that they passed last, the highest first, and there by their value."""
        keyed = []
        for trial in trials:
            passed = bisect_right(self.epochs, len(trial.curve))
            keyed.append((-passed, self._score(trial, passed - 1) if passed else 0.0, trial.id, trial))
        return [trial for *_, trial in sorted(keyed, key=lambda each: each[:3])]

    def waiting(self, n: int, k: int) -> list[Place]:
        """The trials paused at rung k, best first."""
        order = self._order(k)
        places = self.allowed(n, k + 1)
        reported, epoch = len(order), self.epochs[k]
        return [
            Place(trial, rank, reported, places)
            for rank, trial in enumerate(order, 1)
            if trial.state == "paused" and len(trial.curve) == epoch and trial.id not in self._until
        ]

    def at_top(self, last: int) -> list[Trial]:
        """Trials paused at the top or beyond, before a last epoch, best first."""
        at = (t for t in self._trials if t.state == "paused" and self.top <= t.epoch < last)
        return sorted(at, key=lambda t: (self._value(t, self.top), t.id))

    def interrupted(self) -> list[tuple[Trial, int]]:
        """Trials paused between two rungs, the strongest first, each with the index of the rung it was going to."""
        waiting = (t for t in self._trials if self._between(t) and t.id not in self._until)
        found = ((trial, self.rung(trial.epoch)) for trial in self.strongest(waiting))
        return [(trial, k) for trial, k in found if k is not None]

    # --- ranks ---

    def _order(self, k: int) -> list[Trial]:
        """Trials that have reported rung k and have not failed, best first; equal ones in order of their numbers."""
        if k not in self._orders:
            epoch = self.epochs[k]
            reported = {t.id: t for t in self._trials if len(t.curve) >= epoch and t.state != "failed"}
            keys = sorted((self._score(trial, k), number) for number, trial in reported.items())
            self._orders[k] = [reported[number] for _, number in keys]
        return self._orders[k]

    def _value(self, trial: Trial, epoch: int) -> float:
        value = trial.curve[epoch - 1].value
        return math.inf if value is None else self._sign * value

    def _score(self, trial: Trial, k: int) -> float:
        """The lower the better: the value at rung k, extrapolated if the curve still gets better."""
        epoch = self.epochs[k]
        value = self._value(trial, epoch)
        if not self.slopes or epoch == 1 or k + 1 == len(self.epochs) or value == math.inf:
            return value
        half = epoch // 2
        gain = min(0.0, value - self._value(trial, half)) / math.log(epoch / half)
        ahead = LOOK * math.log(self.epochs[k + 1] / epoch)
        return value + ahead * gain if gain > -math.inf else value

    # --- counts ---

    def _between(self, trial: Trial) -> bool:
        """Whether it trains, or was interrupted on its way to a rung."""
        return trial.id in self._until or (trial.state == "paused" and len(trial.curve) not in self.epochs)

    def _count(self) -> None:
        """By rung: how many have reported it or never will, have begun the way to it, and their epochs on that way."""
        rungs = len(self.epochs)
        reached, on_the_way, lost = ([0] * (rungs + 1) for _ in range(3))
        progress = [0.0] * (rungs + 1)
        for trial in self._trials:
            epoch = len(trial.curve)
            k = bisect_right(self.epochs, epoch)
            reached[k] += 1
            # To rung k; the way to the first begins with the start.
            if not k or epoch > self.epochs[k - 1] or self._until.get(trial.id, 0) > epoch:
                on_the_way[k] += 1
                lost[k] += not trial.alive
                if trial.alive:
                    progress[k] += epoch - self.before(k) + self._parts.get(trial.id, 0.0)
        above = [sum(reached[k + 1 :]) for k in range(rungs)]
        self.passed = [count + more for count, more in zip(above, lost, strict=False)]
        """By rung: how many have reported it, or never will."""
        self.begun = [count + more for count, more in zip(above, on_the_way, strict=False)]
        """By rung: how many have begun the way to it."""
        self.progress = progress
        """By rung: epochs that those on the way to it have behind them."""
