"""RubberBand (Misra et al., EuroSys 2021), as far as it is known to us: the cheapest elastic plan for a fixed bracket.

First the planner (plans, their time and money), then the policy that follows it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from seer_nb.core.planner import Resources, Schedule, Stage, parallelisms
from seer_nb.policies._profile import (
    Allocation,
    allocate_fairly,
    bracket_stages,
    largest_fitting,
    paid_idle_s,
    profiled_resources,
    round_up_speeds,
    straggler_factors,
)
from seer_nb.policies._rungs import fixed_cluster_size, speed_is_known
from seer_nb.policies._stages import SynchronousHalving, bracket_size, current_stage, pilot_size, plan_stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seer_nb.core import Plan, PolicyView
    from seer_nb.policies._profile import BracketStage
    from seer_nb.policies._stages import Stage as CurrentStage


REPLAN_GROWTH = 2
"""Ratio of reports, now to last plan, from which on the bracket's size and the stage's plan are computed again."""
_TOLERANCE = 1e-9
"""Largest difference of money or time that counts as a rounding error."""


class PlanCandidate(NamedTuple):
    """A plan: one allocation per stage, with its total time and money."""

    seconds: float
    cost: float
    """Micro-dollars."""
    allocations: tuple[Allocation, ...]


# --- planning ---


def cheapest_static_plan(stages: Sequence[BracketStage], resources: Resources) -> Schedule | None:
    """Return the cheapest plan with the same workers in all stages that ends in time; None if there is none."""
    found = _cheapest_in_time(_pareto_front(_static_plans(stages, resources)), resources.time_left_s)
    return None if found is None else schedule_of(stages, found.allocations, resources)


def cheapest_elastic_plan(stages: Sequence[BracketStage], resources: Resources) -> Schedule | None:
    """Return the cheapest plan found that ends in time; None if there is none.

    Money is not a limit here: see ``is_affordable``.
    """
    found = _cheapest_in_time(_elastic_front(tuple(stages), _without_limits(resources)), resources.time_left_s)
    return None if found is None else schedule_of(stages, found.allocations, resources)


def fastest_plan(stages: Sequence[BracketStage], resources: Resources) -> Schedule:
    """Return the plan that ends first, for a deadline that no plan meets."""
    front = _elastic_front(tuple(stages), _without_limits(resources))
    return schedule_of(stages, front[0].allocations, resources)


def schedule_of(stages: Sequence[BracketStage], allocations: Sequence[Allocation], resources: Resources) -> Schedule:
    """Return a plan stage by stage."""
    scheduled = tuple(
        Stage(work.trials, work.epochs, each.parallelism, each.workers, seconds, cost)
        for work, each, (seconds, cost) in zip(stages, allocations, _stage_bills(allocations, resources), strict=True)
    )
    return Schedule(
        scheduled, sum(stage.duration_s for stage in scheduled), sum(stage.cost_micro for stage in scheduled)
    )


def is_affordable(plan: Schedule, resources: Resources, idle_s: float = 0.0) -> bool:
    """Return whether the money pays for a plan, including at each stage's end the lease of its machines.

    Args:
        plan: The stages, with their workers and costs.
        resources: Money, prices and lease.
        idle_s: Seconds for which a machine is billed after its last stage.
    """
    spent, rented = 0.0, 0
    for stage in plan.stages:
        billed = _billed_workers(stage.workers, resources)
        spent += stage.cost_micro + max(0, rented - billed) * idle_s * resources.price_micro_per_s
        if spent + billed * resources.lease_s * resources.price_micro_per_s > resources.money_micro:
            return False
        rented = billed
    return True


def _candidate(allocations: Sequence[Allocation], resources: Resources) -> PlanCandidate:
    seconds = cost = 0.0
    for stage_s, stage_cost in _stage_bills(allocations, resources):
        seconds += stage_s
        cost += stage_cost
    return PlanCandidate(seconds, cost, tuple(allocations))


def _without_limits(resources: Resources) -> Resources:
    """Remove deadline and budget, which only choose among plans, so that the cache serves all of them."""
    return resources._replace(time_left_s=math.inf, money_micro=math.inf)


def _cheapest_in_time(front: Sequence[PlanCandidate], seconds: float) -> PlanCandidate | None:
    """Return the cheapest plan of a Pareto front that ends in time; later ones are slower and cheaper."""
    return next((each for each in reversed(front) if each.seconds <= seconds + _TOLERANCE), None)


def _stage_bills(allocations: Sequence[Allocation], resources: Resources) -> Iterator[tuple[float, float]]:
    """Yield seconds and micro-dollars of each stage.

    A stage's machines are billed until its barrier, those that it adds from their boot. Machines that a stage does not
    need are retired at the barrier before it.
    """
    rented = _billed_workers(resources.workers, resources)
    for workers, _, training_s in allocations:
        billed = _billed_workers(workers, resources)
        seconds, minimum = training_s, 0.0
        if billed > rented:
            seconds += resources.scaling.boot_s
            minimum = (billed - rented) * max(0.0, resources.minimum_s - seconds)
        yield seconds, (billed * seconds + minimum) * resources.price_micro_per_s
        rented = billed


def _billed_workers(workers: int, resources: Resources) -> int:
    """Return the workers of the whole machines that ``workers`` need."""
    size = resources.workers_per_machine
    return -(-workers // size) * size


@lru_cache(maxsize=512)
def _elastic_front(stages: tuple[BracketStage, ...], resources: Resources) -> tuple[PlanCandidate, ...]:
    """Return plans for every deadline: each is slower and cheaper than the one before."""
    fair = [_fair_allocations(work, resources) for work in stages]
    statics = _static_plans(stages, resources)
    found = list(statics)
    seen: set[tuple[Allocation, ...]] = set()
    for static in _pareto_front(statics):
        found += _descend(static, fair, resources, seen)
    return tuple(_pareto_front(found))


def _descend(
    start: PlanCandidate, fair: Sequence[Sequence[Allocation]], resources: Resources, seen: set[tuple[Allocation, ...]]
) -> Iterator[PlanCandidate]:
    """Yield the plans met by greedy descent from a static cluster, until a plan that was expanded before."""
    now = start
    while now.allocations not in seen:
        seen.add(now.allocations)
        neighbours = [_candidate(each, resources) for each in _neighbours(now.allocations, fair, resources)]
        yield from neighbours
        now = _best_neighbour(now, neighbours)


def _best_neighbour(now: PlanCandidate, neighbours: Sequence[PlanCandidate]) -> PlanCandidate:
    """Return the cheaper neighbour that saves most money per second added; ``now`` if none is cheaper."""
    cheaper = [each for each in neighbours if each.cost < now.cost - _TOLERANCE]
    return max(cheaper, key=lambda each: _saving_rate(now, each), default=now)


def _saving_rate(before: PlanCandidate, after: PlanCandidate) -> float:
    """Return the money saved per second added."""
    return (before.cost - after.cost) / max(_TOLERANCE, after.seconds - before.seconds)


def _neighbours(
    allocations: tuple[Allocation, ...], fair: Sequence[Sequence[Allocation]], resources: Resources
) -> Iterator[tuple[Allocation, ...]]:
    """Yield the plans in which one stage has its next smaller fair allocation."""
    for k, now in enumerate(allocations):
        billed = _billed_workers(now.workers, resources)
        smaller = next((each for each in fair[k] if _billed_workers(each.workers, resources) < billed), None)
        if smaller is not None:
            yield (*allocations[:k], smaller, *allocations[k + 1 :])


def _fair_allocations(work: BracketStage, resources: Resources) -> list[Allocation]:
    """Return a stage's fair allocations, largest first, without those that save nothing by themselves."""
    allocations = [allocate_fairly(work, workers, resources) for workers in _fair_widths(work, resources)]
    unrented = resources._replace(workers=0)
    return [each.allocations[0] for each in _pareto_front(_candidate((each,), unrented) for each in allocations)]


def _static_plans(stages: Sequence[BracketStage], resources: Resources) -> list[PlanCandidate]:
    """Return the static clusters that are fair to at least one stage; other sizes only add idle workers."""
    widths = sorted({workers for work in stages for workers in _fair_widths(work, resources)})
    return [_candidate([allocate_fairly(work, workers, resources) for work in stages], resources) for workers in widths]


def _fair_widths(work: BracketStage, resources: Resources) -> set[int]:
    """Return the numbers of workers, in whole machines, that the trials of a stage can share evenly."""
    trials, largest = work.trials, resources.max_workers
    gangs = {trials * p for p in parallelisms(resources.max_parallelism)}
    # Different numbers of waves that need the same workers are one width.
    waves = {-(-trials // each) for each in range(2, trials + 1)} | {1}
    return {min(largest, _billed_workers(workers, resources)) for workers in gangs | waves if workers <= largest}


def _pareto_front(candidates: Iterable[PlanCandidate]) -> list[PlanCandidate]:
    """Return the candidates that no other one beats in both time and money, fastest first."""
    front: list[PlanCandidate] = []
    for each in sorted(candidates):
        if not front or each.cost < front[-1].cost - _TOLERANCE:
            front.append(each)
    return front


# --- the policy ---


class _Memory(NamedTuple):
    """The last plan, carried from one decision to the next."""

    reports: int
    """Reports at the time of planning."""
    limits: tuple[int, int, int, bool]
    """Budget in micro-dollars, deadline in study seconds, workers per trial, and whether the sampler is exhausted."""
    n: int | None = None
    stage: tuple[int, int] | None = None
    """Number of the planned stage, and configurations of the bracket."""
    schedule: Schedule | None = None


class RubberBand(SynchronousHalving):
    """Synchronous successive halving on the workers of the cheapest plan that meets the deadline, stage by stage.

    The bracket is given and its cost is minimised, so that the budget only limits ``n``. Without ``n`` the bracket has
    as many configurations as deadline and budget allow, leases included. The paper profiles a job for minutes before it
    plans; here the first configurations, one per worker of a fixed cluster, do so. The plan for the whole bracket is
    made then, and a plan for the rest at each barrier. Within a stage the plan changes only with the measured speed.

    Source: Misra et al., EuroSys 2021, as far as it is known to us.

    Args:
        eta: Reduction factor, at least 2: one in ``eta`` trials is promoted from a rung.
        first_rung: Epochs to the first rung, at least 1.
        top: Epochs to which the last survivors are trained; None: the study's ``max_epochs``.
        n: Configurations of the bracket; None: as many as deadline and budget allow.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is too small.

    Example:
        >>> from seer_nb.policies import RubberBand
        >>> RubberBand(eta=4, n=64)
        RubberBand(eta=4, first_rung=1, top=None, n=64)
    """

    def decide(self, view: PolicyView) -> Plan:
        """Train the current stage on the workers that the plan gives it."""
        epochs = self.epochs(view)
        memory = self._memory(view)
        n = bracket_size(view, epochs, lambda: self.n or memory.n or self._largest(view, epochs))
        stage = current_stage(view.trials, n, self.eta, epochs, view.mode)
        if not speed_is_known(view):
            size = min(fixed_cluster_size(view), stage.size)
            return plan_stage(view, stage, 1, size, "RubberBand, measuring speed")
        if not (stage.unfinished or stage.n_new):
            return plan_stage(view, stage, 1, 0, "RubberBand")
        if memory.schedule is None or memory.stage != (stage.number, n):
            memory = memory._replace(stage=(stage.number, n), schedule=self._schedule(view, stage, epochs, n))
        assert memory.schedule is not None
        now, *later = memory.schedule.stages
        # Finished trials need no workers until the barrier; workers of the next stage stay rented.
        needed = (len(stage.unfinished) + stage.n_new) * now.parallelism
        workers = min(now.workers, max(needed, later[0].workers if later else 0))
        return replace(plan_stage(view, stage, now.parallelism, workers, "RubberBand"), carry=memory._replace(n=n))

    def _memory(self, view: PolicyView) -> _Memory:
        """Return the last plan while limits and knowledge are nearly the same; else an empty memory."""
        reports = sum(len(trial.curve) for trial in view.trials)
        memory = view.carry
        limits = (view.budget_micro, round(view.stop_s), view.max_parallelism, view.exhausted)
        if isinstance(memory, _Memory) and memory.limits == limits and reports < REPLAN_GROWTH * memory.reports:
            return memory
        return _Memory(reports=reports, limits=limits)

    def _largest(self, view: PolicyView, epochs: tuple[int, ...]) -> int:
        """Return the most configurations that the budget pays for."""
        if not speed_is_known(view):
            return pilot_size(view)
        return _largest_bracket(self.eta, epochs, straggler_factors(view), profiled_resources(view), paid_idle_s(view))

    def _schedule(self, view: PolicyView, stage: CurrentStage, epochs: Sequence[int], n: int) -> Schedule:
        """Return the plan for the current stage and those after it."""
        first, *later = bracket_stages(n, self.eta, epochs, straggler_factors(view))[stage.number - 1 :]
        stages = (first._replace(trials=stage.size), *later)
        resources = profiled_resources(view)
        if stage.from_epoch:
            left = round_up_speeds(Resources.remaining(view))
            resources = left._replace(time_left_s=view.stop_s - stage.barrier_s)
        return cheapest_elastic_plan(stages, resources) or fastest_plan(stages, resources)


@lru_cache(maxsize=64)
def _largest_bracket(
    eta: int, epochs: tuple[int, ...], stragglers: tuple[float, ...], resources: Resources, idle_s: float
) -> int:
    def fits(n: int) -> bool:
        found = cheapest_elastic_plan(bracket_stages(n, eta, epochs, stragglers), resources)
        return found is not None and is_affordable(found, resources, idle_s)

    return largest_fitting(fits)
