"""What policies that eliminate have in common: the rungs of a ladder, and who stands where on them."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING

from seer_nb._utils.validation import refuses_unknown, whole
from seer_nb.core import Job
from seer_nb.core.curve import value_at
from seer_nb.policies._statistics import censored_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seer_nb.core import Gang, Snapshot, Trial


PATIENCE = 2.0
"""In epochs of the quickest."""
LATE = 1.3
"""An epoch that takes so many times as long as thought may take an average one more."""
PRIOR = 4
"""So many trials would have to tell another speed before it is half believed."""
NEARLY = 0.95
"""As much of an epoch in progress as is counted at most."""
MERGE = 0.8
"""A rung at so much of the top or above it would only repeat the top's verdict."""


class WithRungs:
    """A policy that eliminates at rungs.

    Args:
        eta: One in so many goes on from a rung.
        first_rung: Epochs to the first rung.

    Raises:
        TypeError, ValueError: eta is no whole number from 2 on, or first_rung none from 1 on.
    """

    @refuses_unknown()
    def __init__(self, eta: int = 3, first_rung: int = 1) -> None:
        self.eta = whole(eta, "eta", 2)
        self.first_rung = whole(first_rung, "first_rung", what="a number of epochs")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(eta={self.eta}, first_rung={self.first_rung})"


def rungs(eta: int, first: int, top: int) -> tuple[int, ...]:
    """The epochs at which trials are compared: first, first x eta, first x eta^2, ..., top."""
    below, epoch = [], first
    while epoch < MERGE * top:
        below.append(epoch)
        epoch *= eta
    return (*below, top)


def ranked(trials: Iterable[Trial], epoch: int, mode: str) -> list[Trial]:
    """Trials that have reported an epoch, best first by their value at it; what is not finite comes last.

    Equal values keep the order of the trials' numbers.
    """
    sign = -1 if mode == "max" else 1
    # Reports have consecutive epochs. No function a trial: this is done for thousands of them at every decision.
    reported = {trial.id: trial for trial in trials if len(trial.curve) >= epoch}
    keys = [
        (math.inf if (value := value_at(trial.curve, epoch - 1)) is None else sign * value, number)
        for number, trial in reported.items()
    ]
    keys.sort()
    return [reported[number] for _, number in keys]


def fixed_size(snapshot: Snapshot) -> int:
    """Workers that the budget pays for from the start to the deadline, with their lease: floor(B / (c T)), or one."""
    price_s = snapshot.offers[0].worker_price_s()
    if price_s == 0:
        return snapshot.max_workers
    lasting = snapshot.budget / (price_s * (max(snapshot.stop_s, 1.0) + snapshot.lease_s))
    return max(1, min(snapshot.max_workers, math.floor(lasting)))


def measured(snapshot: Snapshot) -> bool:
    """Whether speed is known: from half of those that began first, for the quickest are the first to report.

    Who takes several times as long as the quickest is not waited for.
    """
    if snapshot.scaling.epoch_s is None:
        return False
    told = [trial.curve[0] for trial in snapshot.trials if trial.curve]
    if not told:
        return True
    first = min(told, key=lambda report: report.at_s)
    if snapshot.now_s - first.at_s > PATIENCE * first.seconds:
        return True
    began = [t for t in snapshot.trials if t.started_s is not None and t.started_s < first.at_s]
    return 2 * sum(bool(trial.curve) or not trial.alive for trial in began) >= len(began)


def alone_s(snapshot: Snapshot, trial: Trial) -> float | None:
    """Seconds that an epoch of the trial takes on one worker; None while that is unknown."""
    if not trial.curve:
        return None
    last = trial.curve[-1]
    return last.seconds * snapshot.scaling.speedup(last.parallelism)


def busy_s(snapshot: Snapshot, gang: Gang) -> float:
    """Seconds that one worker would have trained of the epoch in progress."""
    scaling = snapshot.scaling
    stall_s = scaling.stall_s if gang.heard_s == gang.started_s else 0.0
    return max(0.0, snapshot.now_s - gang.heard_s - stall_s) * scaling.speedup(gang.parallelism)


def expected_epoch_s(snapshot: Snapshot) -> float | None:
    """Seconds of an epoch on one worker, averaged over trials, those included that have not reported.

    The quick report first and are followed by others; what is reported tells of them more than of the slow.
    """
    known = [seconds for trial in snapshot.trials if (seconds := alone_s(snapshot, trial)) is not None]
    if not known:
        return snapshot.scaling.epoch_s
    reported = {trial.id for trial in snapshot.trials if trial.curve}
    return censored_mean(known, [busy_s(snapshot, gang) for gang in snapshot.gangs if gang.trial not in reported])


def paces(snapshot: Snapshot, epochs: Sequence[int], eta: int, epoch_s: float) -> list[float]:
    """By rung: an epoch of those that are likely to go there, as a multiple of the average: the best may be slow."""
    found, pace = [1.0], 1.0
    for epoch in epochs[:-1]:
        order = ranked(snapshot.trials, epoch, snapshot.mode)
        best = [alone_s(snapshot, trial) or 0.0 for trial in order[: math.ceil(len(order) / eta)]]
        pace = (sum(best) + PRIOR * pace * epoch_s) / ((len(best) + PRIOR) * epoch_s)
        found.append(pace)
    return found


def epoch_part(snapshot: Snapshot, gang: Gang) -> float:
    """The share of the epoch in progress that is done, by the clock; 0 if it takes longer than thought."""
    epoch_s = snapshot.scaling.epoch_s
    if epoch_s is None:
        return 0.0
    part = busy_s(snapshot, gang) / max(epoch_s, 1e-9)
    return part if part < NEARLY else NEARLY if part < LATE else 0.0


def kept(snapshot: Snapshot) -> list[Job]:
    """Jobs that let the running gangs go on as they are."""
    return [_goes_on(gang.trial, len(gang.workers), gang.until) for gang in snapshot.gangs if not gang.stopping]


@lru_cache(maxsize=1 << 14)
def _goes_on(trial: int, workers: int, until: int) -> Job:
    return Job(trial=trial, workers=workers, until=until)


def paused(snapshot: Snapshot) -> list[Trial]:
    """Trials that could go on at once."""
    busy = {gang.trial for gang in snapshot.gangs}
    return [trial for trial in snapshot.trials if trial.state == "paused" and trial.id not in busy]


def fresh(snapshot: Snapshot, until: int, reason: str) -> Iterator[Job]:
    """New trials, as many as there are configurations."""
    job = Job(trial=None, until=until, reason=reason)
    return repeat(job, snapshot.waiting) if snapshot.exhausted else repeat(job)


def power(most: int) -> int:
    """The largest power of two up to a number from 1 on."""
    return 1 << (most.bit_length() - 1)


def dividing(trial: Trial, most: int) -> int:
    """The largest power of two up to a number that divides the trial's batch; while that is unknown, any does."""
    size = power(most)
    while trial.batch_size is not None and trial.batch_size % size:
        size //= 2
    return size
