"""ASHA: asynchronous successive halving by promotion (Li et al., MLSys 2020)."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING

from seer_nb.core import Job, Plan, PolicyView
from seer_nb.policies._rungs import (
    RungPolicy,
    fixed_cluster_size,
    new_jobs,
    rank_trials,
    resumable_trials,
    rungs,
    running_jobs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class ASHA(RungPolicy):
    """Asynchronous successive halving on a fixed cluster, one worker per trial.

    floor(B / (c T)) workers run from start to deadline (budget B, price c, deadline T). A free worker promotes a trial
    that is in the top 1/eta of its rung so far, from the highest rung that has one. Otherwise it starts a new
    configuration.

    Source: Li et al., MLSys 2020.

    Args:
        eta: Reduction factor, at least 2: one in ``eta`` trials is promoted from a rung.
        first_rung: Epochs to the first rung, at least 1.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is too small.

    Example:
        >>> import seer_nb as seer
        >>> seer.ASHA(eta=4)
        ASHA(eta=4, first_rung=1)
    """

    def decide(self, view: PolicyView) -> Plan:
        """Promote from the highest rung that has a candidate, else start new configurations."""
        size = fixed_cluster_size(view)
        ladder = rungs(self.eta, self.first_rung, view.max_epochs)
        jobs = running_jobs(view)
        jobs += islice(self._next_jobs(view, ladder), max(0, size - len(jobs)))
        return Plan(
            jobs=tuple(jobs),
            workers=min(size, len(jobs)),
            done=not jobs,
            reason=f"ASHA on {size} workers, rungs at {', '.join(map(str, ladder))}"
            if jobs
            else "ASHA: no trial can be promoted or started",
        )

    def _next_jobs(self, view: PolicyView, ladder: tuple[int, ...]) -> Iterator[Job]:
        idle = {trial.id: trial for trial in resumable_trials(view)}
        for trial in idle.values():
            if trial.epoch not in ladder:  # interrupted between two rungs
                until = next(epoch for epoch in ladder if epoch > trial.epoch)
                yield Job(trial=trial.id, until=until, reason=f"resumes to epoch {until}")
        for epoch, until in reversed(list(pairwise(ladder))):
            order = rank_trials(view.trials, epoch, view.mode)
            for rank, trial in enumerate(order[: len(order) // self.eta], 1):
                if trial.epoch == epoch and trial.id in idle:
                    reason = f"ranked {rank} of {len(order)} at epoch {epoch}: promoted to epoch {until}"
                    yield Job(trial=trial.id, until=until, reason=reason)
        yield from new_jobs(view, ladder[0], "next configuration")
