"""From a plan to actions: what must change so that the study does what its policy asks for."""

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
"""An idle machine is kept for so much of the time that another would take to boot."""


def verdicts(state: State, plan: Plan) -> Iterator[Action]:
    """Eliminate trials, unless a person pinned them."""
    for verdict in plan.verdicts:
        trial = state.trials[verdict.trial]
        if trial.alive and not trial.pinned:
            yield from end_trial(state, trial, "stopped", verdict.reason)


def end_trial(state: State, trial: Trial, to: TrialState, reason: str, error: str = "") -> Iterator[Action]:
    """A verdict on a trial, and the end of its gang."""
    yield EndTrial(trial=trial.id, state=to, reason=reason, error=error)
    gang = state.gangs.get(trial.gang) if trial.gang is not None else None
    if gang is not None and not gang.stopping:
        yield StopGang(gang=gang.id, reason=reason)


def running(state: State, plan: Plan) -> Iterator[Action]:
    """Stop, resize or extend the gangs that train."""
    wanted = {job.trial: job for job in plan.jobs if job.trial is not None}
    for gang in list(state.gangs.values()):
        if gang.stopping:
            continue
        job = wanted.get(gang.trial)
        if job is None:
            yield StopGang(gang=gang.id, reason="its workers are needed elsewhere, or are handed back")
        elif job.workers != len(gang.workers):
            yield StopGang(gang=gang.id, reason=job.reason or f"goes on with {job.workers} workers")
        elif job.until != gang.until:
            yield ExtendGang(gang=gang.id, until=job.until, reason=job.reason)


def starts(state: State, jobs: list[Job], last_s: float, *, shrink: bool = False) -> Iterator[Action]:
    """Start the most urgent jobs on idle workers; draw configurations for those that need one.

    Args:
        state: The study's.
        jobs: What the policy wants; one that starts for a new trial is from then on that trial's.
        last_s: When the first epoch must have been reported at the latest; later ones are not begun.
        shrink: Start a gang that is too large for the idle workers on fewer of them, instead of waiting for more.
    """
    idle = state.idle_workers()
    if not idle:
        return
    fresh = iter([state.trials[number] for number in state.tally.waiting])
    missing = {False: 0, True: 0}
    for place, job in enumerate(jobs):
        trial = next(fresh, None) if job.trial is None else state.trials[job.trial]
        size = _halved(job.workers, len(idle)) if shrink else job.workers
        if (trial is not None and trial.gang is not None) or _too_late(state, job.trial, size, last_s):
            continue
        if len(idle) < size or not idle:
            break  # A large gang must not starve while small jobs behind it take every worker that falls free.
        if trial is None:
            missing[job.proposed] += 1
            idle = idle[size:]
        elif trial.state in {"waiting", "paused"}:
            workers, idle = tuple(idle[:size]), idle[size:]
            jobs[place] = replace(job, trial=trial.id)
            yield _start(state, trial, workers, job)
    # One request: a second one would be answered with the same numbers.
    count = sum(missing.values()) - state.draws_pending
    if count > 0 and not state.exhausted:
        why = f"{count} workers are free for new configurations"
        yield Draw(count=count, proposed=min(count, missing[True]), reason=why)


def hopeless(state: State, jobs: list[Job], last_s: float) -> bool:
    """Whether jobs wait for workers, and none of them would train an epoch in time."""
    waiting = _waiting(state, jobs)
    return bool(waiting) and all(_too_late(state, job.trial, job.workers, last_s) for job in waiting)


def _waiting(state: State, jobs: Iterable[Job]) -> list[Job]:
    return [job for job in jobs if job.trial is None or state.trials[job.trial].gang is None]


def idle(state: State) -> list[Machine]:
    """Machines that are ready and not in use."""
    return [x for number in sorted(state.tally.idle) if not state.in_use(x := state.live[number])]


def retiring(state: State) -> dict[int, float]:
    """By machine that was told to go: when it will have gone, in study seconds."""
    return {
        machine.id: machine.retired_s + state.offers[machine.offer].release_s
        for machine in map(state.live.__getitem__, state.tally.retiring)
        if machine.retired_s is not None
    }


def done(state: State) -> dict[int, float]:
    """By machine in use: when it should have gone if it is handed back once its gangs are done."""
    found: dict[int, float] = {}
    for gang in state.gangs.values():
        end_s = gang.heard_s + _left(state, gang) * (state.epoch_s(gang.trial, gang.parallelism) or math.inf)
        for machine in state.machines_of(gang):
            gone_s = max(end_s, state.now_s) + state.offers[state.machines[machine].offer].release_s
            found[machine] = max(gone_s, found.get(machine, 0.0))
    return found


def _left(state: State, gang: Gang) -> int:
    """Epochs until a gang is done."""
    return 1 if gang.stopping else max(0, gang.until - max(gang.from_epoch, state.trials[gang.trial].epoch))


def _halved(size: int, most: int) -> int:
    """Halves of a parallelism divide whatever batch it divides."""
    while size > max(1, most):
        size //= 2
    return size


def _too_late(state: State, trial: int | None, parallelism: int, last_s: float) -> bool:
    """Whether not even one epoch would be reported in time."""
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


def cluster(state: State, plan: Plan, last_s: float, *, thrifty: bool) -> Iterator[Action]:
    """Grow or shrink towards the wanted size.

    Never a machine whose worst case the budget does not hold, nor one for which time or money end before it has
    booted and trained an epoch.

    Args:
        state: The study's.
        plan: What the policy wants.
        last_s: When the last epoch must have been reported.
        thrifty: Keep no idle machine for what it might still be needed for.
    """
    for machine in surplus(state, plan):
        if state.now_s >= kept_s(state, machine, thrifty=thrifty):
            yield Retire(machine=machine.id, reason=f"{plan.workers} workers are enough")
    least_s = useful_s(state, plan.jobs)
    if state.now_s + least_s > last_s:
        return
    if not offer_choice.hosted(state):
        yield from _host(state, plan, least_s)
        return
    missing = _wanted(state, plan) - state.tally.staying_slots
    while missing > 0 and (offer := offer_choice.choose(state)) is not None:
        if not _affordable(state, offer, least_s):
            return
        yield Rent(machine=len(state.machines), offer=offer.name, reason=f"{plan.workers} workers wanted")
        missing -= offer.workers_per_machine


def _host(state: State, plan: Plan, least_s: float) -> Iterator[Action]:
    """Rent the machine that workers will join, if there is none and it leaves money for one of them."""
    host = state.settings.host
    wanted = host is not None and plan.workers > 0 and not any(machine.hosts for machine in state.live.values())
    if host is None or not wanted or state.now_s < offer_choice.again_s(state, host):
        return
    worker = state.settings.offers[0]
    least = sum(state.ledger.worst(offer, least_s + 2 * SLACK_S) for offer in (host, worker))
    if least <= state.ledger.free(state.now_s):
        yield Rent(machine=len(state.machines), offer=host.name, reason="hosts the Dask scheduler that workers join")


def _affordable(state: State, offer: Offer, least_s: float) -> bool:
    # Once the slack for the machine's end, and once so that its end is still to come when it is rented.
    return state.ledger.affords(offer, state.now_s, least_s + 2 * SLACK_S)


def _wanted(state: State, plan: Plan) -> int:
    """Workers, no more than may be."""
    return min(plan.workers, state.settings.max_workers)


def _kept(state: State) -> list[Machine]:
    """Machines that will go on to train."""
    return [machine for machine in state.live.values() if machine.stays]


def useful_s(state: State, jobs: Iterable[Job]) -> float:
    """The least seconds in which a machine boots and trains an epoch: of a job that waits, else in the largest gang."""
    scaling = state.speed.estimate()
    waiting = _waiting(state, jobs) or [Job(trial=None, workers=state.settings.max_workers, until=1)]
    epoch_s = min(state.epoch_s(job.trial, job.workers) or 0.0 for job in waiting)
    host = state.settings.host
    host_s = 0.0 if host is None or offer_choice.hosted(state) else host.boot_s
    return host_s + scaling.boot_s + scaling.stall_s + epoch_s


def surplus(state: State, plan: Plan) -> list[Machine]:
    """The machines to give back: those that boot first, then idle ones, the dearest and newest first."""
    extra = state.tally.staying_slots - _wanted(state, plan)
    if extra <= 0:
        return []
    idle = [machine for machine in _kept(state) if not state.in_use(machine)]
    idle.sort(key=lambda machine: (machine.state == "booting", _price(state, machine), machine.id), reverse=True)
    found = []
    for machine in idle:
        # Only whole machines can be given back.
        if machine.slots <= extra:
            found.append(machine)
            extra -= machine.slots
    return found


def _price(state: State, machine: Machine) -> float:
    return state.offers[machine.offer].worker_price_s()


def kept_s(state: State, machine: Machine, *, thrifty: bool) -> float:
    """Until when a machine is kept though the plan does not need it.

    Plans change with every report: a machine that was handed back too soon is paid twice, for its boot or minimum.
    """
    offer = state.offers[machine.offer]
    paid_s = machine.rented_s + offer.billing.billed_s(state.now_s - machine.rented_s)
    # Beyond the lease before its end, a machine commits the next unit.
    idle_s = state.free_s[machine.id] + (0.0 if thrifty else IDLE_SHARE * state.speed.estimate().boot_s)
    return max(idle_s, paid_s - state.settings.lease_s - SLACK_S)
