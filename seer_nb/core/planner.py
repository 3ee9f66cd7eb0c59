"""The cheapest way to train so many trials within a time, and the most trials that time and money allow.

A plan is a row of stages. In a stage so many trials are trained by so many epochs each, with p workers a trial. A
trial's stage takes ``stall + epochs x t1 / s(p)`` seconds; on fewer workers than trials x p they take turns. Since
s(p) < p, an epoch is cheapest on one worker; parallelism is bought only where the time is too short, and first where
a second costs least: in the late stages, which have few trials.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seer_nb.core.model import Scaling, Snapshot

FINENESS = 100
_MOMENT_S = 1e-9
"""A step that saves less is rounding."""
BOOT_SHARE = 0.25
"""A further machine is rented, as long as time does not press, only if its boot takes less than this share of what it
then trains."""


class Leg(NamedTuple):
    """What a stage has to do: so many trials, by so many epochs each (on average)."""

    trials: int
    epochs: float


class Stage(NamedTuple):
    """How it is done."""

    trials: int
    epochs: float
    parallelism: int
    workers: int
    seconds: float
    cost: float
    """Micro-dollars."""


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
            lease_s=snapshot.lease_s,
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
            money=snapshot.budget - snapshot.spent,
            workers=sum(machine.slots for machine in snapshot.machines if machine.state != "retiring"),
        )

    def leg_seconds(self, epochs: float, parallelism: int) -> float:
        """Of one trial's stage."""
        return self.scaling.stall_s + epochs * self.epoch_s / self.scaling.speedup(parallelism)


def least_parallelism(resources: Resources, epochs: float, seconds: float) -> int | None:
    """The fewest workers on which a trial is trained by so many epochs within a time; None if none suffice."""
    return next((p for p in sizes(resources.max_parallelism) if resources.leg_seconds(epochs, p) <= seconds), None)


def sizes(most: int) -> tuple[int, ...]:
    """Parallelisms worth trying: powers of two, for these divide the batches that people use."""
    return tuple(2**k for k in range(most.bit_length()))


def cheapest(legs: Sequence[Leg], resources: Resources) -> Schedule | None:
    """The cheapest schedule that keeps time and money; None if there is none.

    Greedy, as in ElasticFlow and RubberBand: from the fewest machines and one worker a trial, while it is too slow,
    take the step by which a second saved costs least: more machines for a stage whose trials take turns, or more
    workers a trial.
    """
    efforts = (_Effort(),) * len(legs)
    schedule = _schedule(legs, efforts, resources)
    while (late := schedule.seconds > resources.seconds) or not _affordable(schedule, resources):
        step = _cheapest_step(legs, efforts, schedule, resources)
        # Against too little money only a step helps that saves both: fewer boots later on, for instance.
        if step is None or (not late and step[1].cost >= schedule.cost):
            return None
        efforts, schedule = step
    return schedule


def largest(
    legs: Callable[[int], Sequence[Leg]], resources: Resources, low: int, high: int
) -> tuple[int, Schedule] | None:
    """The largest number from low to high whose legs can be scheduled, to a hundredth; None if not even low can.

    Args:
        legs: The stages for a number of trials; more trials never make a stage smaller.
        resources: What there is.
        low: Least number.
        high: Greatest number.
    """
    best = cheapest(legs(low), resources)
    if best is None:
        return None
    # Upwards in doubling steps first: high may be far off.
    step = 1
    while low < high:
        trial = min(high, low + step)
        schedule = cheapest(legs(trial), resources)
        if schedule is None:
            high = trial - 1
            break
        low, best, step = trial, schedule, step * 2
    # To one in a hundred: estimates are no better, and this is done at every decision.
    while low + low // FINENESS < high:
        middle = (low + high + 1) // 2
        schedule = cheapest(legs(middle), resources)
        if schedule is None:
            high = middle - 1
        else:
            low, best = middle, schedule
    return low, best


class _Effort(NamedTuple):
    """What is done to speed a stage up."""

    doublings: int = 0
    """How often the number of its machines was doubled beyond what boots are worth."""
    parallelism: int = 1

    def steps(self, trials: int, workers: int, resources: Resources) -> Iterator[_Effort]:
        """What could be done next for a stage of so many trials on so many workers."""
        useful = min(trials * self.parallelism, resources.max_workers)
        if workers < useful:
            yield self._replace(doublings=self.doublings + 1)
            # At once, since a doubling that has to be booted for may save nothing by itself.
            yield self._replace(doublings=_ALL)
        # Where trials take turns on all workers there are, larger gangs only waste.
        if useful < resources.max_workers and 2 * self.parallelism <= resources.max_parallelism:
            yield _Effort(_ALL, 2 * self.parallelism)


_ALL = 64
"""Doublings that make the machines as many as the stage can use."""


def _cheapest_step(
    legs: Sequence[Leg], efforts: tuple[_Effort, ...], schedule: Schedule, resources: Resources
) -> tuple[tuple[_Effort, ...], Schedule] | None:
    """The step by which a second saved costs least; None when nothing saves time any more."""
    best: tuple[float, tuple[_Effort, ...], Schedule] | None = None
    for k, effort in enumerate(efforts):
        for raised in effort.steps(legs[k].trials, schedule.stages[k].workers, resources):
            changed = (*efforts[:k], raised, *efforts[k + 1 :])
            faster = _schedule(legs, changed, resources)
            saved_s = schedule.seconds - faster.seconds
            if saved_s > _MOMENT_S:
                price = (faster.cost - schedule.cost) / saved_s
                if best is None or price < best[0]:
                    best = (price, changed, faster)
    return best[1:] if best is not None else None


def _schedule(legs: Sequence[Leg], efforts: Sequence[_Effort], resources: Resources) -> Schedule:
    stages: list[Stage] = []
    rented = resources.workers
    for leg, effort in zip(legs, efforts, strict=True):
        stage = _stage(leg, effort, rented, resources)
        # Workers that a stage does not need are handed back after the one before.
        rented = stage.workers if leg.trials else rented
        stages.append(stage)
    return Schedule(tuple(stages), sum(s.seconds for s in stages), sum(s.cost for s in stages))


def _stage(leg: Leg, effort: _Effort, rented: int, resources: Resources) -> Stage:
    parallelism = effort.parallelism
    if not leg.trials:
        return Stage(0, leg.epochs, parallelism, 0, 0.0, 0.0)
    one_s = resources.leg_seconds(leg.epochs, parallelism)
    workers = _width(leg, effort, rented, resources)
    booted = max(0, workers - rented)
    boot_s = resources.scaling.boot_s if booted else 0.0
    # Trials follow each other without a barrier, so turns need not be whole; but no gang has a part of a worker.
    seconds = max(one_s, leg.trials * one_s / (workers // parallelism))
    paid_s = workers * seconds + booted * max(boot_s, resources.minimum_s - seconds)
    return Stage(leg.trials, leg.epochs, parallelism, workers, boot_s + seconds, paid_s * resources.price_s)


def _width(leg: Leg, effort: _Effort, rented: int, resources: Resources) -> int:
    """How many workers a stage has: as many as boots are worth, doubled as often as it takes, or all it can use."""
    most = min(leg.trials * effort.parallelism, resources.max_workers)
    if most > rented and resources.scaling.boot_s:
        work_s = leg.trials * resources.leg_seconds(leg.epochs, 1)
        worth = max(1, rented, int(BOOT_SHARE * work_s / resources.scaling.boot_s))
        most = min(most, worth << effort.doublings)
    size = resources.workers_per_machine
    return min(resources.max_workers, math.ceil(most / size) * size)


def _affordable(schedule: Schedule, resources: Resources) -> bool:
    """Whether money lasts, at the end of each stage with the lease of the machines that it then has."""
    spent = 0.0
    for stage in schedule.stages:
        spent += stage.cost
        if stage.workers and spent + stage.workers * resources.lease_s * resources.price_s > resources.money:
            return False
    return True
