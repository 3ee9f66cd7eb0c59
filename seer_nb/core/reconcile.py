"""From a plan to actions: what must change so that the study does what its policy wants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from seer_nb.core import offer_choice
from seer_nb.core.actions import Action, Draw, EndTrial, ExtendGang, Rent, Retire, StartGang, StopGang
from seer_nb.core.model import SLACK_S, Gang, Machine, Trial, TrialState
from seer_nb.core.policy import Job, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seer_nb.core.money import Offer
    from seer_nb.core.state import State


IDLE_SHARE = 0.5
"""Share of a boot time for which an idle machine is kept."""


# --- trials and gangs ---


def limit_parallelism(state: State, plan: Plan) -> Plan:
    """Return the plan with no job on more workers than its trial may have, and without the workers that this saves."""
    if state.settings.max_parallelism is None and not state.index.unshared:
        return plan
    jobs = tuple(_limited(state, job) for job in plan.jobs)
    saved = sum(job.workers for job in plan.jobs) - sum(job.workers for job in jobs)
    return replace(plan, jobs=jobs, workers=max(0, plan.workers - saved)) if saved else plan


def _limited(state: State, job: Job) -> Job:
    most = 1 if job.trial in state.index.unshared else state.max_parallelism
    workers = _halve_to(job.workers, most)
    if workers == job.workers:
        return job
    return replace(job, workers=workers, reason=job.reason or f"limited to a parallelism of {most}")


def prune_trials(state: State, plan: Plan) -> Iterator[Action]:
    """Stop the trials that the plan prunes, except pinned ones."""
    for verdict in plan.verdicts:
        trial = state.trials[verdict.trial]
        if trial.alive and not trial.pinned:
            yield from end_trial(state, trial, "stopped", verdict.reason)


def end_trial(state: State, trial: Trial, to: TrialState, reason: str, error: str = "") -> Iterator[Action]:
    """End a trial and stop its gang.

    Args:
        state: State of the study.
        trial: The trial.
        to: Its final state.
        reason: Why, as text for the user.
        error: Traceback, if it failed.
    """
    yield EndTrial(trial=trial.id, state=to, reason=reason, error=error)
    gang = state.gangs.get(trial.gang) if trial.gang is not None else None
    if gang is not None and not gang.stopping:
        yield StopGang(gang=gang.id, reason=reason)


def update_gangs(state: State, plan: Plan) -> Iterator[Action]:
    """Stop, resize or extend the gangs that train, so that they match the plan's jobs."""
    wanted = {job.trial: job for job in plan.jobs if job.trial is not None}
    for gang in list(state.gangs.values()):
        if gang.stopping:
            continue
        job = wanted.get(gang.trial)
        if job is None:
            yield StopGang(gang=gang.id, reason="its workers are needed elsewhere or will be released")
        elif job.workers != len(gang.workers):
            yield StopGang(gang=gang.id, reason=job.reason or f"continues on {job.workers} workers")
        elif job.until != gang.until:
            yield ExtendGang(gang=gang.id, until=job.until, reason=job.reason)


def start_jobs(state: State, jobs: list[Job], last_s: float, *, shrink: bool = False) -> Iterator[Action]:
    """Start the most urgent jobs on idle workers, and draw configurations for jobs that need one.

    Args:
        state: State of the study.
        jobs: Jobs of the plan. When a job for a new trial starts, its entry is replaced by one for that trial.
        last_s: Study seconds by which the first epoch must be reported; jobs that cannot do so do not start.
        shrink: Whether a gang that needs more than the idle workers starts on fewer, instead of waiting.
    """
    idle = state.idle_workers()
    if not idle:
        return
    fresh = iter([state.trials[number] for number in state.index.waiting])
    missing = {False: 0, True: 0}
    for place, job in enumerate(jobs):
        trial = next(fresh, None) if job.trial is None else state.trials[job.trial]
        size = _halve_to(job.workers, len(idle)) if shrink else job.workers
        if (trial is not None and trial.gang is not None) or _too_late(state, job.trial, size, last_s):
            continue
        if len(idle) < size or not idle:
            break  # Otherwise small jobs behind a large gang would take every freed worker, and the gang would starve.
        if trial is None:
            missing[job.proposed] += 1
            idle = idle[size:]
        elif trial.state in {"waiting", "paused"}:
            workers, idle = tuple(idle[:size]), idle[size:]
            jobs[place] = replace(job, trial=trial.id)
            yield _start(state, trial, workers, job)
    # One request for all: a second request would be answered with the same trial numbers.
    count = sum(missing.values()) - state.pending_draws
    if count > 0 and not state.exhausted:
        why = f"{count} workers are free for new configurations"
        yield Draw(count=count, n_proposed=min(count, missing[True]), reason=why)


def no_job_fits(state: State, jobs: list[Job], last_s: float) -> bool:
    """Return whether jobs wait for workers and none of them could report an epoch by `last_s`."""
    waiting = _waiting_jobs(state, jobs)
    return bool(waiting) and all(_too_late(state, job.trial, job.workers, last_s) for job in waiting)


def _waiting_jobs(state: State, jobs: Iterable[Job]) -> list[Job]:
    return [job for job in jobs if job.trial is None or state.trials[job.trial].gang is None]


def _halve_to(parallelism: int, most: int) -> int:
    """Halve a parallelism until it is at most `most`; halves divide every batch size that the parallelism divides."""
    while parallelism > max(1, most):
        parallelism //= 2
    return parallelism


def _too_late(state: State, trial: int | None, parallelism: int, last_s: float) -> bool:
    """Return whether a gang that starts now could not report an epoch by `last_s`."""
    epoch_s = state.epoch_s(trial, parallelism) or 0.0
    return state.now_s + state.speed.estimate().stall_s + epoch_s > last_s


def _start(state: State, trial: Trial, workers: tuple[str, ...], job: Job) -> StartGang:
    resume = trial.resume
    return StartGang(
        gang=state.n_gangs,
        trial=trial.id,
        workers=workers,
        from_epoch=resume.epoch if resume else 0,
        checkpoint=resume.checkpoint if resume else None,
        until=job.until,
        reason=job.reason,
    )


# --- times of machines ---


def gone_times(state: State) -> dict[int, float]:
    """Return the study seconds at which each retiring machine will be gone, by machine."""
    return {
        machine.id: machine.retired_s + state.offers[machine.offer].release_s
        for machine in map(state.live_machines.__getitem__, state.index.retiring)
        if machine.retired_s is not None
    }


def done_times(state: State) -> dict[int, float]:
    """Return the study seconds at which each used machine is gone if it is retired when its gangs are done."""
    found: dict[int, float] = {}
    for gang in state.gangs.values():
        end_s = gang.last_message_s + _epochs_left(state, gang) * (
            state.epoch_s(gang.trial, gang.parallelism) or math.inf
        )
        for machine in state.machines_of(gang):
            gone_s = max(end_s, state.now_s) + state.offers[state.machines[machine].offer].release_s
            found[machine] = max(gone_s, found.get(machine, 0.0))
    return found


def _epochs_left(state: State, gang: Gang) -> int:
    return 1 if gang.stopping else max(0, gang.until - max(gang.from_epoch, state.trials[gang.trial].epoch))


def shortest_use_s(state: State, jobs: Iterable[Job]) -> float:
    """Return the least seconds in which a new machine boots and trains an epoch.

    The epoch is the shortest one of the jobs that wait for workers; if none waits, that of the largest possible gang.
    """
    scaling = state.speed.estimate()
    waiting = _waiting_jobs(state, jobs) or [Job(trial=None, workers=state.max_parallelism, until=1)]
    epoch_s = min(state.epoch_s(job.trial, job.workers) or 0.0 for job in waiting)
    scheduler = state.settings.scheduler_offer
    scheduler_s = 0.0 if scheduler is None or offer_choice.has_scheduler(state) else scheduler.boot_s
    return scheduler_s + scaling.boot_s + scaling.stall_s + epoch_s


def keep_until_s(state: State, machine: Machine, *, retire_idle: bool) -> float:
    """Return the study seconds until which a surplus machine is kept.

    Plans change with every report, and a machine that was retired too early is paid twice for its boot or its minimum.

    Args:
        state: State of the study.
        machine: A machine that the plan does not need.
        retire_idle: Whether to keep it only while it is paid for anyway.
    """
    offer = state.offers[machine.offer]
    paid_s = machine.rented_s + offer.billing.billed_s(state.now_s - machine.rented_s)
    idle_s = state.idle_since_s[machine.id] + (0.0 if retire_idle else IDLE_SHARE * state.speed.estimate().boot_s)
    # From one lease before the end of the paid time, the machine commits the next billing unit.
    return max(idle_s, paid_s - state.settings.lease_s - SLACK_S)


# --- the cluster ---


def resize_cluster(state: State, plan: Plan, last_s: float, *, retire_idle: bool) -> Iterator[Action]:
    """Rent or retire machines towards the wanted size.

    A machine is not rented if the budget does not cover its worst case, or if time or money would end before it has
    booted and trained an epoch.

    Args:
        state: State of the study.
        plan: The policy's plan.
        last_s: Study seconds by which the last epoch must be reported.
        retire_idle: Whether to retire idle machines without waiting whether they are needed again.
    """
    for machine in surplus(state, plan):
        if state.now_s >= keep_until_s(state, machine, retire_idle=retire_idle):
            yield Retire(machine=machine.id, reason=f"{plan.workers} workers are enough")
    least_s = shortest_use_s(state, plan.jobs)
    if state.now_s + least_s > last_s:
        return
    if not offer_choice.has_scheduler(state):
        yield from _rent_scheduler(state, plan, least_s)
        return
    missing = _wanted_workers(state, plan) - state.index.staying_slots
    while missing > 0 and (offer := offer_choice.choose(state)) is not None:
        if not _affordable(state, offer, least_s):
            return
        yield Rent(machine=len(state.machines), offer=offer.name, reason=f"{plan.workers} workers wanted")
        missing -= offer.workers_per_machine


def idle_machines(state: State) -> list[Machine]:
    """Return the ready machines that no gang uses, ordered by id."""
    return [x for number in sorted(state.index.idle) if not state.in_use(x := state.live_machines[number])]


def surplus(state: State, plan: Plan) -> list[Machine]:
    """Return the unused machines to retire: booting ones first, then idle ones, the dearest and newest first."""
    extra = state.index.staying_slots - _wanted_workers(state, plan)
    if extra <= 0:
        return []
    unused = [
        machine for machine in state.live_machines.values() if machine.keeps_training and not state.in_use(machine)
    ]
    unused.sort(key=lambda machine: (machine.state == "booting", _price_s(state, machine), machine.id), reverse=True)
    found = []
    for machine in unused:
        # A machine can only be retired with all its workers.
        if machine.slots <= extra:
            found.append(machine)
            extra -= machine.slots
    return found


def _rent_scheduler(state: State, plan: Plan, least_s: float) -> Iterator[Action]:
    """Rent the scheduler machine, if none is alive and the budget also covers a worker machine."""
    scheduler = state.settings.scheduler_offer
    wanted = (
        scheduler is not None
        and plan.workers > 0
        and not any(machine.runs_scheduler for machine in state.live_machines.values())
    )
    if scheduler is None or not wanted or state.now_s < offer_choice.again_s(state, scheduler):
        return
    worker = state.settings.offers[0]
    least = sum(state.ledger.worst_case_micro(offer, least_s + 2 * SLACK_S) for offer in (scheduler, worker))
    if least <= state.ledger.free_micro(state.now_s):
        yield Rent(
            machine=len(state.machines), offer=scheduler.name, reason="runs the Dask scheduler that workers join"
        )


def _affordable(state: State, offer: Offer, least_s: float) -> bool:
    # One slack for a late retirement, and one so that the retirement lies in the future when the machine is rented.
    return state.ledger.affords(offer, state.now_s, least_s + 2 * SLACK_S)


def _wanted_workers(state: State, plan: Plan) -> int:
    return min(plan.workers, state.settings.max_workers)


def _price_s(state: State, machine: Machine) -> float:
    return state.offers[machine.offer].worker_price_s()
