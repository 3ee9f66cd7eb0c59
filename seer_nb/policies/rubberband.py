"""RubberBand (Misra et al., EuroSys 2021), as far as it is known to us: the least-cost elastic plan for a fixed job."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from seer_nb.core.planner import Resources
from seer_nb.policies.profile import handback_s, most, profiled, rounded_up, steps, stragglers
from seer_nb.policies.rubberband_plan import affordable, elastic_plan, fastest_plan
from seer_nb.policies.rungs import fixed_size, measured
from seer_nb.policies.stages import WithJob, job_size, pilot_size, plan, standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core.model import Plan, Snapshot
    from seer_nb.core.planner import Schedule
    from seer_nb.policies.stages import Stage

LEARNED = 2
"""The job's size and the stage's plan are thought over when there are so many times as many reports."""


class _Memory(NamedTuple):
    """What was planned last."""

    reports: int
    limits: tuple[int, int, bool]
    n: int | None = None
    stage: tuple[int, int] | None = None
    """Number of the stage, and configurations of the job."""
    schedule: Schedule | None = None


class RubberBand(WithJob):
    """Synchronous successive halving, on as many workers a stage as the cheapest plan within the deadline has.

    The job is given, the cost is what is made small; so the budget only limits ``n``: without it the job has as many
    configurations as the plan's cost, with its machines' leases, and the deadline allow. The paper profiles a job
    for minutes before it plans; here the first configurations, one a worker of a fixed cluster, do that. A plan is
    made for the whole job then, and for what is left of it at each barrier; inside a stage it changes only as far as
    the speed seen leaves its estimate.
    """

    def decide(self, snapshot: Snapshot) -> Plan:
        """Train the stage that the job is in, on the workers that the plan gives it."""
        epochs = self.epochs(snapshot)
        memory = self._memory(snapshot)
        n = job_size(snapshot, epochs, lambda: self.n or memory.n or self._fitting(snapshot, epochs))
        stage = standing(snapshot.trials, n, self.eta, epochs, snapshot.mode)
        if not measured(snapshot):
            return plan(snapshot, stage, 1, min(fixed_size(snapshot), stage.size), "RubberBand, measuring speed")
        if not (stage.todo or stage.new):
            return plan(snapshot, stage, 1, 0, "RubberBand")
        if memory.schedule is None or memory.stage != (stage.number, n):
            memory = memory._replace(stage=(stage.number, n), schedule=self._planned(snapshot, stage, epochs, n))
        assert memory.schedule is not None
        now, *later = memory.schedule.stages
        # Who waits for the barrier needs no workers; those that the next stage has are kept for it.
        needed = (len(stage.todo) + stage.new) * now.parallelism
        workers = min(now.workers, max(needed, later[0].workers if later else 0))
        return replace(plan(snapshot, stage, now.parallelism, workers, "RubberBand"), carry=memory._replace(n=n))

    def _memory(self, snapshot: Snapshot) -> _Memory:
        """What was planned, as long as little has been learned since."""
        reports = sum(len(trial.curve) for trial in snapshot.trials)
        memory = snapshot.carry
        limits = (snapshot.budget, round(snapshot.stop_s), snapshot.exhausted)
        if isinstance(memory, _Memory) and memory.limits == limits and reports < LEARNED * memory.reports:
            return memory
        return _Memory(reports=reports, limits=limits)

    def _fitting(self, snapshot: Snapshot, epochs: tuple[int, ...]) -> int:
        """The most configurations that the budget pays for."""
        if not measured(snapshot):
            return pilot_size(snapshot)
        return _largest(self.eta, epochs, stragglers(snapshot), profiled(snapshot), handback_s(snapshot))

    def _planned(self, snapshot: Snapshot, stage: Stage, epochs: Sequence[int], n: int) -> Schedule:
        """The plan for the stage and those after it."""
        first, *later = steps(n, self.eta, epochs, stragglers(snapshot))[stage.number - 1 :]
        job = (first._replace(trials=stage.size), *later)
        resources = profiled(snapshot)
        if stage.since:
            left = rounded_up(Resources.left(snapshot))
            resources = left._replace(seconds=snapshot.stop_s - stage.barrier_s)
        return elastic_plan(job, resources) or fastest_plan(job, resources)


@lru_cache(maxsize=64)
def _largest(
    eta: int, epochs: tuple[int, ...], slow: tuple[float, ...], resources: Resources, handback_s: float
) -> int:
    def fits(n: int) -> bool:
        found = elastic_plan(steps(n, eta, epochs, slow), resources)
        return found is not None and affordable(found, resources, handback_s)

    return most(fits)
