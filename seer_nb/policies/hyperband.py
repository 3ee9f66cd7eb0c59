"""Hyperband (Li et al., JMLR 2018): brackets of successive halving, from many short trainings to few long ones."""

from __future__ import annotations

from bisect import bisect_left
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

from seer_nb._utils.validation import refuses_unknown
from seer_nb.core import Plan
from seer_nb.policies._rungs import WithRungs, fixed_size, kept
from seer_nb.policies._stages import standing, starts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core import Job, Snapshot, Trial, Verdict
    from seer_nb.policies._stages import Stage


class Bracket(NamedTuple):
    """One of Hyperband's jobs."""

    s: int
    """How often it eliminates."""
    first: int
    """Number of its first trial."""
    n: int
    """Configurations."""
    epochs: tuple[int, ...]
    """The rungs."""

    def standing(self, snapshot: Snapshot, eta: int) -> Stage:
        """The stage that it is in: its trials are those whose numbers are in its range."""
        trials = snapshot.trials
        low, high = (bisect_left(trials, number, key=_number) for number in (self.first, self.first + self.n))
        return standing(trials[low:high], self.n, eta, self.epochs, snapshot.mode)


class Hyperband(WithRungs):
    """Runs floor(B / (c T)) workers from start to deadline, one worker a trial.

    Brackets follow each other, s = s_max, ..., 0 and from the beginning again, until the deadline; inside a bracket
    halving is synchronous, and a worker that it has no use for begins the next one.

    Args:
        eta: One in so many goes on from a rung.

    Raises:
        ValueError: eta is below 2.
    """

    @refuses_unknown()
    def __init__(self, eta: int = 3) -> None:
        super().__init__(eta)

    def __repr__(self) -> str:
        return f"Hyperband(eta={self.eta})"

    def decide(self, snapshot: Snapshot) -> Plan:
        """Go on with the brackets that have begun, the oldest first, and begin as many as the workers are for."""
        size = fixed_size(snapshot)
        verdicts: list[Verdict] = []
        new: list[Job] = []
        free = size - sum(gang.parallelism for gang in snapshot.gangs)
        at = ""
        for bracket in self._brackets(snapshot):
            stage = bracket.standing(snapshot, self.eta)
            if not stage.members and len(new) >= free:
                break
            verdicts += stage.out
            new += islice(starts(snapshot, stage, 1), max(0, free - len(new)))
            if not at and (stage.todo or stage.new):
                at = f"bracket s={bracket.s}, {stage.size} trials to epoch {stage.until}"
        out = {verdict.trial for verdict in verdicts}
        jobs = [*(job for job in kept(snapshot) if job.trial not in out), *new]
        done = not (jobs or snapshot.gangs)
        return Plan(
            jobs=tuple(jobs),
            verdicts=tuple(verdicts),
            workers=0 if done else size,
            done=done,
            reason=f"Hyperband on {size} workers: {at}" if at else "Hyperband: every bracket is trained",
        )

    def _brackets(self, snapshot: Snapshot) -> Iterator[Bracket]:
        """All that there are configurations for."""
        first = 0
        total = len(snapshot.trials) + snapshot.waiting
        for s, n, epochs in cycle(brackets(self.eta, snapshot.max_epochs)):
            if snapshot.exhausted:
                n = min(n, total - first)  # noqa: PLW2901
                if n <= 0:
                    return
            yield Bracket(s, first, n, epochs)
            first += n


def brackets(eta: int, most: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """(s, n, rungs) of each bracket: n = ceil((s_max + 1) / (s + 1) eta^s) configurations from R eta^-s epochs.

    Args:
        eta: One in so many goes on.
        most: R, the epochs of a full training.
    """
    largest = 0
    while eta ** (largest + 1) <= most:
        largest += 1
    # Whole numbers all along: logarithms of powers are not exact. Epochs are rounded down.
    return [
        (s, -(-(largest + 1) * eta**s // (s + 1)), tuple(most // eta ** (s - i) for i in range(s + 1)))
        for s in range(largest, -1, -1)
    ]


def _number(trial: Trial) -> int:
    return trial.id
