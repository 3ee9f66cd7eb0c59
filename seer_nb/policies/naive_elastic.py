"""The simplest elastic policy: synchronous successive halving with one worker per trial."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from seer_nb._utils.validation import reject_unknown_arguments
from seer_nb.policies._profile import (
    allocate_fairly,
    bracket_stages,
    largest_fitting,
    paid_idle_s,
    profiled_resources,
    straggler_factors,
)
from seer_nb.policies._rungs import fixed_cluster_size, rungs, speed_is_known
from seer_nb.policies._stages import SynchronousHalving, bracket_size, current_stage, pilot_size, plan_stage
from seer_nb.policies.rubberband import is_affordable, schedule_of

if TYPE_CHECKING:
    from seer_nb.core import Plan, PolicyView
    from seer_nb.core.planner import Resources, Schedule
    from seer_nb.policies._profile import BracketStage


class NaiveElastic(SynchronousHalving):
    """Synchronous successive halving with one worker per trial; idle machines are retired.

    The bracket has as many configurations as the budget pays for, including boots, billing minimums and leases. If the
    deadline is too short to train one trial to ``top`` on one worker, the top is the last epoch that can be reached.
    Both follow from the measured speed; n is fixed when the first survivors are promoted.

    Args:
        eta: Reduction factor, at least 2: one in ``eta`` trials is promoted from a rung.
        first_rung: Epochs to the first rung, at least 1.
        top: Epochs to which the last survivors are trained; None: the study's ``max_epochs``.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is too small.

    Example:
        >>> from seer_nb.policies import NaiveElastic
        >>> NaiveElastic(eta=4)
        NaiveElastic(eta=4, first_rung=1, top=None)
    """

    @reject_unknown_arguments()
    def __init__(self, eta: int = 3, first_rung: int = 1, top: int | None = None) -> None:
        super().__init__(eta, first_rung, top)

    def __repr__(self) -> str:
        return f"NaiveElastic(eta={self.eta}, first_rung={self.first_rung}, top={self.top})"

    def decide(self, view: PolicyView) -> Plan:
        """Train the current stage on one worker per trial."""
        if not speed_is_known(view):
            return self._pilot(view)
        resources = profiled_resources(view)
        epochs = _reachable_rungs(self.eta, self.epochs(view), resources)
        n = bracket_size(view, epochs, lambda: self._largest(view, epochs, resources))
        stage = current_stage(view.trials, n, self.eta, epochs, view.mode)
        # Machines that the next stage needs stay rented through the barrier.
        ahead = max(1, n // self.eta**stage.number) if stage.number < len(epochs) else 0
        workers = max(len(stage.unfinished) + stage.n_new, min(ahead, stage.size))
        return plan_stage(view, stage, 1, min(view.max_workers, workers), "naive elastic halving")

    def _pilot(self, view: PolicyView) -> Plan:
        """Return the plan that measures speed."""
        epochs = self.epochs(view)
        n = bracket_size(view, epochs, lambda: pilot_size(view))
        stage = current_stage(view.trials, n, self.eta, epochs[:1], view.mode)
        workers = min(fixed_cluster_size(view), stage.size)
        return plan_stage(view, stage, 1, workers, "naive elastic halving, measuring speed")

    def _largest(self, view: PolicyView, epochs: tuple[int, ...], resources: Resources) -> int:
        return _largest_bracket(self.eta, epochs, straggler_factors(view), resources, paid_idle_s(view))


@lru_cache(maxsize=64)
def _reachable_rungs(eta: int, epochs: tuple[int, ...], resources: Resources) -> tuple[int, ...]:
    """Return the rungs up to the last epoch that one trial can reach in time, a boot included."""
    unrented = resources._replace(workers=0)

    def up_to(top: int) -> tuple[int, ...]:
        return rungs(eta, epochs[0], top) if top < epochs[-1] else epochs

    def in_time(top: int) -> bool:
        if top > epochs[-1]:
            return False
        return _schedule(bracket_stages(1, eta, up_to(top)), unrented).duration_s <= unrented.time_left_s

    return up_to(largest_fitting(in_time))


@lru_cache(maxsize=64)
def _largest_bracket(
    eta: int, epochs: tuple[int, ...], stragglers: tuple[float, ...], resources: Resources, idle_s: float
) -> int:
    """Return the most configurations that time and money allow."""

    def fits(n: int) -> bool:
        schedule = _schedule(bracket_stages(n, eta, epochs, stragglers), resources)
        return schedule.duration_s <= resources.time_left_s and is_affordable(schedule, resources, idle_s)

    return largest_fitting(fits)


def _schedule(stages: tuple[BracketStage, ...], resources: Resources) -> Schedule:
    """Return the schedule with one worker per trial, in waves where there are fewer workers than trials."""
    single = resources._replace(max_parallelism=1)
    allocations = [allocate_fairly(work, min(work.trials, resources.max_workers), single) for work in stages]
    return schedule_of(stages, allocations, resources)
