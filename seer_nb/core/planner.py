"""The cheapest schedule for a number of trials within a time, and the most trials that time and money allow.

A schedule is a sequence of stages. In a stage, a number of trials train a number of epochs each, on p workers per
trial. One trial takes `stall + epochs x t1 / s(p)` seconds; on fewer than trials x p workers, trials take turns. Since
s(p) < p, an epoch is cheapest on one worker. Parallelism is bought only if time is too short, and where a saved second
costs least: in the late stages, which have few trials. Booting machines cost money, so trials take turns on few
machines as long as time allows.

The shapes (turns and parallelism) of all stages are chosen together, by dynamic programming over the Pareto front of
time, money and rented workers. The result is the cheapest combination of all considered shapes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seer_nb.core.policy import PolicyView, Scaling


PRECISION = 100
"""Inverse relative precision of the search for the largest number of trials; estimates are no more precise."""
FIRST_STEP = 16
"""Inverse relative size of the first step of that search, downwards."""
WAVES = (1, 2, 4, 8, 16, 64, 256)
"""Considered numbers of trials per worker, one after the other, if boots or billing minimums cost money or time."""
GAIN = 1.05
"""Least speedup by twice as many workers for that parallelism to be considered."""
SPARE_S = 3.0
"""Seconds planned on top of each lease: bills grow by whole seconds, and the last epoch must be saved in time."""
_ROUNDING = 1e-9
"""Tolerance in workers for floating-point rounding."""


class StageWork(NamedTuple):
    """The work of a stage: trials, and epochs per trial (on average)."""

    trials: int
    epochs: float
    within_s: float | None = None
    """Seconds over which the trials are spread, one worker each, on as few workers as possible; None: the planner
    chooses the shape."""


class Shape(NamedTuple):
    """A way to execute a stage."""

    waves: int
    """Trials per worker, one after the other; 1 if a trial has several workers."""
    parallelism: int
    """Workers per trial."""


class Stage(NamedTuple):
    """A scheduled stage."""

    trials: int
    epochs: float
    parallelism: int
    workers: int
    duration_s: float
    cost_micro: float
    """Cost in micro-dollars."""
    waves: int = 1
    """Trials per worker, one after the other; also 1 if the work has a time of its own (``within_s``)."""

    @property
    def shape(self) -> Shape:
        """The shape by which the stage is executed."""
        return Shape(self.waves, self.parallelism)


class Schedule(NamedTuple):
    """Stages executed one after the other."""

    stages: tuple[Stage, ...]
    duration_s: float
    cost_micro: float
    """Cost in micro-dollars."""

    @property
    def workers(self) -> int:
        """Largest number of workers of any stage."""
        return max((stage.workers for stage in self.stages), default=0)


class Resources(NamedTuple):
    """Time, money, speed and machines to plan with."""

    time_left_s: float
    money_micro: float
    """Micro-dollars. They must cover the leases too."""
    epoch_s: float
    """Seconds of an epoch on one worker."""
    scaling: Scaling
    price_micro_per_s: float
    """Micro-dollars per worker and second."""
    lease_s: float
    """Seconds for which the machines of a stage may live on, and cost money, after its end."""
    minimum_s: float
    """Least seconds for which a machine is billed."""
    workers_per_machine: int
    max_workers: int
    max_parallelism: int
    workers: int = 0
    """Workers that are rented already."""

    @classmethod
    def of_study(cls, snapshot: PolicyView) -> Resources:
        """Return the resources of the whole study, with the speed as it is estimated now.

        Raises:
            ValueError: No epoch has been measured.
        """
        offer = snapshot.offers[0]
        if snapshot.scaling.epoch_s is None:
            raise ValueError("no epoch has been measured yet")
        return cls(
            time_left_s=snapshot.stop_s,
            money_micro=snapshot.budget_micro,
            epoch_s=snapshot.scaling.epoch_s,
            scaling=snapshot.scaling,
            price_micro_per_s=offer.worker_price_s(),
            lease_s=snapshot.lease_s + SPARE_S,
            minimum_s=offer.billing.minimum_s,
            workers_per_machine=offer.workers_per_machine,
            max_workers=snapshot.max_workers,
            max_parallelism=min(snapshot.max_workers, snapshot.max_parallelism),
        )

    @classmethod
    def remaining(cls, snapshot: PolicyView) -> Resources:
        """Return the remaining resources; raises as `of_study` does."""
        return cls.of_study(snapshot)._replace(
            time_left_s=snapshot.time_left_s,
            # Time that is paid for in advance is available, so its price counts as money left.
            money_micro=snapshot.budget_micro - snapshot.spent_micro + _prepaid(snapshot),
            workers=sum(machine.slots for machine in snapshot.machines if machine.state != "retiring"),
        )

    def trial_seconds(self, epochs: float, parallelism: int) -> float:
        """Return the seconds in which one trial trains a number of epochs, including the stall at its start."""
        return self.scaling.stall_s + epochs * self.epoch_s / self.scaling.speedup(parallelism)


def _prepaid(snapshot: PolicyView) -> float:
    """Return the micro-dollars already billed, by minimums and whole units, for future time of live machines."""
    offers = {offer.name: offer for offer in snapshot.offers}
    prepaid = 0.0
    for machine in snapshot.machines:
        if machine.state != "retiring":
            offer, lived_s = offers[machine.offer], snapshot.now_s - machine.rented_s
            prepaid += (offer.billing.billed_s(lived_s) - lived_s) * offer.price_per_hour_micro / 3600
    return prepaid


def least_parallelism(resources: Resources, epochs: float, seconds: float) -> int | None:
    """Return the least parallelism at which a trial trains a number of epochs in time; None if there is none."""
    return next(
        (p for p in parallelisms(resources.max_parallelism) if resources.trial_seconds(epochs, p) <= seconds), None
    )


def parallelisms(most: int) -> tuple[int, ...]:
    """Return the parallelisms to consider: powers of two up to `most`, because they divide common batch sizes."""
    return tuple(2**k for k in range(most.bit_length()))


def shapes(leg: StageWork, resources: Resources) -> list[Shape]:
    """Return the shapes to consider for a leg, the fastest last."""
    if not leg.trials or leg.within_s is not None:
        return [Shape(1, 1)]
    dear = resources.scaling.boot_s > 0 or resources.minimum_s > 0
    taken = [Shape(turns, 1) for turns in WAVES if turns < 2 * leg.trials] if dear else [Shape(1, 1)]
    # While trials take turns on all available workers, larger gangs only waste money.
    most = min(resources.max_parallelism, resources.max_workers // leg.trials)
    return taken[::-1] + [Shape(1, p) for p in parallelisms(most)[1:] if _speeds_up(p, resources.scaling)]


def _speeds_up(parallelism: int, scaling: Scaling) -> bool:
    return scaling.speedup(parallelism) > GAIN * scaling.speedup(parallelism // 2)


def cheapest_schedule(legs: Sequence[StageWork], resources: Resources) -> Schedule | None:
    """Return the cheapest schedule within time and money, among equals the fastest; None if there is none."""
    front: list[_Partial] = [_Partial(0.0, 0.0, resources.workers, None, None)]
    for leg in legs:
        options = [_option(leg, shape, resources) for shape in shapes(leg, resources)]
        reached = (
            after for before in front for option in options if (after := _append(before, option, resources)) is not None
        )
        front = _pareto(reached)
        if not front:
            return None
    return _schedule(min(front, key=lambda partial: (partial.cost, partial.seconds)), legs)


def largest_schedule(
    legs: Callable[[int], Sequence[StageWork]], resources: Resources, high: int
) -> tuple[int, Schedule] | None:
    """Find the largest number of trials that can be scheduled.

    Args:
        legs: Returns the legs for a number of trials; more trials must never make a leg smaller.
        resources: Time, money and machines.
        high: Upper bound of the number; the search is fastest if the bound is tight.

    Returns:
        The number, within 1 %, and its cheapest schedule; None if not even one trial can be scheduled.
    """
    low, above, best = 0, high + 1, None
    step = 1 / FIRST_STEP
    while above - low > 1 + low // PRECISION:
        trial = max(low + 1, int(above / (1 + step))) if not low else (low + above) // 2
        schedule = _feasible(legs(trial), best, resources)
        if schedule is None:
            above, step = trial, 2 * step
        else:
            low, best = trial, schedule
    return (low, cheapest_schedule(legs(low), resources) or best) if best else None


def cost_lower_bound(legs: Sequence[StageWork], resources: Resources) -> float:
    """Return a lower bound in micro-dollars: one worker per trial, without boots, billing minimums and leases."""
    seconds = sum(leg.trials * resources.trial_seconds(leg.epochs, 1) for leg in legs if leg.trials)
    return seconds * resources.price_micro_per_s


def _feasible(legs: Sequence[StageWork], like: Schedule | None, resources: Resources) -> Schedule | None:
    """Return a schedule, not always the cheapest; None if there is none. The shapes of `like` are tried first."""
    if like is None:
        return cheapest_schedule(legs, resources)
    if cost_lower_bound(legs, resources) > resources.money_micro:
        return None
    partial: _Partial | None = _Partial(0.0, 0.0, resources.workers, None, None)
    for leg, stage in zip(legs, like.stages, strict=True):
        if partial is None or stage.shape not in shapes(leg, resources):
            return cheapest_schedule(legs, resources)
        partial = _append(partial, _option(leg, stage.shape, resources), resources)
    return cheapest_schedule(legs, resources) if partial is None else _schedule(partial, legs)


class _Option(NamedTuple):
    """Workers and seconds of a shape for a given leg, without boots."""

    shape: Shape
    workers: int
    """Number of workers; 0 for a stage without trials, which changes nothing."""
    seconds: float


class _Partial(NamedTuple):
    """The first stages of a schedule, as a linked list."""

    seconds: float
    cost: float
    rented: int
    before: _Partial | None
    option: _Option | None


def _option(leg: StageWork, shape: Shape, resources: Resources) -> _Option:
    if not leg.trials:
        return _Option(shape, 0, 0.0)
    p, size = shape.parallelism, resources.workers_per_machine
    one_s = resources.trial_seconds(leg.epochs, p)
    if leg.within_s is None:
        wanted = math.ceil(leg.trials * p / shape.waves)
    else:
        wanted = math.ceil(leg.trials * one_s / max(leg.within_s, one_s) - _ROUNDING)
    workers = max(p, min(resources.max_workers, math.ceil(wanted / size) * size))
    # Trials follow each other without a barrier, so turns may be fractional; a gang has whole workers.
    seconds = max(one_s, leg.trials * one_s / (workers // p))
    return _Option(shape, workers, seconds)


def _append(before: _Partial, option: _Option, resources: Resources) -> _Partial | None:
    """Append a stage; return None if time or money does not suffice."""
    if not option.workers:
        return _Partial(before.seconds, before.cost, before.rented, before, option)
    booted = option.workers - before.rented
    paid_s = option.workers * option.seconds
    seconds = before.seconds + option.seconds
    if booted > 0:
        boot_s = resources.scaling.boot_s
        seconds += boot_s
        paid_s += booted * max(boot_s, resources.minimum_s - option.seconds)
    cost = before.cost + paid_s * resources.price_micro_per_s
    # At the end of each stage, its machines still hold their lease.
    if (
        seconds > resources.time_left_s
        or cost + option.workers * resources.lease_s * resources.price_micro_per_s > resources.money_micro
    ):
        return None
    # Workers that a stage does not need are retired at the end of the previous stage.
    return _Partial(seconds, cost, option.workers, before, option)


def _pareto(partials: Iterator[_Partial]) -> list[_Partial]:
    """Return the partial schedules that no other one equals or beats in time, money and rented workers."""
    kept: list[_Partial] = []
    for partial in sorted(partials, key=lambda each: (each.seconds, each.cost, -each.rented)):
        if not any(other.cost <= partial.cost and other.rented >= partial.rented for other in kept):
            kept.append(partial)
    return kept


def _schedule(last: _Partial, legs: Sequence[StageWork]) -> Schedule:
    stages: list[Stage] = []
    partial = last
    for leg in reversed(legs):
        before, option = partial.before, partial.option
        assert before is not None
        assert option is not None
        seconds, cost = partial.seconds - before.seconds, partial.cost - before.cost
        stages.append(
            Stage(leg.trials, leg.epochs, option.shape.parallelism, option.workers, seconds, cost, option.shape.waves)
        )
        partial = before
    return Schedule(tuple(reversed(stages)), last.seconds, last.cost)
