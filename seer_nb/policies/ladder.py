"""SEER's ladder: how many trials may pass each rung, who stands where, and whose verdict is certain."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.planner import Leg
from seer_nb.policies.rungs import ranked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core.model import Snapshot, Trial

ROUNDS = (0.5, 0.75, 1.0)
"""Survivors of the first so many configurations go up the ladder while the others are still being tried, so that a
study that is cut short has something to show, and that nobody waits for the last one."""
FIRST_ROUND = 12
"""Fewer configurations than that are no round of their own."""
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
    certain: bool
    """Whether it is among them whatever the others of its round still report."""

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
    """

    def __init__(self, snapshot: Snapshot, epochs: Sequence[int], eta: int, startable: int) -> None:
        self.epochs = tuple(epochs)
        self.eta = eta
        self.startable = startable
        self.started = len(snapshot.trials)
        self._mode = snapshot.mode
        self._trials = snapshot.trials
        self._until = {gang.trial: gang.until for gang in snapshot.gangs}
        self._passed, self._begun, self._progress = self._count()

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
        share: int = n // self.eta**k
        return max(1, min(self.startable, share))

    def legs(self, n: int) -> list[Leg]:
        """What is left to do if n configurations are started."""
        return [self._leg(k, max(0, self.allowed(n, k) - self._passed[k])) for k in range(len(self.epochs))]

    def through(self, n: int, k: int) -> int:
        """The rung that whoever is on the way to rung k is sure to reach: where all go on, there is no verdict."""
        while k + 1 < len(self.epochs) and self.allowed(n, k + 1) >= max(self.allowed(n, k), self._begun[k]):
            k += 1
        return k

    def room(self, n: int, k: int) -> int:
        """How many more may begin to be trained to rung k."""
        return max(0, self.allowed(n, k) - self._begun[k])

    def surplus(self, n: int, k: int) -> int:
        """How many more are on their way to rung k than n configurations allow."""
        return self._begun[k] - max(self.allowed(n, k), self._passed[k])

    def weakest(self, k: int, count: int) -> list[int]:
        """Trials on their way to rung k, running or interrupted, the weakest first; those that are pinned stay."""
        on_the_way = (t for t in self._trials if self._between(t) and self.rung(t.epoch) == k and not t.pinned)
        return [trial.id for trial in reversed(self.strongest(on_the_way))][:count]

    def strongest(self, trials: Iterable[Trial]) -> list[Trial]:
        """Trials by the rung that they passed last, the highest first, and there by their value."""
        by_rung: dict[int, list[Trial]] = {}
        for trial in trials:
            by_rung.setdefault(bisect_right(self.epochs, len(trial.curve)), []).append(trial)
        order: list[Trial] = []
        for passed in sorted(by_rung, reverse=True):
            at = by_rung[passed]
            order += ranked(at, self.epochs[passed - 1], self._mode) if passed else sorted(at, key=lambda t: t.id)
        return order

    def waiting(self, n: int, k: int) -> list[Place]:
        """The trials paused at rung k, best first."""
        order = ranked((t for t in self._trials if t.state != "failed"), self.epochs[k], self._mode)
        places = self.allowed(n, k + 1)
        certain = self._certain(n, k)
        return [
            Place(trial, rank, len(order), places, rank <= certain or trial.pinned)
            for rank, trial in enumerate(order, 1)
            if trial.epoch == self.epochs[k] and trial.state == "paused" and trial.id not in self._until
        ]

    def _certain(self, n: int, k: int) -> int:
        """The lowest rank at rung k that goes on in any case: places less those who may still come before it."""
        found = 0
        for share in ROUNDS:
            if share == 1 or int(share * min(n, self.startable)) >= FIRST_ROUND:
                of_round, places = (int(share * self.allowed(n, rung)) for rung in (k, k + 1))
                found = max(found, places - max(0, of_round - self._passed[k]))
        return found

    def interrupted(self) -> list[tuple[Trial, int]]:
        """Trials paused between two rungs, the strongest first, each with the index of the rung it was going to."""
        waiting = (t for t in self._trials if self._between(t) and t.id not in self._until)
        found = ((trial, self.rung(trial.epoch)) for trial in self.strongest(waiting))
        return [(trial, k) for trial, k in found if k is not None]

    def _between(self, trial: Trial) -> bool:
        """Whether it trains, or was interrupted on its way to a rung."""
        return trial.id in self._until or (trial.state == "paused" and trial.epoch not in self.epochs)

    def _leg(self, k: int, left: int) -> Leg:
        """The way to rung k for so many, less what those on it have behind them."""
        epochs = self.epochs[k] - self.before(k)
        return Leg(left, max(0.0, epochs - self._progress[k] / left) if left else epochs)

    def _count(self) -> tuple[list[int], list[int], list[int]]:
        """By rung: how many have reported it or never will, have begun the way to it, and their epochs on that way."""
        rungs = len(self.epochs)
        reached, on_the_way, lost, progress = ([0] * (rungs + 1) for _ in range(4))
        for trial in self._trials:
            epoch = len(trial.curve)
            k = bisect_right(self.epochs, epoch)
            reached[k] += 1
            # To rung k; the way to the first begins with the start.
            if not k or epoch > self.epochs[k - 1] or self._until.get(trial.id, 0) > epoch:
                on_the_way[k] += 1
                lost[k] += not trial.alive
                progress[k] += epoch - self.before(k) if trial.alive else 0
        above = [sum(reached[k + 1 :]) for k in range(rungs)]
        passed = [count + more for count, more in zip(above, lost, strict=False)]
        return passed, [count + more for count, more in zip(above, on_the_way, strict=False)], progress
