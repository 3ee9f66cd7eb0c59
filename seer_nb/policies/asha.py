"""ASHA by promotion (Li et al., MLSys 2020): a free worker promotes whoever is in the top 1/eta of its rung so far."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING

from seer_nb.core import Job, Plan, Snapshot
from seer_nb.policies._rungs import WithRungs, fixed_size, fresh, kept, paused, ranked, rungs

if TYPE_CHECKING:
    from collections.abc import Iterator


class ASHA(WithRungs):
    """Runs floor(B / (c T)) workers from start to deadline, one worker a trial."""

    def decide(self, snapshot: Snapshot) -> Plan:
        """Promote from the highest rung that has somebody to promote, else start a new configuration."""
        size = fixed_size(snapshot)
        ladder = rungs(self.eta, self.first_rung, snapshot.max_epochs)
        jobs = kept(snapshot)
        jobs += islice(self._next(snapshot, ladder), max(0, size - len(jobs)))
        return Plan(
            jobs=tuple(jobs),
            workers=min(size, len(jobs)),
            done=not jobs,
            reason=f"ASHA on {size} workers, rungs at {', '.join(map(str, ladder))}" if jobs else "nobody to promote",
        )

    def _next(self, snapshot: Snapshot, ladder: tuple[int, ...]) -> Iterator[Job]:
        idle = {trial.id: trial for trial in paused(snapshot)}
        for trial in idle.values():
            if trial.epoch not in ladder:  # interrupted on its way
                until = next(epoch for epoch in ladder if epoch > trial.epoch)
                yield Job(trial=trial.id, until=until, reason=f"goes on to epoch {until}")
        for epoch, until in reversed(list(pairwise(ladder))):
            order = ranked(snapshot.trials, epoch, snapshot.mode)
            for place, trial in enumerate(order[: len(order) // self.eta], 1):
                if trial.epoch == epoch and trial.id in idle:
                    reason = f"ranked {place} of {len(order)} at epoch {epoch}: promoted to epoch {until}"
                    yield Job(trial=trial.id, until=until, reason=reason)
        yield from fresh(snapshot, ladder[0], "next configuration")
