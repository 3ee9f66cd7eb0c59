"""The cheapest way to train so many trials within a time, and the most trials that time and money allow.

A plan is a row of stages. In a stage so many trials are trained by so many epochs each, with p workers a trial. A
trial's stage takes ``stall + epochs x t1 / s(p)`` seconds; on fewer workers than trials x p they take turns. Since
s(p) < p, an epoch is cheapest on one worker; parallelism is bought only where the time is too short, and where a
second costs least: in the late stages, which have few trials. A machine that boots is paid for while it does, so
trials take turns on few machines as long as time allows.

Shapes (width and parallelism) are chosen for all stages together, by dynamic programming over the Pareto front of
time, money and machines rented: so the cheapest of all combinations of the shapes considered is found.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seer_nb.core.policy import Scaling, Snapshot


FINENESS = 100
FIRST_STEP = 16
TURNS = (1, 2, 4, 8, 16, 64, 256)
"""How many trials may follow each other on a worker, where a boot or a minimum makes machines dear."""
GAIN = 1.05
"""Twice as many workers must be faster by so much to be considered at all."""
SPARE_S = 3.0
"""On top of a lease: bills grow by whole seconds, and before the money ends the last epoch must have been saved."""
_MOMENT_S = 1e-9


class Leg(NamedTuple):
    """What a stage has to do: so many trials, by so many epochs each (on average)."""

    trials: int
    epochs: float
    within: float | None = None
    """Seconds over which the trials are to be spread, one worker each, on as few workers as that takes; None: the
    planner chooses."""


class Shape(NamedTuple):
    """A way to do a stage."""

    turns: int
    """Trials that follow each other on a worker; 1 when there are more workers a trial."""
    parallelism: int


class Stage(NamedTuple):
    """How it is done."""

    trials: int
    epochs: float
    parallelism: int
    workers: int
    seconds: float
    cost: float
    """Micro-dollars."""
    turns: int = 1
    """Trials that follow each other on a worker; 1 also where the time for it is given."""

    @property
    def shape(self) -> Shape:
        """Of the ways considered."""
        return Shape(self.turns, self.parallelism)


class Schedule(NamedTuple):
    """Stages one after the other."""

    stages: tuple[Stage, ...]
    seconds: float
    cost: float
    """Micro-dollars."""

    @property
    def workers(self) -> int:
        """Of the stage that has the most."""
        return max((stage.workers for stage in self.stages), default=0)


class Resources(NamedTuple):
    """What there is to plan with."""

    seconds: float
    money: float
    """Micro-dollars, without what is kept back for leases."""
    epoch_s: float
    """Of an epoch on one worker."""
    scaling: Scaling
    price_s: float
    """Micro-dollars for a worker and second."""
    lease_s: float
    minimum_s: float
    """A machine is billed at least so long."""
    workers_per_machine: int
    max_workers: int
    max_parallelism: int
    workers: int = 0
    """That are rented already."""

    @classmethod
    def whole(cls, snapshot: Snapshot) -> Resources:
        """What there was for the whole study, at what is known of speed by now. Raises ValueError if nothing is."""
        offer = snapshot.offers[0]
        if snapshot.scaling.epoch_s is None:
            raise ValueError("no epoch has been timed yet")
        return cls(
            seconds=snapshot.stop_s,
            money=snapshot.budget,
            epoch_s=snapshot.scaling.epoch_s,
            scaling=snapshot.scaling,
            price_s=offer.worker_price_s(),
            lease_s=snapshot.lease_s + SPARE_S,
            minimum_s=offer.billing.minimum_s,
            workers_per_machine=offer.workers_per_machine,
            max_workers=snapshot.max_workers,
            max_parallelism=snapshot.max_workers,
        )

    @classmethod
    def left(cls, snapshot: Snapshot) -> Resources:
        """What is left of it."""
        return cls.whole(snapshot)._replace(
            seconds=snapshot.time_left_s,
            # Money that is spent already for time to come buys that time.
            money=snapshot.budget - snapshot.spent + _prepaid(snapshot),
            workers=sum(machine.slots for machine in snapshot.machines if machine.state != "retiring"),
        )

    def leg_seconds(self, epochs: float, parallelism: int) -> float:
        """Of one trial's stage."""
        return self.scaling.stall_s + epochs * self.epoch_s / self.scaling.speedup(parallelism)


def _prepaid(snapshot: Snapshot) -> float:
    """Micro-dollars billed, by minimums and whole units, for time that machines in use have still before them."""
    offers = {offer.name: offer for offer in snapshot.offers}
    prepaid = 0.0
    for machine in snapshot.machines:
        if machine.state != "retiring":
            offer, lived_s = offers[machine.offer], snapshot.now_s - machine.rented_s
            prepaid += (offer.billing.billed_s(lived_s) - lived_s) * offer.price_per_hour / 3600
    return prepaid


def least_parallelism(resources: Resources, epochs: float, seconds: float) -> int | None:
    """The fewest workers on which a trial is trained by so many epochs within a time; None if none suffice."""
    return next((p for p in sizes(resources.max_parallelism) if resources.leg_seconds(epochs, p) <= seconds), None)


def sizes(most: int) -> tuple[int, ...]:
    """Parallelisms worth trying: powers of two, for these divide the batches that people use."""
    return tuple(2**k for k in range(most.bit_length()))


def shapes(leg: Leg, resources: Resources) -> list[Shape]:
    """The ways worth considering, the fastest last."""
    if not leg.trials or leg.within is not None:
        return [Shape(1, 1)]
    dear = resources.scaling.boot_s > 0 or resources.minimum_s > 0
    taken = [Shape(turns, 1) for turns in TURNS if turns < 2 * leg.trials] if dear else [Shape(1, 1)]
    # Where trials take turns on all workers there are, larger gangs only waste.
    most = min(resources.max_parallelism, resources.max_workers // leg.trials)
    return taken[::-1] + [Shape(1, p) for p in sizes(most)[1:] if _speeds_up(p, resources.scaling)]


def _speeds_up(parallelism: int, scaling: Scaling) -> bool:
    return scaling.speedup(parallelism) > GAIN * scaling.speedup(parallelism // 2)


def cheapest(legs: Sequence[Leg], resources: Resources) -> Schedule | None:
    """The cheapest schedule that keeps time and money, among equals the fastest; None if there is none."""
    front: list[_Partial] = [_Partial(0.0, 0.0, resources.workers, None, None)]
    for leg in legs:
        ways = [_way(leg, shape, resources) for shape in shapes(leg, resources)]
        reached = (after for before in front for way in ways if (after := _after(before, way, resources)) is not None)
        front = _pareto(reached)
        if not front:
            return None
    return _schedule(min(front, key=lambda partial: (partial.cost, partial.seconds)), legs)


def largest(legs: Callable[[int], Sequence[Leg]], resources: Resources, high: int) -> tuple[int, Schedule] | None:
    """The largest number from 1 to high whose legs can be scheduled, to a hundredth; None if not even 1 can.

    Args:
        legs: The stages for a number of trials; more trials never make a stage smaller.
        resources: What there is.
        high: Greatest number; the search is quickest if it is not far too high.
    """
    low, above, best = 0, high + 1, None
    step = 1 / FIRST_STEP
    # To one in a hundred: estimates are no better.
    while above - low > 1 + low // FINENESS:
        trial = max(low + 1, int(above / (1 + step))) if not low else (low + above) // 2
        schedule = _found(legs(trial), best, resources)
        if schedule is None:
            above, step = trial, 2 * step
        else:
            low, best = trial, schedule
    return (low, cheapest(legs(low), resources) or best) if best else None


def least_cost(legs: Sequence[Leg], resources: Resources) -> float:
    """Micro-dollars that no schedule can go below: one worker a trial, without boots, minimums and leases."""
    seconds = sum(leg.trials * resources.leg_seconds(leg.epochs, 1) for leg in legs if leg.trials)
    return seconds * resources.price_s


def _found(legs: Sequence[Leg], like: Schedule | None, resources: Resources) -> Schedule | None:
    """A schedule, not always the cheapest; None if there is none."""
    if like is None:
        return cheapest(legs, resources)
    if least_cost(legs, resources) > resources.money:
        return None
    partial: _Partial | None = _Partial(0.0, 0.0, resources.workers, None, None)
    for leg, stage in zip(legs, like.stages, strict=True):
        if partial is None or stage.shape not in shapes(leg, resources):
            return cheapest(legs, resources)
        partial = _after(partial, _way(leg, stage.shape, resources), resources)
    return cheapest(legs, resources) if partial is None else _schedule(partial, legs)


class _Way(NamedTuple):
    """What a shape takes, without boots."""

    shape: Shape
    workers: int
    """0 for a stage without trials: nothing changes."""
    seconds: float


class _Partial(NamedTuple):
    """The stages up to one."""

    seconds: float
    cost: float
    rented: int
    before: _Partial | None
    way: _Way | None


def _way(leg: Leg, shape: Shape, resources: Resources) -> _Way:
    if not leg.trials:
        return _Way(shape, 0, 0.0)
    p, size = shape.parallelism, resources.workers_per_machine
    one_s = resources.leg_seconds(leg.epochs, p)
    if leg.within is None:
        wanted = math.ceil(leg.trials * p / shape.turns)
    else:
        wanted = math.ceil(leg.trials * one_s / max(leg.within, one_s) - _MOMENT_S)
    workers = max(p, min(resources.max_workers, math.ceil(wanted / size) * size))
    # Trials follow each other without a barrier, so turns need not be whole; but no gang has a part of a worker.
    seconds = max(one_s, leg.trials * one_s / (workers // p))
    return _Way(shape, workers, seconds)


def _after(before: _Partial, way: _Way, resources: Resources) -> _Partial | None:
    """With one more stage; None if time or money do not suffice."""
    if not way.workers:
        return _Partial(before.seconds, before.cost, before.rented, before, way)
    booted = way.workers - before.rented
    paid_s = way.workers * way.seconds
    seconds = before.seconds + way.seconds
    if booted > 0:
        boot_s = resources.scaling.boot_s
        seconds += boot_s
        paid_s += booted * max(boot_s, resources.minimum_s - way.seconds)
    cost = before.cost + paid_s * resources.price_s
    # At the end of each stage the machines that it has then still hold their lease.
    if seconds > resources.seconds or cost + way.workers * resources.lease_s * resources.price_s > resources.money:
        return None
    # Workers that a stage does not need are handed back after the one before.
    return _Partial(seconds, cost, way.workers, before, way)


def _pareto(partials: Iterator[_Partial]) -> list[_Partial]:
    """Without those that another one is as good as in time, money and machines that are there already."""
    kept: list[_Partial] = []
    for partial in sorted(partials, key=lambda each: (each.seconds, each.cost, -each.rented)):
        if not any(other.cost <= partial.cost and other.rented >= partial.rented for other in kept):
            kept.append(partial)
    return kept


def _schedule(last: _Partial, legs: Sequence[Leg]) -> Schedule:
    stages: list[Stage] = []
    partial = last
    for leg in reversed(legs):
        before, way = partial.before, partial.way
        assert before is not None
        assert way is not None
        seconds, cost = partial.seconds - before.seconds, partial.cost - before.cost
        stages.append(Stage(leg.trials, leg.epochs, way.shape.parallelism, way.workers, seconds, cost, way.shape.turns))
        partial = before
    return Schedule(tuple(reversed(stages)), last.seconds, last.cost)
