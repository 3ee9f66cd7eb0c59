"""What a policy that plans a whole job plans with: its stages, what their trials take, and what there is for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.planner import Resources
from seer_nb.core.reconcile import IDLE_SHARE
from seer_nb.policies._rungs import expected_epoch_s, fixed_size, power

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seer_nb.core import Snapshot


MOST = 1_000_000
"""Configurations that are never exceeded."""
FINE, COARSE = 1.02, 1.1
"""Steps in which estimates are rounded up: of what makes up most of the time, and of the rest."""
SIZES = 11
"""Stragglers are known for 1, 2, 4, ... trials, up to 2 to the power of 10."""


class Step(NamedTuple):
    """What a stage has to do."""

    trials: int
    epochs: float
    slow: float = 1.0
    """The slowest trial's epoch in those of the average one: it is what a barrier waits for."""


class Share(NamedTuple):
    """How a stage uses its workers."""

    workers: int
    parallelism: int
    seconds: float
    """Without a boot."""


def steps(n: int, eta: int, epochs: Sequence[int], slow: Sequence[float] = (1.0,)) -> tuple[Step, ...]:
    """The stages of a job of n configurations.

    Args:
        n: Configurations.
        eta: One in so many goes on from a rung.
        epochs: The rungs.
        slow: See ``stragglers``.
    """
    each = (epoch - before for before, epoch in zip((0, *epochs), epochs, strict=False))
    sizes = (max(1, n // eta**k) for k in range(len(epochs)))
    last = len(slow) - 1
    return tuple(
        Step(size, long, slow[min(last, size.bit_length() - 1)]) for size, long in zip(sizes, each, strict=True)
    )


def share(step: Step, workers: int, resources: Resources) -> Share:
    """The fair use that a stage makes of so many workers: a power of two for each trial, or trials take turns."""
    parallelism = min(power(max(1, workers // step.trials)), power(resources.max_parallelism))
    turns = -(-step.trials // (workers // parallelism))
    # Within turns slow and quick ones are mixed; whoever comes last may be slow.
    seconds = resources.leg_seconds(step.epochs * step.slow, parallelism)
    if turns > 1:
        seconds += (turns - 1) * resources.leg_seconds(step.epochs, parallelism)
    return Share(workers, parallelism, seconds)


def most(fits: Callable[[int], bool]) -> int:
    """The largest number for which it fits, if it fits for all smaller ones; 1 if it never does."""
    low, step = 1, 1
    while fits(min(MOST, low + step)):
        low, step = min(MOST, low + step), 2 * step
        if low == MOST:
            return low
    high = low + step - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def stragglers(snapshot: Snapshot) -> tuple[float, ...]:
    """How much longer than average the slowest of 1, 2, 4, 8, ... trials trains, as far as was seen.

    Of n trials drawn at random the slowest is expected at the quantile n / (n + 1) of all.
    """
    scaling = snapshot.scaling
    alone = [
        scaling.speedup(p) for p in range(max((trial.max_parallelism for trial in snapshot.trials), default=0) + 2)
    ]
    lasts = (trial.curve[-1] for trial in snapshot.trials if trial.curve)
    times = sorted([last.seconds * alone[last.parallelism] for last in lasts])
    mean = max(1e-9, math.fsum(times) / len(times)) if times else 1.0
    found = [
        times[min(len(times) - 1, len(times) * n // (n + 1))] if times else mean for n in (2**k for k in range(SIZES))
    ]
    return tuple(math.ceil(max(1.0, seconds / mean) * 20 - 1e-6) / 20 for seconds in found)


def lasting_s(snapshot: Snapshot, workers: int) -> float:
    """Seconds from now for which so many workers can be kept: until the deadline, or until the money ends."""
    offer = snapshot.offers[0]
    machines = -(-workers // offer.workers_per_machine)
    price_s = machines * offer.price_per_hour / 3600
    if price_s == 0:
        return snapshot.time_left_s
    return max(0.0, min(snapshot.time_left_s, (snapshot.budget - snapshot.spent) / price_s - snapshot.lease_s))


def profiled(snapshot: Snapshot) -> Resources:
    """What there was for the job when the first epoch had been timed, at what is known of speed by now.

    It stays the same, but for the estimates of speed, so that a plan made from it does. Raises ValueError before.
    """
    whole = Resources.whole(snapshot)
    whole = rounded_up(whole._replace(epoch_s=expected_epoch_s(snapshot) or whole.epoch_s))
    first_s = min((trial.curve[0].at_s for trial in snapshot.trials if trial.curve), default=0.0)
    begun = sum(trial.started_s is not None and trial.started_s <= first_s for trial in snapshot.trials)
    workers = min(begun, fixed_size(snapshot))
    return whole._replace(
        seconds=max(0.0, snapshot.stop_s - first_s),
        money=whole.money - workers * first_s * whole.price_s,
        workers=workers,
    )


def rounded_up(resources: Resources) -> Resources:
    """With speeds in steps, on the slow side: a plan must not change with every new estimate of them."""
    scaling = resources.scaling
    epoch_s = _step(resources.epoch_s, FINE)
    return resources._replace(
        epoch_s=epoch_s,
        scaling=type(scaling)(
            epoch_s=epoch_s,
            overhead=_step(scaling.overhead, COARSE),
            stall_s=_step(scaling.stall_s, COARSE),
            boot_s=_step(scaling.boot_s, COARSE),
        ),
    )


def handback_s(snapshot: Snapshot) -> float:
    """Seconds for which a machine is paid after it was needed."""
    return snapshot.offers[0].release_s + IDLE_SHARE * snapshot.scaling.boot_s


def _step(value: float, step: float) -> float:
    # A value that is on a step already, but for rounding, stays on it.
    return float(step ** math.ceil(math.log(value, step) - 1e-6)) if value > 0 else 0.0
