"""Random search and grid search: every configuration is trained fully on a cluster of fixed size."""

from __future__ import annotations

from itertools import islice
from typing import ClassVar

from seer_nb.core import Job, Plan, PolicyView
from seer_nb.policies._rungs import fixed_cluster_size, new_jobs, resumable_trials, running_jobs


class RandomSearch:
    """Random search on a fixed cluster, one worker per trial; no trial is eliminated.

    floor(B / (c T)) workers run from start to deadline (budget B, price c, deadline T).

    Example:
        >>> import seer_nb as seer
        >>> seer.RandomSearch()
        RandomSearch()
    """

    name: ClassVar[str] = "random search"

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def decide(self, view: PolicyView) -> Plan:
        """Keep every worker busy with the next configuration."""
        size, until = fixed_cluster_size(view), view.max_epochs
        jobs = running_jobs(view)
        # A runner crash between the last report and the end of the trial leaves a fully trained trial paused.
        unfinished = (trial for trial in resumable_trials(view) if trial.epoch < until)
        jobs += [Job(trial=trial.id, until=until, reason="resumes to its last epoch") for trial in unfinished]
        jobs += islice(new_jobs(view, until, "next configuration"), max(0, size - len(jobs)))
        return Plan(
            jobs=tuple(jobs),
            workers=min(size, len(jobs)),
            done=not jobs,
            reason=f"{self.name} on {size} workers" if jobs else "every configuration is trained",
        )


class Grid(RandomSearch):
    """Grid search: the same decisions as random search, until every cell of the grid is trained.

    The study's sampler defines the grid and its order. Use Optuna's ``GridSampler``, or a space with finitely many
    configurations. When the sampler has no further configuration and all are trained, the study is done.

    Example:
        >>> import seer_nb as seer
        >>> from seer_nb.policies import Grid
        >>> study = seer.Study(train, {"lr": seer.choice([0.1, 0.01])}, policy=Grid(), ...)  # doctest: +SKIP
    """

    name: ClassVar[str] = "grid search"
