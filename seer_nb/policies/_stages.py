"""Synchronous successive halving: the stage that a bracket is in, with a barrier at its end, and its jobs.

A bracket starts n configurations. Stage k trains max(1, floor(n / eta^k)) of them to rung k. When all of them have
reported the rung or have ended, the best are promoted and the others are eliminated. A trial that fails, diverges or is
stopped does not delay the barrier. The stage follows from the trials' curves alone, without further state.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from seer_nb._utils.validation import check_integer, reject_unknown_arguments
from seer_nb.core import Job, Plan, Trial, Verdict
from seer_nb.policies._rungs import (
    RungPolicy,
    allowed_parallelism,
    fixed_cluster_size,
    power_of_two,
    rank_trials,
    rungs,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seer_nb.core import PolicyView


class SynchronousHalving(RungPolicy):
    """A policy that runs one bracket of synchronous successive halving.

    Args:
        eta: Reduction factor, at least 2: one in ``eta`` trials is promoted from a rung.
        first_rung: Epochs to the first rung, at least 1.
        top: Epochs to which the last survivors are trained; None: the study's ``max_epochs``.
        n: Configurations of the bracket; None: as many as the policy finds that fit.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is too small.
    """

    @reject_unknown_arguments()
    def __init__(self, eta: int = 3, first_rung: int = 1, top: int | None = None, n: int | None = None) -> None:
        super().__init__(eta, first_rung)
        self.top = None if top is None else check_integer(top, "top", what="a number of epochs")
        self.n = None if n is None else check_integer(n, "n", what="a number of configurations")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(eta={self.eta}, first_rung={self.first_rung}, top={self.top}, n={self.n})"

    def epochs(self, view: PolicyView) -> tuple[int, ...]:
        """Return the rungs."""
        return rungs(self.eta, self.first_rung, min(self.top or view.max_epochs, view.max_epochs))


class Stage(NamedTuple):
    """The stage that a bracket is in."""

    number: int
    """Number of the stage, from 1."""
    n_stages: int
    """Number of the bracket's stages."""
    from_epoch: int
    """Epochs of the previous rung; 0 in the first stage."""
    until: int
    """Epochs of the stage's rung."""
    members: Sequence[Trial]
    """Trials of the stage that have started, best first."""
    n_ranked: int
    """Number of trials that the members were chosen from."""
    unfinished: Sequence[Trial]
    """Live members that have not reported the rung."""
    n_new: int
    """Number of configurations that have not started."""
    verdicts: Sequence[Verdict]
    """Verdicts on the trials that were not promoted."""
    barrier_s: float
    """Study seconds at which the previous stage ended."""

    @property
    def size(self) -> int:
        """Number of trials in the stage."""
        return len(self.members) + self.n_new


def current_stage(trials: Sequence[Trial], n: int, eta: int, epochs: Sequence[int], mode: str) -> Stage:
    """Return the first unfinished stage, or the last one.

    Args:
        trials: The bracket's trials, in order of their ids.
        n: Configurations that the bracket starts.
        eta: Reduction factor.
        epochs: The rungs, ascending.
        mode: "max" or "min".
    """
    members, n_new, n_ranked, barrier_s = trials, max(0, n - len(trials)), 0, 0.0
    verdicts: list[Verdict] = []
    for k, until in enumerate(epochs):
        unfinished = [trial for trial in members if trial.alive and len(trial.curve) < until]
        if unfinished or n_new or until == epochs[-1]:
            break
        places = max(1, n // eta ** (k + 1))
        barrier_s = max((_finished_s(trial, until) for trial in members), default=0.0)
        order = _promotable(members, until, mode)
        members, n_ranked = order[:places], len(order)
        verdicts += _eliminated(order, places, until)
    from_epoch = epochs[k - 1] if k else 0
    return Stage(k + 1, len(epochs), from_epoch, until, members, n_ranked, unfinished, n_new, verdicts, barrier_s)


def _finished_s(trial: Trial, until: int) -> float:
    """Return the study seconds from which on the barrier did not wait for a trial."""
    return trial.curve[until - 1].at_s if len(trial.curve) >= until else trial.ended_s or 0.0


def _promotable(trials: Sequence[Trial], epoch: int, mode: str) -> list[Trial]:
    """Return the trials that can be or were promoted from a rung, best first; a pinned trial takes a place."""
    order = [trial for trial in rank_trials(trials, epoch, mode) if trial.alive or len(trial.curve) > epoch]
    if any(trial.pinned for trial in order):
        order.sort(key=lambda trial: not trial.pinned)
    return order


def _eliminated(order: Sequence[Trial], places: int, epoch: int) -> Iterator[Verdict]:
    for rank, trial in enumerate(order[places:], places + 1):
        if trial.alive and not trial.pinned:
            reason = f"ranked {rank} of {len(order)} at epoch {epoch}: only {places} promoted"
            yield Verdict(trial=trial.id, reason=reason)


def bracket_size(view: PolicyView, epochs: Sequence[int], wanted: Callable[[], int]) -> int:
    """Return the configurations of the bracket: the wanted number, fixed when the first survivors are promoted.

    Args:
        view: The policy view.
        epochs: The rungs.
        wanted: Computes the number that is wanted now; trials that have started always count.
    """
    started = len(view.trials)
    promoted = any(len(trial.curve) > epochs[0] for trial in view.trials)
    if promoted or any(gang.until > epochs[0] for gang in view.gangs):
        return started
    n = max(started, wanted())
    return min(n, started + view.waiting) if view.exhausted else n


def pilot_size(view: PolicyView) -> int:
    """Return the configurations to start before speed is known: one per worker of a fixed cluster.

    A trial that ends without a report gives no information about speed; another one takes its place.
    """
    return fixed_cluster_size(view) + sum(not trial.alive for trial in view.trials)


def plan_stage(view: PolicyView, stage: Stage, parallelism: int, workers: int, name: str) -> Plan:
    """Return the plan that trains a stage, in waves if there are too few workers.

    Args:
        view: The policy view.
        stage: The bracket's current stage.
        parallelism: Workers of a trial that starts now, as far as they divide its batch.
        workers: Size of the cluster.
        name: Name of the method, for the plan's reason.
    """
    unfinished, out = {trial.id for trial in stage.unfinished}, {verdict.trial for verdict in stage.verdicts}
    jobs = [
        Job(trial=gang.trial, workers=gang.parallelism, until=stage.until if gang.trial in unfinished else gang.until)
        for gang in view.gangs
        if not gang.stopping and gang.trial not in out
    ]
    free = workers - sum(gang.parallelism for gang in view.gangs)
    for job in startable_jobs(view, stage, parallelism):
        if job.workers > free:
            break
        jobs.append(job)
        free -= job.workers
    done = not (jobs or stage.unfinished or stage.n_new)
    return Plan(
        jobs=tuple(jobs),
        verdicts=tuple(stage.verdicts),
        workers=0 if done else workers,
        done=done,
        reason=f"{name}: the last survivors are trained" if done else _reason(stage, parallelism, workers, name),
    )


def startable_jobs(view: PolicyView, stage: Stage, parallelism: int) -> Iterator[Job]:
    """Yield the jobs that a stage could start now: paused members, best first, then new configurations."""
    busy = {gang.trial for gang in view.gangs}
    until = stage.until
    idle = {trial.id for trial in stage.unfinished if trial.id not in busy}
    for rank, trial in enumerate(stage.members, 1) if idle else ():
        if trial.id in idle:
            resumes = trial.epoch > stage.from_epoch or not stage.from_epoch
            why = "resumes" if resumes else f"ranked {rank} of {stage.n_ranked} at epoch {stage.from_epoch}: promoted"
            workers = allowed_parallelism(trial, parallelism)
            yield Job(trial=trial.id, workers=workers, until=until, reason=f"{why} to epoch {until}")
    job = Job(trial=None, workers=power_of_two(parallelism), until=until, reason="next configuration")
    yield from repeat(job, min(stage.n_new, view.waiting) if view.exhausted else stage.n_new)


def _reason(stage: Stage, parallelism: int, workers: int, name: str) -> str:
    each = "one worker each" if parallelism == 1 else f"{parallelism} workers each"
    what = f"{stage.size} trials to epoch {stage.until}, {each}, on {workers} workers"
    return f"{name}, stage {stage.number} of {stage.n_stages}: {what}"
