"""Planning a whole bracket of synchronous halving: its stages, how they use workers, and its resources."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.planner import Resources
from seer_nb.core.reconcile import IDLE_SHARE
from seer_nb.policies._rungs import MAX_CONFIGURATIONS, expected_epoch_s, fixed_cluster_size, power_of_two

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seer_nb.core import PolicyView


FINE_STEP = 1.02
"""Factor between the steps to which epoch times are rounded up; they make up most of the time."""
COARSE_STEP = 1.1
"""Factor between the steps to which the other estimates of speed are rounded up."""
STRAGGLER_SIZES = 11
"""Number of stage sizes with a straggler factor: 1, 2, 4, ... up to 2 to the power of 10 trials."""


class BracketStage(NamedTuple):
    """The training of one stage."""

    trials: int
    epochs: float
    """Epochs of each trial."""
    straggler: float = 1.0
    """Epoch time of the slowest trial, for which the barrier waits, over that of the average one."""


class Allocation(NamedTuple):
    """The workers of one stage."""

    workers: int
    parallelism: int
    seconds: float
    """Duration of the stage, without a boot."""


def bracket_stages(
    n: int, eta: int, epochs: Sequence[int], stragglers: Sequence[float] = (1.0,)
) -> tuple[BracketStage, ...]:
    """Return the stages of a bracket.

    Args:
        n: Configurations.
        eta: Reduction factor.
        epochs: The rungs.
        stragglers: Result of ``straggler_factors``.
    """
    each = (epoch - before for before, epoch in zip((0, *epochs), epochs, strict=False))
    sizes = (max(1, n // eta**k) for k in range(len(epochs)))
    last = len(stragglers) - 1
    return tuple(
        BracketStage(size, count, stragglers[min(last, size.bit_length() - 1)])
        for size, count in zip(sizes, each, strict=True)
    )


def allocate_fairly(work: BracketStage, workers: int, resources: Resources) -> Allocation:
    """Give each trial of a stage the same power of two of workers; with fewer workers than trials, train in waves."""
    parallelism = min(power_of_two(max(1, workers // work.trials)), power_of_two(resources.max_parallelism))
    waves = -(-work.trials // (workers // parallelism))
    # Slow and quick trials mix within waves. Only the last trial to finish has to be a slow one.
    seconds = resources.trial_seconds(work.epochs * work.straggler, parallelism)
    if waves > 1:
        seconds += (waves - 1) * resources.trial_seconds(work.epochs, parallelism)
    return Allocation(workers, parallelism, seconds)


def largest_fitting(fits: Callable[[int], bool]) -> int:
    """Return the largest number up to ``MAX_CONFIGURATIONS`` that fits, if all smaller ones do; 1 if none fits."""
    low, step = 1, 1
    while fits(min(MAX_CONFIGURATIONS, low + step)):
        low, step = min(MAX_CONFIGURATIONS, low + step), 2 * step
        if low == MAX_CONFIGURATIONS:
            return low
    high = low + step - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def straggler_factors(view: PolicyView) -> tuple[float, ...]:
    """Return the epoch time of the slowest of 1, 2, 4, 8, ... trials over the average, from the trials so far.

    The slowest of n trials drawn at random is expected at the quantile n / (n + 1).
    """
    scaling = view.scaling
    speedups = [scaling.speedup(p) for p in range(max((trial.max_parallelism for trial in view.trials), default=0) + 2)]
    lasts = (trial.curve[-1] for trial in view.trials if trial.curve)
    times = sorted([last.seconds * speedups[last.parallelism] for last in lasts])
    mean = max(1e-9, math.fsum(times) / len(times)) if times else 1.0
    slowest = [
        times[min(len(times) - 1, len(times) * n // (n + 1))] if times else mean
        for n in (2**k for k in range(STRAGGLER_SIZES))
    ]
    return tuple(math.ceil(max(1.0, seconds / mean) * 20 - 1e-6) / 20 for seconds in slowest)


def affordable_s(view: PolicyView, workers: int) -> float:
    """Return the seconds from now for which workers can be kept, until the deadline or the end of the money."""
    offer = view.offers[0]
    machines = -(-workers // offer.workers_per_machine)
    price_s = machines * offer.price_per_hour_micro / 3600
    if price_s == 0:
        return view.time_left_s
    return max(0.0, min(view.time_left_s, (view.budget_micro - view.spent_micro) / price_s - view.lease_s))


def profiled_resources(view: PolicyView) -> Resources:
    """Return the bracket's resources at the time of the first report, at the speed measured by now.

    Everything but the speed stays the same during a study, and so does a plan made from it.

    Raises:
        ValueError: No epoch has been timed.
    """
    whole = Resources.of_study(view)
    whole = round_up_speeds(whole._replace(epoch_s=expected_epoch_s(view) or whole.epoch_s))
    first_s = min((trial.curve[0].at_s for trial in view.trials if trial.curve), default=0.0)
    started = sum(trial.started_s is not None and trial.started_s <= first_s for trial in view.trials)
    workers = min(started, fixed_cluster_size(view))
    return whole._replace(
        time_left_s=max(0.0, view.stop_s - first_s),
        money_micro=whole.money_micro - workers * first_s * whole.price_micro_per_s,
        workers=workers,
    )


def round_up_speeds(resources: Resources) -> Resources:
    """Round estimated seconds up to steps, so that a plan does not change with every new estimate."""
    scaling = resources.scaling
    epoch_s = _round_up(resources.epoch_s, FINE_STEP)
    return resources._replace(
        epoch_s=epoch_s,
        scaling=type(scaling)(
            epoch_s=epoch_s,
            overhead=_round_up(scaling.overhead, COARSE_STEP),
            stall_s=_round_up(scaling.stall_s, COARSE_STEP),
            boot_s=_round_up(scaling.boot_s, COARSE_STEP),
        ),
    )


def paid_idle_s(view: PolicyView) -> float:
    """Return the seconds for which a machine is billed after its last use."""
    return view.offers[0].release_s + IDLE_SHARE * view.scaling.boot_s


def _round_up(value: float, step: float) -> float:
    # The tolerance keeps a value on its step in spite of rounding errors.
    return float(step ** math.ceil(math.log(value, step) - 1e-6)) if value > 0 else 0.0
