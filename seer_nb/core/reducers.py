"""Reducers: one function per type of record, which applies the record to the state of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb.core.actions import (
    AbandonGang,
    BeginEnd,
    Draw,
    EndTrial,
    ExtendGang,
    Finish,
    Note,
    Rent,
    Retire,
    StartGang,
    StopGang,
)
from seer_nb.core.curve import Report, append_report, replace_report
from seer_nb.core.events import (
    Began,
    DeadlineMoved,
    Drawn,
    GangEnded,
    MachineBilled,
    MachineEnded,
    MachineLeaving,
    MachineReady,
    MachinesLeftBehind,
    PartFailed,
    Pause,
    Pin,
    Reported,
    Resume,
    RunnerStarted,
    SetBudget,
    SetDeadline,
    Silent,
    SpaceExhausted,
)
from seer_nb.core.model import SLACK_S, Gang, Machine, Trial
from seer_nb.core.offer_choice import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.state import State


# --- the study ---


def _began(state: State, _: Began, __: float) -> None:
    state.phase = "running"


def _deadline_moved(state: State, event: DeadlineMoved, _: float) -> None:
    state.deadline_s = event.deadline_s


def _set_budget(state: State, event: SetBudget, now_s: float) -> None:
    # Spent and committed money cannot be recovered.
    state.ledger.budget_micro = max(event.budget_micro, state.ledger.least_budget_micro(now_s))


def _set_deadline(state: State, event: SetDeadline, now_s: float) -> None:
    # Live machines need their release time before they are gone.
    release_s = max((state.offers[machine.offer].release_s for machine in state.live_machines.values()), default=0.0)
    state.deadline_s = max(event.deadline_s, now_s + release_s)
    state.deadline_wall = event.deadline_wall


def _pause(state: State, _: Pause, now_s: float) -> None:
    if state.phase == "running":
        state.ending_s = now_s
        state.phase = "pausing" if state.live_machines or state.gangs else "paused"


def _resume(state: State, _: Resume, __: float) -> None:
    if state.phase in {"pausing", "paused", "ending", "ended"}:
        state.phase, state.reason, state.failed = "running", "", False


def _begin_end(state: State, action: BeginEnd, now_s: float) -> None:
    state.phase, state.reason, state.failed, state.ending_s = "ending", action.reason, action.failed, now_s


def _finish(state: State, _: Finish, __: float) -> None:
    state.phase = "paused" if state.phase == "pausing" else "ended"
    for trial in list(state.index.waiting):
        state.update_trial(trial, reason="drawn, but not started before the study " + state.phase)


def _note(state: State, action: Note, now_s: float) -> None:
    if action.reason != state.plan_reason:
        state.plan_reason, state.noted_s = action.reason, now_s
    if action.changes:
        wanted = {**state.wanted, **action.wanted}
        state.wanted = {trial: count for trial, count in wanted.items() if count}
    else:
        state.wanted = action.wanted
    state.wanted_workers = action.workers


# --- trials and gangs ---


def _drawn(state: State, event: Drawn, _: float) -> None:
    state.trials[event.trial] = Trial(id=event.trial, config=event.config)
    state.index.waiting[event.trial] = None
    state.n_drawn += 1
    state.pending_draws = max(0, state.pending_draws - 1)


def _exhausted(state: State, _: SpaceExhausted, __: float) -> None:
    state.exhausted = True
    state.pending_draws = 0


def _part_failed(state: State, _: PartFailed, __: float) -> None:
    state.pending_draws = 0


def _draw(state: State, action: Draw, _: float) -> None:
    state.pending_draws += action.count


def _start_gang(state: State, action: StartGang, now_s: float) -> None:
    gang = Gang(
        id=action.gang,
        trial=action.trial,
        workers=action.workers,
        from_epoch=action.from_epoch,
        until=action.until,
        started_s=now_s,
        last_message_s=now_s,
    )
    state.gangs[gang.id] = gang
    state.busy.update(gang.workers)
    state.index.update_gang(gang, 1, state)
    state.n_gangs += 1
    trial = state.trials[action.trial]
    state.update_trial(
        trial.id,
        state="running",
        gang=gang.id,
        reason=action.reason,
        started_s=now_s if trial.started_s is None else trial.started_s,
        max_parallelism=max(trial.max_parallelism, gang.parallelism),
    )


def _stop_gang(state: State, action: StopGang, _: float) -> None:
    state.gangs[action.gang] = replace(state.gangs[action.gang], stopping=action.reason or "stop requested")


def _extend_gang(state: State, action: ExtendGang, _: float) -> None:
    state.gangs[action.gang] = replace(state.gangs[action.gang], until=action.until)


def _abandon_gang(state: State, action: AbandonGang, _: float) -> None:
    state.gangs[action.gang] = replace(state.gangs[action.gang], stopping=action.reason, abandoned=True)


def _reported(state: State, event: Reported, now_s: float) -> None:
    gang = state.gangs.get(event.gang)
    if gang is None:
        return
    trial = state.charge(gang, now_s)
    state.silent.pop(gang.id, None)
    first = gang.last_message_s == gang.started_s
    state.gangs[gang.id] = replace(gang, last_message_s=now_s)
    parallelism = event.parallelism or gang.parallelism
    if first and event.parallelism is None:
        state.speed.stall(now_s - gang.started_s - event.seconds - event.save_s)
    if event.shares is not None and not trial.shares:
        trial = state.update_trial(trial.id, shares=event.shares)
    if event.epoch != trial.epoch + 1:
        # The epoch was trained again after a loss: the first report counts, but the new checkpoint may be used.
        _store_earlier_epoch(state, trial, event)
        return
    state.speed.epoch(trial.id, parallelism, event.seconds)
    report = Report(
        epoch=event.epoch,
        value=event.value,
        metrics=event.metrics,
        seconds=event.seconds,
        parallelism=parallelism,
        at_s=now_s,
        cost_micro=trial.cost_micro,
        checkpoint=event.checkpoint,
    )
    stored = event.checkpoint is not None
    state.update_trial(
        trial.id,
        curve=append_report(trial.curve, report),
        resume=report if stored else trial.resume,
        fallback=trial.resume if stored else trial.fallback,
        best=_better_report(state, trial.best, report) if stored else trial.best,
        batch_size=event.batch_size or trial.batch_size,
        losses=0,
    )


def _store_earlier_epoch(state: State, trial: Trial, event: Reported) -> None:
    """Add the checkpoint of an epoch that was trained again, if it is newer than the stored one."""
    if event.checkpoint is None or event.epoch <= trial.resume_epoch or event.epoch > trial.epoch:
        return
    report = replace(trial.curve[event.epoch - 1], checkpoint=event.checkpoint)
    best = _better_report(state, trial.best, report)
    state.update_trial(
        trial.id, curve=replace_report(trial.curve, report), resume=report, fallback=trial.resume, best=best
    )


def _better_report(state: State, best: Report | None, report: Report) -> Report | None:
    if report.value is None:
        return best
    if best is None or best.value is None:
        return report
    less = report.value < best.value
    better = less if state.settings.mode == "min" else report.value > best.value
    return report if better else best


def _silent(state: State, event: Silent, _: float) -> None:
    if event.gang in state.gangs:
        state.silent[event.gang] = event.where


def _gang_ended(state: State, event: GangEnded, now_s: float) -> None:
    gang = state.gangs.get(event.gang)
    if gang is None:
        return
    trial = state.end_gang(gang, now_s, "")
    # The study itself ended a gang that did not stop in time, so it does not count in ``trial.losses``.
    asked = gang.stopping and not gang.abandoned
    if event.outcome == "lost" and not asked:
        state.update_trial(trial.id, losses=trial.losses + 1)
    elif event.outcome == "damaged" and trial.resume is not None and trial.resume_epoch == gang.from_epoch:
        _use_older_checkpoint(state, trial, trial.resume)


def _use_older_checkpoint(state: State, trial: Trial, damaged: Report) -> None:
    """Let a trial resume from an older checkpoint than the damaged one, or from scratch."""
    kept = [x for x in (trial.fallback, trial.best) if x is not None and x.checkpoint != damaged.checkpoint]
    bare = replace(damaged, checkpoint=None)
    best: Report | None = None
    for report in kept:
        best = _better_report(state, best, report)
    state.update_trial(
        trial.id,
        curve=replace_report(trial.curve, bare),
        resume=max(kept, key=lambda report: report.epoch, default=None),
        fallback=None,
        best=best,
    )
    state.index.rank_trials(state)


def _end_trial(state: State, action: EndTrial, now_s: float) -> None:
    state.update_trial(action.trial, state=action.state, reason=action.reason, error=action.error, ended_s=now_s)


def _pin(state: State, event: Pin, _: float) -> None:
    if event.trial in state.trials:
        state.update_trial(event.trial, pinned=event.pinned)


# --- machines ---


def _runner_started(state: State, event: RunnerStarted, now_s: float) -> None:
    """Account for the machines of the previous runner; those it left unlisted ended at the latest with their lease."""
    last_s = state.previous_s
    # The previous runner lived at most one heartbeat after its last record, and would have retired all machines when
    # the money ran out.
    lived_s = state.ledger.budget_lasts_until_s(last_s, last_s + state.heartbeat_s + SLACK_S)
    for machine in list(state.live_machines.values()):
        if machine.id in event.adopted:
            _add_unseen_time(state, machine, event.unseen_s)
        elif machine.id in event.retired:
            _retire_left(state, machine, event, lived_s)
        else:
            _close_unlisted(state, machine, event, lived_s)
    for gang in list(state.gangs.values()):
        state.end_gang(gang, now_s, "its runner died")
    state.pending_draws = state.boot_failures = 0
    state.refusals, state.left_behind = {}, ()
    if state.phase == "pausing" and not state.live_machines:
        state.phase = "paused"


def _retire_left(state: State, machine: Machine, event: RunnerStarted, lived_s: float) -> None:
    """Mark a machine as retiring: this runner terminated it, but the previous runner renewed its lease.

    Args:
        state: State of the study.
        machine: Machine of the previous runner.
        event: Start of this runner.
        lived_s: Study seconds until which the previous runner lived at most.
    """
    if state.offers[machine.offer].billed_until_deleted:
        # This runner must delete it, even if the previous runner started to.
        _add_unseen_time(state, machine, event.unseen_s)
        state.ledger.retire(machine.id, state.now_s, again=True)
    else:
        unseen_s = _unseen_lifetime_s(state, machine, event, lived_s)
        _add_unseen_time(state, machine, unseen_s)
        state.ledger.retire(machine.id, min(lived_s, state.previous_s + event.unseen_s) - unseen_s)
    state.update_machine(machine.id, state="retiring", retired_s=state.now_s, reason="its runner died")


def _close_unlisted(state: State, machine: Machine, event: RunnerStarted, lived_s: float) -> None:
    """Close a machine that ended unobserved after its runner's last record."""
    last_s = state.previous_s
    if state.offers[machine.offer].billed_until_deleted:
        # Such a machine would still exist: its runner either deleted it or never requested it.
        unseen_s = min(event.unseen_s, lived_s - last_s)
    else:
        unseen_s = _unseen_lifetime_s(state, machine, event, lived_s)
    state.ledger.close(machine.id, last_s, unseen_s)
    unseen_s += machine.unseen_s
    state.update_machine(machine.id, state="ended", ended_s=last_s, unseen_s=unseen_s, reason="its runner died")


def _unseen_lifetime_s(state: State, machine: Machine, event: RunnerStarted, lived_s: float) -> float:
    """Return the seconds that a machine lived since the last record, at most until its lease expired."""
    return min(event.unseen_s, max(0.0, state.ledger.alive_until_s(machine.id, lived_s) - state.previous_s))


def _add_unseen_time(state: State, machine: Machine, unseen_s: float) -> None:
    """Record that a machine lived on while no runner kept time."""
    state.ledger.add_unseen_time(machine.id, unseen_s)
    state.update_machine(machine.id, unseen_s=machine.unseen_s + unseen_s)


def _machine_ready(state: State, event: MachineReady, now_s: float) -> None:
    machine = state.machines[event.machine]
    if machine.state == "booting":
        if not machine.runs_scheduler:
            state.speed.boot(event.boot_s)
            state.boot_failures = 0
        state.refusals.pop(machine.offer, None)
        state.ledger.join(event.machine)
        state.update_machine(event.machine, state="ready", ready_s=now_s)
        state.idle_since_s[event.machine] = now_s


def _machine_ended(state: State, event: MachineEnded, now_s: float) -> None:
    if event.machine not in state.live_machines:
        return
    state.ledger.close(event.machine, now_s, lived_s=event.lived_s)
    machine = state.machines[event.machine]
    if machine.state == "booting":
        _count_boot_failure(state, machine, now_s, scarce=event.scarce)
    reason = event.reason or machine.reason
    lost = machine.state == "ready" and not event.expected
    state.update_machine(event.machine, state="ended", ended_s=now_s, reason=reason, lost=lost)


def _machine_billed(state: State, event: MachineBilled, _: float) -> None:
    if event.machine in state.machines and event.machine not in state.live_machines:
        state.ledger.correct(event.machine, event.lived_s)


def _left_behind(state: State, event: MachinesLeftBehind, _: float) -> None:
    state.left_behind = event.machines


def _machine_leaving(state: State, event: MachineLeaving, now_s: float) -> None:
    if event.machine in state.live_machines:
        state.update_machine(event.machine, leaves_s=now_s + event.left_s, reason=event.reason)


def _count_boot_failure(state: State, machine: Machine, now_s: float, *, scarce: bool = False) -> None:
    state.boot_failures += not scarce
    before = state.refusals.get(machine.offer)
    # Requests made together that met missing capacity count as one refusal; every other failure cost money.
    if before is None or not scarce or machine.rented_s >= before.again_s:
        state.refusals[machine.offer] = Refusals(1 if before is None else before.times + 1, now_s)


def _rent(state: State, action: Rent, now_s: float) -> None:
    offer = state.offers[action.offer]
    state.ledger.open(action.machine, offer, now_s)
    machine = Machine(id=action.machine, offer=offer.name, slots=offer.workers_per_machine, rented_s=now_s)
    state.machines[machine.id] = state.live_machines[machine.id] = machine
    state.index.update_machine(None, machine, state.busy)
    state.idle_since_s[machine.id] = now_s


def _retire(state: State, action: Retire, now_s: float) -> None:
    machine = state.live_machines.get(action.machine)
    if machine is not None and machine.state != "retiring":
        if machine.state == "booting" and action.force:
            # Forced: it booted for too long. A machine that is merely surplus is retired without force.
            _count_boot_failure(state, machine, now_s)
        state.ledger.retire(action.machine, now_s)
        state.update_machine(action.machine, state="retiring", retired_s=now_s, reason=action.reason)


REDUCERS: dict[type, Callable[[State, Any, float], None]] = {
    Began: _began,
    DeadlineMoved: _deadline_moved,
    SetBudget: _set_budget,
    SetDeadline: _set_deadline,
    Pause: _pause,
    Resume: _resume,
    BeginEnd: _begin_end,
    Finish: _finish,
    Note: _note,
    Drawn: _drawn,
    SpaceExhausted: _exhausted,
    PartFailed: _part_failed,
    Draw: _draw,
    StartGang: _start_gang,
    StopGang: _stop_gang,
    ExtendGang: _extend_gang,
    AbandonGang: _abandon_gang,
    Reported: _reported,
    Silent: _silent,
    GangEnded: _gang_ended,
    EndTrial: _end_trial,
    Pin: _pin,
    RunnerStarted: _runner_started,
    MachineReady: _machine_ready,
    MachineEnded: _machine_ended,
    MachineBilled: _machine_billed,
    MachinesLeftBehind: _left_behind,
    MachineLeaving: _machine_leaving,
    Rent: _rent,
    Retire: _retire,
}
"""Function that applies each type of record to a state at a time in study seconds; other records change nothing."""
