"""HyperSched (Liaw et al., SoCC 2019): ASHA that pauses, starts nothing too late, and deals idle workers out.

The rules are those of its published code (github.com/ucbrise/hypersched), with three differences that come from what
a snapshot shows: the mean time of an epoch stands for the median, the mean stall for the 90th percentile of set-up
times, and workers are dealt out by doublings, since a parallelism is a power of two that divides the batch.
"""

from __future__ import annotations

import math
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from seer_nb._utils.validation import refuses_unknown
from seer_nb.core import Job, Plan, Verdict
from seer_nb.policies._profile import lasting_s
from seer_nb.policies._rungs import WithRungs, dividing, fixed_size, fresh, paused
from seer_nb.policies._statistics import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core import Gang, Snapshot, Trial


PAYS = 1.1
"""More workers must make so much more progress in the time left, their set-up included."""
SETTLED = 5
"""Reports between two resizes of a trial, at least."""


class HyperSched(WithRungs):
    """Runs floor(B / (c T)) workers from start to end.

    - A trial that is below the (1 - 1/eta) quantile of a rung that it has passed is paused, however long ago that was;
      the quantile moves with each trial that reports the rung, and who is above it again may go on.
    - New trials begin, and paused ones go on, only while the time left is at least min(eta x the longest training so
      far, the time of a full training); after that the paused ones are stopped.
    - Each live trial has a worker at least, and workers that are left over are dealt out in turn, the best trial first.

    Args:
        eta: One in so many is above a rung's cut-off.
        first_rung: Epochs to the first rung.

    Raises:
        ValueError: eta is below 2 or first_rung below 1.
    """

    @refuses_unknown()
    def __init__(self, eta: int = 4, first_rung: int = 1) -> None:
        super().__init__(eta, first_rung)

    def decide(self, snapshot: Snapshot) -> Plan:
        """Pause who is below a cut-off, fill free workers, deal out what is left."""
        size, admits = fixed_size(snapshot), self.admits(snapshot)
        low = self.below(snapshot)
        trials = {trial.id: trial for trial in snapshot.trials}
        gangs = [gang for gang in snapshot.gangs if gang.trial not in low]
        free = size - sum(gang.parallelism for gang in snapshot.gangs)
        able = [t for t in paused(snapshot) if t.id not in low and t.epoch < snapshot.max_epochs]
        # Too late, only those go on that still have a place: they lost their workers, or are being resized.
        resumed = sorted(able, key=lambda trial: self._place(trial, snapshot.mode))[: max(0, free)]
        more = fresh(snapshot, snapshot.max_epochs, "next configuration") if admits else ()
        new = list(islice(more, max(0, free - len(resumed))))
        live = [trials[gang.trial] for gang in gangs] + resumed
        shares = dealt(_by_score(live, snapshot.mode), size, size - len(live) - len(new))
        jobs = _jobs(snapshot, gangs, resumed, shares, free - len(new)) + new
        verdicts = () if admits else _too_late(snapshot, resumed)
        done = not (jobs or snapshot.gangs)
        return Plan(
            jobs=tuple(jobs),
            verdicts=tuple(verdicts),
            workers=0 if done else size,
            done=done,
            reason=_reason(size, admits=admits, done=done),
            each_report=True,
        )

    def below(self, snapshot: Snapshot) -> set[int]:
        """Trials that are below the cut-off of a rung that they have passed."""
        sign = 1 if snapshot.mode == "max" else -1
        low: set[int] = set()
        epoch = self.first_rung
        while epoch < snapshot.max_epochs:
            passed = [trial for trial in snapshot.trials if len(trial.curve) >= epoch]
            if len(passed) > 1:
                values = [trial.curve[epoch - 1].value for trial in passed]
                scores = [-math.inf if value is None else sign * value for value in values]
                cutoff = quantile(scores, 1 - 1 / self.eta)
                low.update(t.id for t, score in zip(passed, scores, strict=True) if score < cutoff and not t.pinned)
            epoch *= self.eta
        return low

    def admits(self, snapshot: Snapshot) -> bool:
        """Whether there is time for trials to begin or to go on."""
        epoch_s = snapshot.scaling.epoch_s
        if epoch_s is None:
            return True
        return lasting_s(snapshot, fixed_size(snapshot)) >= min(
            self.eta * _longest_s(snapshot.trials), snapshot.max_epochs * epoch_s
        )

    def _place(self, trial: Trial, mode: str) -> tuple[int, float]:
        """In the queue of those that may go on: the highest rung first, there the best value."""
        rung, epoch = 0, self.first_rung
        while epoch <= len(trial.curve):
            rung, epoch = epoch, epoch * self.eta
        return -rung, _loss(trial, rung, mode)


def dealt(order: Sequence[Trial], most: int, spare: int) -> dict[int, int]:
    """Workers by trial: one each, then in turn twice as many as before, as long as there are some to spare.

    Args:
        order: Trials, the best first.
        most: Workers that a trial may have.
        spare: Workers that are left when each trial has one.
    """
    shares = {trial.id: 1 for trial in order}
    growing = list(order)
    while growing:
        grown = []
        for trial in growing:
            now = shares[trial.id]
            if now <= spare and dividing(trial, min(most, 2 * now)) > now:
                shares[trial.id] = 2 * now
                spare -= now
                grown.append(trial)
        growing = grown
    return shares


def _jobs(
    snapshot: Snapshot, gangs: Sequence[Gang], resumed: Sequence[Trial], shares: dict[int, int], free: int
) -> list[Job]:
    """What goes on, resized or not, and who is resumed; beyond what runs, no more than the free workers."""
    trials = {trial.id: trial for trial in snapshot.trials}
    until = snapshot.max_epochs
    jobs: list[Job] = []
    order = {number: place for place, number in enumerate(shares)}
    # What is being stopped to be resized will need its share in a moment.
    free -= sum(max(0, shares[gang.trial] - gang.parallelism) for gang in gangs if gang.stopping)
    back: list[Job] = []
    for place, trial in enumerate(resumed, 1):
        workers = dividing(trial, max(1, min(shares[trial.id], free - (len(resumed) - place))))
        free -= workers
        back.append(Job(trial=trial.id, workers=workers, until=until, reason="is above the cut-offs and goes on"))
    for gang in sorted(gangs, key=lambda gang: order[gang.trial]):
        if gang.stopping:
            continue
        now, share = gang.parallelism, shares[gang.trial]
        wanted = share if _resizes(snapshot, gang, trials[gang.trial], share) and share - now <= free else now
        free -= max(0, wanted - now)
        why = "" if wanted == now else f"its share of the workers is {wanted} now"
        jobs.append(Job(trial=gang.trial, workers=wanted, until=gang.until, reason=why))
    return jobs + back


def _resizes(snapshot: Snapshot, gang: Gang, trial: Trial, share: int) -> bool:
    """Whether a trial is given another number of workers: fewer at once, more only if it gets further by that."""
    if trial.epoch - gang.from_epoch < SETTLED:
        return False
    scaling, left_s = snapshot.scaling, lasting_s(snapshot, fixed_size(snapshot))
    goes = scaling.speedup(gang.parallelism) * left_s
    return share < gang.parallelism or scaling.speedup(share) * (left_s - scaling.stall_s) > PAYS * goes


def _by_score(trials: Iterable[Trial], mode: str) -> list[Trial]:
    """The best first by the last value; those without one come last."""
    return sorted(trials, key=lambda trial: (_loss(trial, len(trial.curve), mode), trial.id))


def _loss(trial: Trial, epoch: int, mode: str) -> float:
    """Its value at an epoch, the less the better; of what has none, or none that is finite, infinity."""
    value = trial.curve[epoch - 1].value if epoch else None
    if value is None:
        return math.inf
    return -value if mode == "max" else value


def _longest_s(trials: Iterable[Trial]) -> float:
    """Seconds that the epochs of the longest trained trial have taken."""
    longest_s = 0.0
    # Its epochs take no more than its workers were busy; so most curves need not be added up.
    for trial in sorted(trials, key=attrgetter("worker_seconds"), reverse=True):
        if longest_s >= trial.worker_seconds:
            break
        longest_s = max(longest_s, sum(report.seconds for report in trial.curve))
    return longest_s


def _too_late(snapshot: Snapshot, resumed: Sequence[Trial]) -> Iterable[Verdict]:
    going = {trial.id for trial in resumed}
    reason = "paused, and too little time is left to go on"
    return (Verdict(trial=t.id, reason=reason) for t in paused(snapshot) if t.id not in going and not t.pinned)


def _reason(size: int, *, admits: bool, done: bool) -> str:
    if done:
        return "HyperSched: nobody is left to train"
    return f"HyperSched on {size} workers" + ("" if admits else ": too late to begin trials, the live ones share them")
