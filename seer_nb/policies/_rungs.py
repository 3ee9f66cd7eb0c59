"""Shared parts of the policies: rungs, rankings at a rung, measured speed, and jobs."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING

from seer_nb._utils.validation import check_integer, reject_unknown_arguments
from seer_nb.core import Job
from seer_nb.core.curve import value_at
from seer_nb.policies._statistics import censored_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seer_nb.core import Gang, PolicyView, Trial


MAX_CONFIGURATIONS = 1_000_000
"""Upper limit of the configurations that a policy plans for."""
RESIZE_GAIN = 1.1
"""Least ratio of progress after a resize, set-up included, to progress without it (HyperSched's rule)."""
PATIENCE = 2.0
"""Longest wait for further first reports, in epochs of the quickest trial."""
OVERDUE = 1.3
"""Ratio of elapsed to expected time of an epoch from which its end cannot be predicted."""
PRIOR_TRIALS = 4
"""Weight of the assumption that the best trials train at the average speed, in trials."""
MAX_PROGRESS = 0.95
"""Largest share of an epoch in progress that counts as done."""
MERGE_SHARE = 0.8
"""Share of the top from which on a rung is left out: it would only repeat the verdict at the top."""


class RungPolicy:
    """A policy that compares trials at rungs and eliminates the weaker ones.

    Args:
        eta: Reduction factor, at least 2: one in ``eta`` trials is promoted from a rung.
        first_rung: Epochs to the first rung, at least 1.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is too small.
    """

    @reject_unknown_arguments()
    def __init__(self, eta: int = 3, first_rung: int = 1) -> None:
        self.eta = check_integer(eta, "eta", 2)
        self.first_rung = check_integer(first_rung, "first_rung", what="a number of epochs")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(eta={self.eta}, first_rung={self.first_rung})"


# --- rungs ---


def rungs(eta: int, first: int, top: int) -> tuple[int, ...]:
    """Return the epochs at which trials are compared: first, first x eta, first x eta^2, ..., top."""
    below, epoch = [], first
    while epoch < MERGE_SHARE * top:
        below.append(epoch)
        epoch *= eta
    return (*below, top)


def rank_trials(trials: Iterable[Trial], epoch: int, mode: str) -> list[Trial]:
    """Return the trials that have reported an epoch, best first by their value at it.

    Values that are not finite come last. Equal values keep the order of the trials' ids.

    Args:
        trials: The candidates.
        epoch: The rung, from 1.
        mode: "max" or "min".
    """
    sign = -1 if mode == "max" else 1
    # Reports have consecutive epochs. Plain loops, because thousands of trials are ranked at every decision.
    reported = {trial.id: trial for trial in trials if len(trial.curve) >= epoch}
    keys = [
        (math.inf if (value := value_at(trial.curve, epoch - 1)) is None else sign * value, number)
        for number, trial in reported.items()
    ]
    keys.sort()
    return [reported[number] for _, number in keys]


# --- the fixed cluster ---


def fixed_cluster_size(view: PolicyView) -> int:
    """Return the workers that the budget pays for from start to deadline, lease included: floor(B / (c T)), or 1."""
    price_s = view.offers[0].worker_price_s()
    if price_s == 0:
        return view.max_workers
    affordable = view.budget_micro / (price_s * (max(view.stop_s, 1.0) + view.lease_s))
    return max(1, min(view.max_workers, math.floor(affordable)))


# --- speed ---


def speed_is_known(view: PolicyView) -> bool:
    """Return whether half of the trials that started first have reported.

    The quickest trials report first, so that a single report is biased. Trials that take several times as long as the
    quickest one are not awaited.
    """
    if view.scaling.epoch_s is None:
        return False
    firsts = [trial.curve[0] for trial in view.trials if trial.curve]
    if not firsts:
        return True
    first = min(firsts, key=lambda report: report.at_s)
    if view.now_s - first.at_s > PATIENCE * first.seconds:
        return True
    started = [t for t in view.trials if t.started_s is not None and t.started_s < first.at_s]
    return 2 * sum(bool(trial.curve) or not trial.alive for trial in started) >= len(started)


def single_worker_epoch_s(view: PolicyView, trial: Trial) -> float | None:
    """Return the seconds that one worker takes for an epoch of a trial; None before its first report."""
    if not trial.curve:
        return None
    last = trial.curve[-1]
    return last.seconds * view.scaling.speedup(last.parallelism)


def epoch_in_progress_s(view: PolicyView, gang: Gang) -> float:
    """Return the training done in a gang's current epoch, in seconds of one worker."""
    scaling = view.scaling
    stall_s = scaling.stall_s if gang.last_message_s == gang.started_s else 0.0
    return max(0.0, view.now_s - gang.last_message_s - stall_s) * scaling.speedup(gang.parallelism)


def epoch_progress(view: PolicyView, gang: Gang) -> float:
    """Return the share of a gang's current epoch that is done by the clock; 0 if the epoch is overdue."""
    epoch_s = view.scaling.epoch_s
    if epoch_s is None:
        return 0.0
    part = epoch_in_progress_s(view, gang) / max(epoch_s, 1e-9)
    return part if part < MAX_PROGRESS else MAX_PROGRESS if part < OVERDUE else 0.0


def expected_epoch_s(view: PolicyView) -> float | None:
    """Return the mean seconds of an epoch on one worker, over all trials, including those without a report.

    Quick trials report first. The mean of the reported epochs alone would therefore be too small.
    """
    known = [seconds for trial in view.trials if (seconds := single_worker_epoch_s(view, trial)) is not None]
    if not known:
        return view.scaling.epoch_s
    reported = {trial.id for trial in view.trials if trial.curve}
    return censored_mean(known, [epoch_in_progress_s(view, gang) for gang in view.gangs if gang.trial not in reported])


def pace_by_rung(view: PolicyView, epochs: Sequence[int], eta: int, epoch_s: float) -> list[float]:
    """Return by rung the epoch time of the trials that are likely to reach it, relative to the average.

    The best trials may be slow ones, such as those with wide networks.

    Args:
        view: The policy view.
        epochs: The rungs.
        eta: Reduction factor.
        epoch_s: Seconds of an average epoch on one worker.
    """
    found, pace = [1.0], 1.0
    for epoch in epochs[:-1]:
        order = rank_trials(view.trials, epoch, view.mode)
        best = [single_worker_epoch_s(view, trial) or 0.0 for trial in order[: math.ceil(len(order) / eta)]]
        pace = (sum(best) + PRIOR_TRIALS * pace * epoch_s) / ((len(best) + PRIOR_TRIALS) * epoch_s)
        found.append(pace)
    return found


# --- jobs ---


def running_jobs(view: PolicyView) -> list[Job]:
    """Return the jobs that continue the running gangs unchanged."""
    return [_running_job(gang.trial, len(gang.workers), gang.until) for gang in view.gangs if not gang.stopping]


@lru_cache(maxsize=1 << 14)
def _running_job(trial: int, workers: int, until: int) -> Job:
    return Job(trial=trial, workers=workers, until=until)


def resumable_trials(view: PolicyView) -> list[Trial]:
    """Return the paused trials that no gang is still stopping."""
    busy = {gang.trial for gang in view.gangs}
    return [trial for trial in view.trials if trial.state == "paused" and trial.id not in busy]


def new_jobs(view: PolicyView, until: int, reason: str) -> Iterator[Job]:
    """Yield jobs for new trials, as many as there are configurations."""
    job = Job(trial=None, until=until, reason=reason)
    return repeat(job, view.waiting) if view.exhausted else repeat(job)


# --- parallelism ---


def power_of_two(most: int) -> int:
    """Return the largest power of two up to a number >= 1."""
    return 1 << (most.bit_length() - 1)


def allowed_parallelism(trial: Trial, most: int) -> int:
    """Return the largest power of two up to ``most`` that divides the trial's batch; 1 if it shares no work."""
    size = 1 if trial.shares is False else power_of_two(most)
    while trial.batch_size is not None and trial.batch_size % size:
        size //= 2
    return size
