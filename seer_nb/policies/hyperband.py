"""Hyperband (Li et al., JMLR 2018): brackets of successive halving, from many short trainings to few long ones."""

from __future__ import annotations

from bisect import bisect_left
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

from seer_nb._utils.validation import reject_unknown_arguments
from seer_nb.core import Plan
from seer_nb.policies._rungs import RungPolicy, fixed_cluster_size, running_jobs
from seer_nb.policies._stages import current_stage, startable_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core import Job, PolicyView, Trial, Verdict
    from seer_nb.policies._stages import Stage


class Bracket(NamedTuple):
    """One bracket, with the ids of its trials."""

    s: int
    """Number of eliminations."""
    first: int
    """Id of the bracket's first trial."""
    n: int
    """Number of configurations."""
    epochs: tuple[int, ...]
    """The rungs."""

    def stage(self, view: PolicyView, eta: int) -> Stage:
        """Return the bracket's current stage."""
        trials = view.trials
        low, high = (bisect_left(trials, number, key=_id) for number in (self.first, self.first + self.n))
        return current_stage(trials[low:high], self.n, eta, self.epochs, view.mode)


class Hyperband(RungPolicy):
    """Hyperband on a fixed cluster, one worker per trial.

    floor(B / (c T)) workers run from start to deadline (budget B, price c, deadline T). Brackets s = s_max, ..., 0
    follow each other, again and again. Halving is synchronous within a bracket; a worker that a bracket cannot use
    starts the next bracket.

    Source: Li et al., JMLR 2018.

    Args:
        eta: Reduction factor, at least 2: one in ``eta`` trials is promoted from a rung.

    Raises:
        TypeError: eta is not an integer.
        ValueError: eta is below 2.

    Example:
        >>> from seer_nb.policies import Hyperband
        >>> Hyperband(eta=4)
        Hyperband(eta=4)
    """

    @reject_unknown_arguments()
    def __init__(self, eta: int = 3) -> None:
        super().__init__(eta)

    def __repr__(self) -> str:
        return f"Hyperband(eta={self.eta})"

    def decide(self, view: PolicyView) -> Plan:
        """Continue the brackets that have started, oldest first, and start as many new ones as there are workers."""
        size = fixed_cluster_size(view)
        verdicts: list[Verdict] = []
        new: list[Job] = []
        free = size - sum(gang.parallelism for gang in view.gangs)
        at = ""
        for bracket in self._brackets(view):
            stage = bracket.stage(view, self.eta)
            if not stage.members and len(new) >= free:
                break
            verdicts += stage.verdicts
            new += islice(startable_jobs(view, stage, 1), max(0, free - len(new)))
            if not at and (stage.unfinished or stage.n_new):
                at = f"bracket s={bracket.s}, {stage.size} trials to epoch {stage.until}"
        out = {verdict.trial for verdict in verdicts}
        jobs = [*(job for job in running_jobs(view) if job.trial not in out), *new]
        done = not (jobs or view.gangs)
        return Plan(
            jobs=tuple(jobs),
            verdicts=tuple(verdicts),
            workers=0 if done else size,
            done=done,
            reason=f"Hyperband on {size} workers: {at}" if at else "Hyperband: every bracket is trained",
        )

    def _brackets(self, view: PolicyView) -> Iterator[Bracket]:
        """Yield the brackets in order, as many as there are configurations."""
        first = 0
        total = len(view.trials) + view.waiting
        for s, full, epochs in cycle(brackets(self.eta, view.max_epochs)):
            n = min(full, total - first) if view.exhausted else full
            if n <= 0:
                return
            yield Bracket(s, first, n, epochs)
            first += n


def brackets(eta: int, max_epochs: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return (s, n, rungs) of each bracket: n = ceil((s_max + 1) / (s + 1) eta^s), first rung R eta^-s epochs.

    Args:
        eta: Reduction factor.
        max_epochs: R, the epochs of a full training.
    """
    s_max = 0
    while eta ** (s_max + 1) <= max_epochs:
        s_max += 1
    # Integers throughout, because logarithms of powers are not exact. Epochs are rounded down.
    return [
        (s, -(-(s_max + 1) * eta**s // (s + 1)), tuple(max_epochs // eta ** (s - i) for i in range(s + 1)))
        for s in range(s_max, -1, -1)
    ]


def _id(trial: Trial) -> int:
    return trial.id
