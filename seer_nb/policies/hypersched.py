"""HyperSched (Liaw et al., SoCC 2019): ASHA with pauses, admission control, and idle workers for the best trials.

The rules are those of its published code (github.com/ucbrise/hypersched), with three differences that follow from the
policy view. The mean time of an epoch replaces the median. The mean stall replaces the 90th percentile of set-up times.
Workers are distributed by doublings, because a parallelism is a power of two that divides the batch.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from seer_nb._utils.validation import reject_unknown_arguments
from seer_nb.core import Job, Plan, Verdict
from seer_nb.policies._profile import affordable_s
from seer_nb.policies._rungs import (
    RESIZE_GAIN,
    RungPolicy,
    allowed_parallelism,
    fixed_cluster_size,
    new_jobs,
    resumable_trials,
)
from seer_nb.policies._statistics import sorted_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core import Gang, PolicyView, Trial


REPORTS_BEFORE_RESIZE = 6
"""Reports of a gang before it may be resized: the published recharge period of 5, and one more to fall below zero."""


class HyperSched(RungPolicy):
    """HyperSched on a fixed cluster of floor(B / (c T)) workers (budget B, price c, deadline T).

    - Pauses: a trial that reports is paused if it is below the (1 - 1/eta) quantile of any rung that it has passed. A
      quantile counts the trials that have reported the rung by then, at least two. It counts the trial itself only
      from its next report on. A paused trial may resume when it reaches the quantile of the rung that paused it.
    - Admission: trials start or resume only while the time left is at least min(eta x (the longest training so far -
      the stall), the time of a full training). After that, paused trials are stopped. Only trials that lost their
      workers, or that are being resized, continue.
    - Workers: each live trial has at least one; the remaining ones are distributed in turn, best trial first.

    Source: Liaw et al., SoCC 2019, and its published code (github.com/ucbrise/hypersched).

    Args:
        eta: One in ``eta`` trials is above the cut-off of a rung; at least 2.
        first_rung: Epochs to the first rung, at least 1.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is too small.

    Example:
        >>> from seer_nb.policies import HyperSched
        >>> HyperSched(eta=3)
        HyperSched(eta=3, first_rung=1)
    """

    @reject_unknown_arguments()
    def __init__(self, eta: int = 4, first_rung: int = 1) -> None:
        super().__init__(eta, first_rung)

    def decide(self, view: PolicyView) -> Plan:
        """Pause trials below a cut-off, fill free workers, and distribute the remaining workers."""
        size, admits = fixed_cluster_size(view), self.admits_trials(view)
        rungs = _Rungs(view, self.first_rung, self.eta)
        trials = {trial.id: trial for trial in view.trials}
        gangs = [g for g in view.gangs if g.trial not in rungs.cuts or not _has_reported(g, trials[g.trial])]
        free = size - sum(gang.parallelism for gang in view.gangs)
        # Trials that lost their workers or are being resized resume even after admission has ended.
        able = [t for t in resumable_trials(view) if t.id not in rungs.cuts or (admits and rungs.reaches(t))]
        able = [trial for trial in able if trial.epoch < view.max_epochs]
        resumed = sorted(able, key=lambda trial: self._queue_key(trial, view.mode, rungs.cuts))[: max(0, free)]
        more = new_jobs(view, view.max_epochs, "next configuration") if admits else ()
        new = list(islice(more, max(0, free - len(resumed))))
        live = [trials[gang.trial] for gang in gangs] + resumed
        most = min(size, view.max_parallelism)
        shares = distribute_workers(_best_first(live, view.mode), most, size - len(live) - len(new))
        jobs = _live_jobs(view, gangs, resumed, shares, free - len(new)) + new
        verdicts = () if admits else _too_late(view, able)
        done = not (jobs or view.gangs)
        return Plan(
            jobs=tuple(jobs),
            verdicts=tuple(verdicts),
            workers=0 if done else min(size, (len(live) + len(new)) * most),
            done=done,
            reason=_reason(size, admits=admits, done=done),
            each_report=True,
        )

    def below_cutoff(self, view: PolicyView) -> set[int]:
        """Return the trials that were below a cut-off at their last report."""
        return set(_Rungs(view, self.first_rung, self.eta).cuts)

    def admits_trials(self, view: PolicyView) -> bool:
        """Return whether there is time for trials to start or to resume."""
        epoch_s = view.scaling.epoch_s
        if epoch_s is None:
            return True
        longest_s, full_s = _longest_training_s(view.trials), view.max_epochs * epoch_s
        fair_s = self.eta * (longest_s - view.scaling.stall_s)
        return affordable_s(view, fixed_cluster_size(view)) >= min(fair_s, full_s)

    def _queue_key(self, trial: Trial, mode: str, cut: dict[int, int]) -> tuple[int, float]:
        """Return the sort key for resuming: highest rung first, that which paused the trial, then best value at it."""
        rung, epoch = 0, self.first_rung
        while epoch <= len(trial.curve):
            rung, epoch = epoch, epoch * self.eta
        rung = cut.get(trial.id, rung)
        return -rung, _loss(trial, rung, mode)


class _Rungs:
    """Records and cut-offs of the rungs below the top.

    Args:
        view: The policy view.
        first: The first rung, in epochs.
        eta: Ratio of two rungs.
    """

    def __init__(self, view: PolicyView, first: int, eta: int) -> None:
        self._mode, self._share = view.mode, 1 - 1 / eta
        self._cutoffs: dict[int, float] = {}
        """Present cut-off of each rung that has a record."""
        self.cuts: dict[int, int] = {}
        """Highest rung whose cut-off a trial was below at its last report, by trial."""
        epoch = first
        while epoch < view.max_epochs:
            self.cuts |= dict.fromkeys(self._replay(view.trials, epoch), epoch)
            epoch *= eta

    def reaches(self, trial: Trial) -> bool:
        """Return whether a cut trial is no longer below the cut-off of the rung that cut it."""
        epoch = self.cuts[trial.id]
        return self._score(trial, epoch) >= self._cutoffs[epoch]

    def _replay(self, trials: Iterable[Trial], epoch: int) -> list[int]:
        """Return the trials that were below a rung's cut-off at their last report, given the records of that time."""
        passed = [(trial, self._score(trial, epoch)) for trial in trials if len(trial.curve) >= epoch]
        records = sorted(((trial.curve[epoch - 1].at_s, score) for trial, score in passed), reverse=True)
        seen: list[float] = []
        low = []
        for trial, score in sorted(passed, key=lambda pair: pair[0].curve[-1].at_s):
            while records and records[-1][0] <= trial.curve[-1].at_s:
                insort(seen, records.pop()[1])
            # At its first report of the rung, a trial is compared with the other ones only.
            own = bisect_left(seen, score) if len(trial.curve) == epoch else None
            compared = len(seen) - (own is not None)
            if compared > 1 and score < sorted_quantile(seen, self._share, own) and not trial.pinned:
                low.append(trial.id)
        if seen:
            self._cutoffs[epoch] = sorted_quantile(seen, self._share)
        return low

    def _score(self, trial: Trial, epoch: int) -> float:
        return -_loss(trial, epoch, self._mode)


def _has_reported(gang: Gang, trial: Trial) -> bool:
    """Return whether a trial has reported since its gang started: only a report decides on a pause."""
    return bool(trial.curve) and trial.curve[-1].at_s > gang.started_s


def distribute_workers(order: Sequence[Trial], most: int, spare: int) -> dict[int, int]:
    """Return workers by trial: one each, then doubled in turn while spare workers last.

    Args:
        order: Trials, best first.
        most: Most workers of one trial.
        spare: Workers that remain when each trial has one.
    """
    shares = {trial.id: 1 for trial in order}
    growing = list(order)
    while growing:
        grown = []
        for trial in growing:
            now = shares[trial.id]
            if now <= spare and allowed_parallelism(trial, min(most, 2 * now)) > now:
                shares[trial.id] = 2 * now
                spare -= now
                grown.append(trial)
        growing = grown
    return shares


def _live_jobs(
    view: PolicyView, gangs: Sequence[Gang], resumed: Sequence[Trial], shares: dict[int, int], free: int
) -> list[Job]:
    """Return the jobs of running gangs, resized or not, and of resumed trials, within the free workers."""
    trials = {trial.id: trial for trial in view.trials}
    until = view.max_epochs
    jobs: list[Job] = []
    order = {number: rank for rank, number in enumerate(shares)}
    # A gang that is being stopped for a resize will soon need its share.
    free -= sum(max(0, shares[gang.trial] - gang.parallelism) for gang in gangs if gang.stopping)
    resumed_jobs: list[Job] = []
    for number, trial in enumerate(resumed, 1):
        workers = allowed_parallelism(trial, max(1, min(shares[trial.id], free - (len(resumed) - number))))
        free -= workers
        resumed_jobs.append(Job(trial=trial.id, workers=workers, until=until, reason="not below a cut-off: resumes"))
    for gang in sorted(gangs, key=lambda gang: order[gang.trial]):
        if gang.stopping:
            continue
        now, share = gang.parallelism, shares[gang.trial]
        wanted = share if _resizes(view, gang, trials[gang.trial], share) and share - now <= free else now
        free -= max(0, wanted - now)
        why = "" if wanted == now else f"its share of the cluster changed to {wanted} workers"
        jobs.append(Job(trial=gang.trial, workers=wanted, until=gang.until, reason=why))
    return jobs + resumed_jobs


def _resizes(view: PolicyView, gang: Gang, trial: Trial, share: int) -> bool:
    """Return whether a gang is resized to its share: always to fewer workers, to more only if the progress pays."""
    if trial.epoch - gang.from_epoch < REPORTS_BEFORE_RESIZE:
        return False
    scaling, left_s = view.scaling, affordable_s(view, fixed_cluster_size(view))
    progress = scaling.speedup(gang.parallelism) * left_s
    resized = scaling.speedup(share) * (left_s - scaling.stall_s)
    return share < gang.parallelism or resized > RESIZE_GAIN * progress


def _best_first(trials: Iterable[Trial], mode: str) -> list[Trial]:
    """Sort trials by their last value; those without one come last."""
    return sorted(trials, key=lambda trial: (_loss(trial, len(trial.curve), mode), trial.id))


def _loss(trial: Trial, epoch: int, mode: str) -> float:
    """Return a trial's value at an epoch, with the sign by which less is better; infinity without a finite value."""
    value = trial.curve[epoch - 1].value if epoch else None
    if value is None:
        return math.inf
    return -value if mode == "max" else value


def _longest_training_s(trials: Iterable[Trial]) -> float:
    """Return the seconds that the epochs of the longest trained trial took."""
    longest_s = 0.0
    # A trial's epochs take at most its worker seconds, so that most curves need not be summed.
    for trial in sorted(trials, key=attrgetter("worker_seconds"), reverse=True):
        if longest_s >= trial.worker_seconds:
            break
        longest_s = max(longest_s, sum(report.seconds for report in trial.curve))
    return longest_s


def _too_late(view: PolicyView, able: Sequence[Trial]) -> Iterable[Verdict]:
    kept = {trial.id for trial in able}
    reason = "paused, and too little time is left to resume"
    return (Verdict(trial=t.id, reason=reason) for t in resumable_trials(view) if t.id not in kept and not t.pinned)


def _reason(size: int, *, admits: bool, done: bool) -> str:
    if done:
        return "HyperSched: no trial is left to train"
    return f"HyperSched on {size} workers" + ("" if admits else ": too late to start trials, the live ones share them")
