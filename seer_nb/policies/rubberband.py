"""RubberBand (Misra et al., EuroSys 2021), as far as it is known to us: the least-cost elastic plan for a fixed job."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from seer_nb.core.planner import Resources, Schedule, Stage, sizes
from seer_nb.policies._profile import Share, handback_s, most, profiled, rounded_up, share, steps, stragglers
from seer_nb.policies._rungs import fixed_size, measured
from seer_nb.policies._stages import SynchronousHalving, job_size, pilot_size, plan, standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seer_nb.core import Plan, Snapshot
    from seer_nb.policies._profile import Step
    from seer_nb.policies._stages import Stage as Rung


_LEAST = 1e-9
"""A smaller difference of money or time is rounding."""


class Option(NamedTuple):
    """A plan: one share a stage."""

    seconds: float
    cost: float
    """Micro-dollars."""
    shares: tuple[Share, ...]


def option(shares: Sequence[Share], resources: Resources) -> Option:
    """Time and money of a plan: the one place where they are counted."""
    seconds = cost = 0.0
    for stage_s, stage_cost in _bills(shares, resources):
        seconds += stage_s
        cost += stage_cost
    return Option(seconds, cost, tuple(shares))


def schedule(job: Sequence[Step], shares: Sequence[Share], resources: Resources) -> Schedule:
    """A plan stage by stage."""
    stages = tuple(
        Stage(step.trials, step.epochs, each.parallelism, each.workers, seconds, cost)
        for step, each, (seconds, cost) in zip(job, shares, _bills(shares, resources), strict=True)
    )
    return Schedule(stages, sum(stage.seconds for stage in stages), sum(stage.cost for stage in stages))


def affordable(plan: Schedule, resources: Resources, handback_s: float = 0.0) -> bool:
    """Whether the money lasts, at each stage's end with the lease of the machines that it then has.

    Args:
        plan: What is to be done.
        resources: What there is for it.
        handback_s: For so long machines are paid after the stage that needed them.
    """
    spent, rented = 0.0, 0
    for stage in plan.stages:
        paid = _paid(stage.workers, resources)
        spent += stage.cost + max(0, rented - paid) * handback_s * resources.price_s
        if spent + paid * resources.lease_s * resources.price_s > resources.money:
            return False
        rented = paid
    return True


def static_plan(job: Sequence[Step], resources: Resources) -> Schedule | None:
    """The cheapest plan with the same workers in all stages that ends in time; None if none does."""
    found = _in_time(_front(_statics(job, resources)), resources.seconds)
    return None if found is None else schedule(job, found.shares, resources)


def elastic_plan(job: Sequence[Step], resources: Resources) -> Schedule | None:
    """The cheapest plan found that ends in time; None if none does. Money is no limit: see ``affordable``."""
    found = _in_time(_options(tuple(job), _timeless(resources)), resources.seconds)
    return None if found is None else schedule(job, found.shares, resources)


def fastest_plan(job: Sequence[Step], resources: Resources) -> Schedule:
    """The plan that ends first, for a deadline that none can keep."""
    return schedule(job, _options(tuple(job), _timeless(resources))[0].shares, resources)


def _timeless(resources: Resources) -> Resources:
    """Plans are alike for every deadline and budget; these only choose."""
    return resources._replace(seconds=math.inf, money=math.inf)


def _in_time(options: Sequence[Option], seconds: float) -> Option | None:
    """The cheapest; the later ones are the cheaper ones."""
    return next((each for each in reversed(options) if each.seconds <= seconds + _LEAST), None)


def _bills(shares: Sequence[Share], resources: Resources) -> Iterator[tuple[float, float]]:
    """Seconds and micro-dollars of each stage: its machines are paid until its barrier, those it adds from their boot.

    Those that a stage does not need are handed back at the barrier before it.
    """
    rented = _paid(resources.workers, resources)
    for workers, _, seconds in shares:
        paid = _paid(workers, resources)
        least = 0.0
        if paid > rented:
            seconds += resources.scaling.boot_s  # noqa: PLW2901
            least = (paid - rented) * max(0.0, resources.minimum_s - seconds)
        yield seconds, (paid * seconds + least) * resources.price_s
        rented = paid


def _paid(workers: int, resources: Resources) -> int:
    """Workers of the machines that it takes to have so many."""
    size = resources.workers_per_machine
    return -(-workers // size) * size


@lru_cache(maxsize=512)
def _options(job: tuple[Step, ...], resources: Resources) -> tuple[Option, ...]:
    """Plans for every deadline: each takes longer than the one before, and costs less."""
    fair = [_fair(step, resources) for step in job]
    statics = _statics(job, resources)
    found = list(statics)
    seen: set[tuple[Share, ...]] = set()
    for static in _front(statics):
        found += _descent(static, fair, resources, seen)
    return tuple(_front(found))


def _descent(
    start: Option, fair: Sequence[Sequence[Share]], resources: Resources, seen: set[tuple[Share, ...]]
) -> Iterator[Option]:
    """All plans looked at on the way down from a static cluster, up to a plan from which another one went on."""
    now = start
    while now.shares not in seen:
        seen.add(now.shares)
        options = [option(shares, resources) for shares in _moves(now.shares, fair, resources)]
        yield from options
        now = _best(now, options)


def _best(now: Option, options: Sequence[Option]) -> Option:
    """The next plan; the same one if no other costs less."""
    cheaper = [each for each in options if each.cost < now.cost - _LEAST]
    return max(cheaper, key=lambda each: _score(now, each), default=now)


def _score(before: Option, after: Option) -> float:
    """Money saved for each second added."""
    return (before.cost - after.cost) / max(_LEAST, after.seconds - before.seconds)


def _moves(
    shares: tuple[Share, ...], fair: Sequence[Sequence[Share]], resources: Resources
) -> Iterator[tuple[Share, ...]]:
    """Plans in which one stage has its next smaller fair allocation."""
    for k, now in enumerate(shares):
        paid = _paid(now.workers, resources)
        smaller = next((each for each in fair[k] if _paid(each.workers, resources) < paid), None)
        if smaller is not None:
            yield (*shares[:k], smaller, *shares[k + 1 :])


def _fair(step: Step, resources: Resources) -> list[Share]:
    """A stage's fair allocations, the largest first, without those that by themselves save nothing."""
    shares = [share(step, workers, resources) for workers in _widths(step, resources)]
    alone = resources._replace(workers=0)
    return [each.shares[0] for each in _front(option((each,), alone) for each in shares)]


def _statics(job: Sequence[Step], resources: Resources) -> list[Option]:
    """All static clusters that are fair to one of the stages; with others more workers would bring nothing."""
    widths = sorted({workers for step in job for workers in _widths(step, resources)})
    return [option([share(step, workers, resources) for step in job], resources) for workers in widths]


def _widths(step: Step, resources: Resources) -> set[int]:
    """Workers that a stage can share out fairly, in whole machines."""
    trials, largest = step.trials, resources.max_workers
    gangs = {trials * p for p in sizes(resources.max_parallelism)}
    # So many trials on each worker; two numbers of turns that need as many workers are the same.
    turns = {-(-trials // each) for each in range(2, trials + 1)} | {1}
    return {min(largest, _paid(workers, resources)) for workers in gangs | turns if workers <= largest}


def _front(options: Iterable[Option]) -> list[Option]:
    """Those than which none is both faster and cheaper, the fastest first."""
    front: list[Option] = []
    for each in sorted(options):
        if not front or each.cost < front[-1].cost - _LEAST:
            front.append(each)
    return front


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


class RubberBand(SynchronousHalving):
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

    def _planned(self, snapshot: Snapshot, stage: Rung, epochs: Sequence[int], n: int) -> Schedule:
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
