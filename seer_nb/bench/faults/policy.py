"""The policy of the studies in which things go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb.core.model import Job, Plan

if TYPE_CHECKING:
    from seer_nb.core.model import Snapshot


class Steady:
    """Trains so many trials, each on so many workers, for ever; a trial that has ended is followed by another one.

    Args:
        trials: At a time.
        workers: Of each.
    """

    def __init__(self, trials: int, workers: int) -> None:
        self.trials = trials
        self.workers = workers

    def decide(self, snapshot: Snapshot) -> Plan:
        """Keep them going."""
        alive = [trial for trial in snapshot.trials if trial.alive][: self.trials]
        jobs = [Job(trial=trial.id, workers=self.workers, until=snapshot.max_epochs) for trial in alive]
        new = [Job(trial=None, workers=self.workers, until=snapshot.max_epochs)] * (self.trials - len(alive))
        return Plan(jobs=(*jobs, *new), workers=self.trials * self.workers, reason="as it goes")
