"""The naive way into the cloud: synchronous successive halving with one worker a trial, and idle ones handed back."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from seer_nb._utils.validation import refuses_unknown
from seer_nb.policies._profile import handback_s, most, profiled, share, steps, stragglers
from seer_nb.policies._rungs import fixed_size, measured, rungs
from seer_nb.policies._stages import SynchronousHalving, job_size, pilot_size, plan, standing
from seer_nb.policies.rubberband import affordable, schedule

if TYPE_CHECKING:
    from seer_nb.core import Plan, Snapshot
    from seer_nb.core.planner import Resources, Schedule
    from seer_nb.policies._profile import Step


class NaiveElastic(SynchronousHalving):
    """As many workers as there are trials to train, never more than one a trial.

    The job has as many configurations as the budget pays for, with boots, billing minimums and leases. If the deadline
    is too short to train anything to ``top`` on one worker, the top is as far as it can be reached in time. Both are
    estimated from the speed seen so far; n is fixed when the first survivors go on.
    """

    @refuses_unknown()
    def __init__(self, eta: int = 3, first_rung: int = 1, top: int | None = None) -> None:
        super().__init__(eta, first_rung, top)

    def __repr__(self) -> str:
        return f"NaiveElastic(eta={self.eta}, first_rung={self.first_rung}, top={self.top})"

    def decide(self, snapshot: Snapshot) -> Plan:
        """Train the stage that the job is in."""
        if not measured(snapshot):
            return self._pilot(snapshot)
        resources = profiled(snapshot)
        epochs = _reachable(self.eta, self.epochs(snapshot), resources)
        n = job_size(snapshot, epochs, lambda: self._fitting(snapshot, epochs, resources))
        stage = standing(snapshot.trials, n, self.eta, epochs, snapshot.mode)
        # Those that the next stage needs are not handed back at the barrier, to be rented again after it.
        ahead = max(1, n // self.eta**stage.number) if stage.number < len(epochs) else 0
        workers = max(len(stage.todo) + stage.new, min(ahead, stage.size))
        return plan(snapshot, stage, 1, min(snapshot.max_workers, workers), "naive elastic halving")

    def _pilot(self, snapshot: Snapshot) -> Plan:
        epochs = self.epochs(snapshot)
        n = job_size(snapshot, epochs, lambda: pilot_size(snapshot))
        stage = standing(snapshot.trials, n, self.eta, epochs[:1], snapshot.mode)
        workers = min(fixed_size(snapshot), stage.size)
        return plan(snapshot, stage, 1, workers, "naive elastic halving, measuring speed")

    def _fitting(self, snapshot: Snapshot, epochs: tuple[int, ...], resources: Resources) -> int:
        return _largest(self.eta, epochs, stragglers(snapshot), resources, handback_s(snapshot))


@lru_cache(maxsize=64)
def _reachable(eta: int, epochs: tuple[int, ...], resources: Resources) -> tuple[int, ...]:
    """The rungs up to the last epoch that a trial can be trained to in time, if a machine has to boot for it."""
    bare = resources._replace(workers=0)

    def up_to(top: int) -> tuple[int, ...]:
        return rungs(eta, epochs[0], top) if top < epochs[-1] else epochs

    def in_time(top: int) -> bool:
        return top <= epochs[-1] and _planned(steps(1, eta, up_to(top)), bare).seconds <= bare.seconds

    return up_to(most(in_time))


@lru_cache(maxsize=64)
def _largest(
    eta: int, epochs: tuple[int, ...], slow: tuple[float, ...], resources: Resources, handback_s: float
) -> int:
    """The most configurations that time and money allow."""

    def fits(n: int) -> bool:
        planned = _planned(steps(n, eta, epochs, slow), resources)
        return planned.seconds <= resources.seconds and affordable(planned, resources, handback_s)

    return most(fits)


def _planned(job: tuple[Step, ...], resources: Resources) -> Schedule:
    """One worker a trial; where that is more than there may be, trials take turns."""
    alone = resources._replace(max_parallelism=1)
    return schedule(job, [share(step, min(step.trials, resources.max_workers), alone) for step in job], resources)
