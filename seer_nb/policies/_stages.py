"""Synchronous successive halving: the stage that a job is in, with a barrier at its end, and what is trained in it.

A job starts n configurations. Stage k trains max(1, floor(n / eta^k)) of them to rung k; when all of them have reported
it (or have ended: who fails, diverges or is stopped keeps nobody waiting), the best go on and the others are out.
Where a job stands follows from its trials' curves alone.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from seer_nb._utils.validation import refuses_unknown, whole
from seer_nb.core import Job, Plan, Trial, Verdict
from seer_nb.policies._rungs import WithRungs, dividing, fixed_size, power, ranked, rungs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seer_nb.core import Snapshot


class SynchronousHalving(WithRungs):
    """A policy that runs one job of synchronous successive halving.

    Args:
        eta: One in so many goes on from a rung.
        first_rung: Epochs to the first rung.
        top: Epochs to which the last survivors are trained; None: all there are.
        n: Configurations; None: as many as the policy finds that fit.

    Raises:
        ValueError: One of them is not a whole number in its range.
    """

    @refuses_unknown()
    def __init__(self, eta: int = 3, first_rung: int = 1, top: int | None = None, n: int | None = None) -> None:
        super().__init__(eta, first_rung)
        self.top = None if top is None else whole(top, "top", what="a number of epochs")
        self.n = None if n is None else whole(n, "n", what="a number of configurations")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(eta={self.eta}, first_rung={self.first_rung}, top={self.top}, n={self.n})"

    def epochs(self, snapshot: Snapshot) -> tuple[int, ...]:
        """The rungs."""
        return rungs(self.eta, self.first_rung, min(self.top or snapshot.max_epochs, snapshot.max_epochs))


class Stage(NamedTuple):
    """Where a job stands."""

    number: int
    """From 1."""
    of: int
    """Number of the job's stages."""
    since: int
    """Epochs of the rung before; 0 in the first stage."""
    until: int
    """Epochs of the stage's rung."""
    members: Sequence[Trial]
    """Those that have begun or will go on, best first."""
    ranked: int
    """How many they were chosen from."""
    todo: Sequence[Trial]
    """Members that have not reported the rung and can."""
    new: int
    """Configurations that are still to begin."""
    out: Sequence[Verdict]
    """Those that were not chosen."""
    barrier_s: float
    """Study seconds at which the stage before was over."""

    @property
    def size(self) -> int:
        """How many trials the stage has."""
        return len(self.members) + self.new


def standing(trials: Sequence[Trial], n: int, eta: int, epochs: Sequence[int], mode: str) -> Stage:
    """The first stage that is not over, or else the last one.

    Args:
        trials: The job's, in order of their ids.
        n: Configurations that the job starts.
        eta: One in so many goes on from a rung.
        epochs: The rungs, ascending.
        mode: "max" if more is better.
    """
    members, new, chosen_from, barrier_s = trials, max(0, n - len(trials)), 0, 0.0
    out: list[Verdict] = []
    for k, until in enumerate(epochs):
        todo = [trial for trial in members if trial.alive and len(trial.curve) < until]
        if todo or new or until == epochs[-1]:
            break
        places = max(1, n // eta ** (k + 1))
        barrier_s = max((_over_s(trial, until) for trial in members), default=0.0)
        order = _candidates(members, until, mode)
        members, chosen_from = order[:places], len(order)
        out += _losers(order, places, until)
    since = epochs[k - 1] if k else 0
    return Stage(k + 1, len(epochs), since, until, members, chosen_from, todo, new, out, barrier_s)


def _over_s(trial: Trial, until: int) -> float:
    """When nobody had to wait for it any more."""
    return trial.curve[until - 1].at_s if len(trial.curve) >= until else trial.ended_s or 0.0


def _candidates(trials: Sequence[Trial], epoch: int, mode: str) -> list[Trial]:
    """Who can go on from a rung, or has gone on, best first; a pinned trial takes one of the places."""
    order = [trial for trial in ranked(trials, epoch, mode) if trial.alive or len(trial.curve) > epoch]
    if any(trial.pinned for trial in order):
        order.sort(key=lambda trial: not trial.pinned)
    return order


def _losers(order: Sequence[Trial], places: int, epoch: int) -> Iterator[Verdict]:
    for rank, trial in enumerate(order[places:], places + 1):
        if trial.alive and not trial.pinned:
            reason = f"ranked {rank} of {len(order)} at epoch {epoch}: {places} go on"
            yield Verdict(trial=trial.id, reason=reason)


def job_size(snapshot: Snapshot, epochs: Sequence[int], wanted: Callable[[], int]) -> int:
    """How many configurations the job has: as many as are wanted, until the first survivors go on.

    Args:
        snapshot: What there is.
        epochs: The rungs.
        wanted: How many that are, at what is known now; those that have begun cannot be taken back.
    """
    begun = len(snapshot.trials)
    gone_on = any(len(trial.curve) > epochs[0] for trial in snapshot.trials)
    if gone_on or any(gang.until > epochs[0] for gang in snapshot.gangs):
        return begun
    n = max(begun, wanted())
    return min(n, begun + snapshot.waiting) if snapshot.exhausted else n


def pilot_size(snapshot: Snapshot) -> int:
    """Configurations to begin before anything is known of speed: one a worker of a fixed cluster.

    Who ends without a report has told nothing, so another takes its place.
    """
    return fixed_size(snapshot) + sum(not trial.alive for trial in snapshot.trials)


def plan(snapshot: Snapshot, stage: Stage, parallelism: int, workers: int, name: str) -> Plan:
    """Train what the stage has, in turns if there are too few workers.

    Args:
        snapshot: What there is.
        stage: Where the job stands.
        parallelism: Workers a trial that begins now, if they divide its batch.
        workers: Size of the cluster.
        name: Of the method, for the plan's reason.
    """
    todo, out = {trial.id for trial in stage.todo}, {verdict.trial for verdict in stage.out}
    jobs = [
        Job(trial=gang.trial, workers=gang.parallelism, until=stage.until if gang.trial in todo else gang.until)
        for gang in snapshot.gangs
        if not gang.stopping and gang.trial not in out
    ]
    free = workers - sum(gang.parallelism for gang in snapshot.gangs)
    for job in starts(snapshot, stage, parallelism):
        if job.workers > free:
            break
        jobs.append(job)
        free -= job.workers
    done = not (jobs or stage.todo or stage.new)
    return Plan(
        jobs=tuple(jobs),
        verdicts=tuple(stage.out),
        workers=0 if done else workers,
        done=done,
        reason=f"{name}: the last survivors are trained" if done else _reason(stage, parallelism, workers, name),
    )


def starts(snapshot: Snapshot, stage: Stage, parallelism: int) -> Iterator[Job]:
    """Who could begin the stage or go on in it: the best first, then new configurations."""
    busy = {gang.trial for gang in snapshot.gangs}
    until = stage.until
    idle = {trial.id for trial in stage.todo if trial.id not in busy}
    for rank, trial in enumerate(stage.members, 1) if idle else ():
        if trial.id in idle:
            began = trial.epoch > stage.since or not stage.since
            why = "goes on" if began else f"ranked {rank} of {stage.ranked} at epoch {stage.since}: promoted"
            workers = dividing(trial, parallelism)
            yield Job(trial=trial.id, workers=workers, until=until, reason=f"{why} to epoch {until}")
    job = Job(trial=None, workers=power(parallelism), until=until, reason="next configuration")
    yield from repeat(job, min(stage.new, snapshot.waiting) if snapshot.exhausted else stage.new)


def _reason(stage: Stage, parallelism: int, workers: int, name: str) -> str:
    each = "one worker each" if parallelism == 1 else f"{parallelism} workers each"
    what = f"{stage.size} trials to epoch {stage.until}, {each}, on {workers} workers"
    return f"{name}, stage {stage.number} of {stage.of}: {what}"
