"""Random search: every configuration is trained fully, one worker each, on a cluster of fixed size."""

from __future__ import annotations

from itertools import islice
from typing import ClassVar

from seer_nb.core import Job, Plan, Snapshot
from seer_nb.policies._rungs import fixed_size, fresh, kept, paused


class RandomSearch:
    """Runs floor(B / (c T)) workers from start to deadline; nothing is eliminated."""

    name: ClassVar[str] = "random search"

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def decide(self, snapshot: Snapshot) -> Plan:
        """Keep every worker busy with the next configuration."""
        size, until = fixed_size(snapshot), snapshot.max_epochs
        jobs = kept(snapshot)
        # A runner that died at the wrong moment leaves a trial paused that is trained fully.
        left = (trial for trial in paused(snapshot) if trial.epoch < until)
        jobs += [Job(trial=trial.id, until=until, reason="goes on to its last epoch") for trial in left]
        jobs += islice(fresh(snapshot, until, "next configuration"), max(0, size - len(jobs)))
        return Plan(
            jobs=tuple(jobs),
            workers=min(size, len(jobs)),
            done=not jobs,
            reason=f"{self.name} on {size} workers" if jobs else "every configuration is trained",
        )


class Grid(RandomSearch):
    """Random search on a grid: which configurations there are, and in which order, is the study's sampler's to say.

    To a policy the two differ in nothing but that a grid comes to an end: when the sampler has no further
    configuration and all are trained, the study is done. Give the study a grid sampler, such as Optuna's GridSampler,
    or a space of finitely many values.
    """

    name: ClassVar[str] = "grid search"
