"""What records of machines change in the state of a study."""

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
from seer_nb.core.curve import Report, longer, mended
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


def _runner_started(state: State, event: RunnerStarted, now_s: float) -> None:
    """Other machines of the runner before this one are gone, by the end of the leases that it last renewed."""
    last_s = state.before_s
    # It was silent for a heartbeat at most, and would have had all machines go when the money ended.
    lived_s = state.ledger.exhausted_s(last_s, last_s + state.heartbeat_s + SLACK_S)
    for machine in list(state.live.values()):
        if machine.id in event.adopted:
            _outlived(state, machine, event.unseen_s)
        elif machine.id in event.left:
            _left(state, machine, event, lived_s)
        else:
            _gone(state, machine, event, lived_s)
    for gang in list(state.gangs.values()):
        state.end_gang(gang, now_s, "its runner died")
    state.draws_pending = state.boot_failures = 0
    state.refusals, state.left_behind = {}, ()
    if state.phase == "pausing" and not state.live:
        state.phase = "paused"


def _left(state: State, machine: Machine, event: RunnerStarted, lived_s: float) -> None:
    """It is told to go by this runner, but its lease is from its own, which lived until ``lived_s`` at most."""
    if state.offers[machine.offer].billed_until_deleted:
        # To delete it is for this runner, whatever the one before had begun.
        _outlived(state, machine, event.unseen_s)
        state.ledger.retire(machine.id, state.now_s, again=True)
    else:
        unseen_s = _unseen_s(state, machine, event, lived_s)
        _outlived(state, machine, unseen_s)
        state.ledger.retire(machine.id, min(lived_s, state.before_s + event.unseen_s) - unseen_s)
    state.update_machine(machine.id, state="retiring", retired_s=state.now_s, reason="its runner died")


def _gone(state: State, machine: Machine, event: RunnerStarted, lived_s: float) -> None:
    """It ended unseen, at some time after its runner's last record."""
    last_s = state.before_s
    if state.offers[machine.offer].billed_until_deleted:
        # It would still be there: its own runner has seen it deleted, or has never asked for it.
        unseen_s = min(event.unseen_s, lived_s - last_s)
    else:
        unseen_s = _unseen_s(state, machine, event, lived_s)
    state.ledger.close(machine.id, last_s, unseen_s)
    unseen_s += machine.unseen_s
    state.update_machine(machine.id, state="ended", ended_s=last_s, unseen_s=unseen_s, reason="its runner died")


def _unseen_s(state: State, machine: Machine, event: RunnerStarted, lived_s: float) -> float:
    """How long it has lived since the last record, at most until the end of its lease."""
    return min(event.unseen_s, max(0.0, state.ledger.lives_s(machine.id, lived_s) - state.before_s))


def _outlived(state: State, machine: Machine, unseen_s: float) -> None:
    """It has lived on without a runner's clock."""
    state.ledger.outlived(machine.id, unseen_s)
    state.update_machine(machine.id, unseen_s=machine.unseen_s + unseen_s)


def _machine_ready(state: State, event: MachineReady, now_s: float) -> None:
    machine = state.machines[event.machine]
    if machine.state == "booting":
        if not machine.hosts:
            state.speed.boot(event.boot_s)
            state.boot_failures = 0
        state.refusals.pop(machine.offer, None)
        state.ledger.join(event.machine)
        state.update_machine(event.machine, state="ready", ready_s=now_s)
        state.free_s[event.machine] = now_s


def _machine_ended(state: State, event: MachineEnded, now_s: float) -> None:
    if event.machine not in state.live:
        return
    state.ledger.close(event.machine, now_s, lived_s=event.lived_s)
    machine = state.machines[event.machine]
    if machine.state == "booting":
        _boot_failed(state, machine, now_s, scarce=event.scarce)
    reason = event.reason or machine.reason
    lost = machine.state == "ready" and not event.expected
    state.update_machine(event.machine, state="ended", ended_s=now_s, reason=reason, lost=lost)


def _machine_billed(state: State, event: MachineBilled, _: float) -> None:
    if event.machine in state.machines and event.machine not in state.live:
        state.ledger.correct(event.machine, event.lived_s)


def _left_behind(state: State, event: MachinesLeftBehind, _: float) -> None:
    state.left_behind = event.machines


def _machine_leaving(state: State, event: MachineLeaving, now_s: float) -> None:
    if event.machine in state.live:
        state.update_machine(event.machine, leaves_s=now_s + event.left_s, reason=event.reason)


def _boot_failed(state: State, machine: Machine, now_s: float, *, scarce: bool = False) -> None:
    state.boot_failures += not scarce
    before = state.refusals.get(machine.offer)
    # Several that were asked for together, and that there were none of, are one refusal; others cost money each.
    if before is None or not scarce or machine.rented_s >= before.again_s:
        state.refusals[machine.offer] = Refusals(1 if before is None else before.times + 1, now_s)


def _rent(state: State, action: Rent, now_s: float) -> None:
    offer = state.offers[action.offer]
    state.ledger.open(action.machine, offer, now_s)
    machine = Machine(id=action.machine, offer=offer.name, slots=offer.workers_per_machine, rented_s=now_s)
    state.machines[machine.id] = state.live[machine.id] = machine
    state.tally.machine(None, machine, state.busy)
    state.free_s[machine.id] = now_s


def _retire(state: State, action: Retire, now_s: float) -> None:
    machine = state.live.get(action.machine)
    if machine is not None and machine.state != "retiring":
        if machine.state == "booting" and action.force:
            # For booting too long; a machine that is just one too many is not forced.
            _boot_failed(state, machine, now_s)
        state.ledger.retire(action.machine, now_s)
        state.update_machine(action.machine, state="retiring", retired_s=now_s, reason=action.reason)


MACHINE_HANDLERS: dict[type, Callable[[State, Any, float], None]] = {
    RunnerStarted: _runner_started,
    MachineReady: _machine_ready,
    MachineEnded: _machine_ended,
    MachineBilled: _machine_billed,
    MachinesLeftBehind: _left_behind,
    MachineLeaving: _machine_leaving,
    Rent: _rent,
    Retire: _retire,
}


def _began(state: State, _: Began, __: float) -> None:
    state.phase = "running"


def _deadline_moved(state: State, event: DeadlineMoved, _: float) -> None:
    state.deadline_s = event.deadline_s


def _set_budget(state: State, event: SetBudget, now_s: float) -> None:
    # What is spent and committed cannot be taken back.
    state.ledger.budget = max(event.budget, state.ledger.floor(now_s))


def _set_deadline(state: State, event: SetDeadline, now_s: float) -> None:
    # Machines that live cannot be gone before they are told to go.
    release_s = max((state.offers[machine.offer].release_s for machine in state.live.values()), default=0.0)
    state.deadline_s = max(event.deadline_s, now_s + release_s)
    state.deadline_wall = event.deadline_wall


def _pause(state: State, _: Pause, now_s: float) -> None:
    if state.phase == "running":
        state.ending_s = now_s
        state.phase = "pausing" if state.live or state.gangs else "paused"


def _resume(state: State, _: Resume, __: float) -> None:
    if state.phase in {"pausing", "paused", "ending", "ended"}:
        state.phase, state.reason, state.failed = "running", "", False


def _begin_end(state: State, action: BeginEnd, now_s: float) -> None:
    state.phase, state.reason, state.failed, state.ending_s = "ending", action.reason, action.failed, now_s


def _finish(state: State, _: Finish, __: float) -> None:
    state.phase = "paused" if state.phase == "pausing" else "ended"
    for trial in list(state.tally.waiting):
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


STUDY_HANDLERS: dict[type, Callable[[State, Any, float], None]] = {
    Began: _began,
    DeadlineMoved: _deadline_moved,
    SetBudget: _set_budget,
    SetDeadline: _set_deadline,
    Pause: _pause,
    Resume: _resume,
    BeginEnd: _begin_end,
    Finish: _finish,
    Note: _note,
}


def _drawn(state: State, event: Drawn, _: float) -> None:
    state.trials[event.trial] = Trial(id=event.trial, config=event.config)
    state.tally.waiting[event.trial] = None
    state.n_drawn += 1
    state.draws_pending = max(0, state.draws_pending - 1)


def _exhausted(state: State, _: SpaceExhausted, __: float) -> None:
    state.exhausted = True
    state.draws_pending = 0


def _draw(state: State, action: Draw, _: float) -> None:
    state.draws_pending += action.count


def _start_gang(state: State, action: StartGang, now_s: float) -> None:
    gang = Gang(
        id=action.gang,
        trial=action.trial,
        workers=action.workers,
        from_epoch=action.from_epoch,
        until=action.until,
        started_s=now_s,
        heard_s=now_s,
    )
    state.gangs[gang.id] = gang
    state.busy.update(gang.workers)
    state.tally.gang(gang, 1, state)
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
    state.gangs[action.gang] = replace(state.gangs[action.gang], stopping=action.reason or "told to")


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
    first = gang.heard_s == gang.started_s
    state.gangs[gang.id] = replace(gang, heard_s=now_s)
    parallelism = event.parallelism or gang.parallelism
    if first and event.parallelism is None:
        state.speed.stall(now_s - gang.started_s - event.seconds - event.save_s)
    if event.epoch != trial.epoch + 1:
        # An epoch trained again after a loss: the first report stands. Its checkpoint may be the newer one.
        _restore_point(state, trial, event)
        return
    state.speed.epoch(trial.id, parallelism, event.seconds)
    report = Report(
        epoch=event.epoch,
        value=event.value,
        metrics=event.metrics,
        seconds=event.seconds,
        parallelism=parallelism,
        at_s=now_s,
        cost=trial.cost,
        checkpoint=event.checkpoint,
    )
    stored = event.checkpoint is not None
    state.update_trial(
        trial.id,
        curve=longer(trial.curve, report),
        resume=report if stored else trial.resume,
        spare=trial.resume if stored else trial.spare,
        best=_better(state, trial.best, report) if stored else trial.best,
        batch_size=event.batch_size or trial.batch_size,
        losses=0,
    )


def _restore_point(state: State, trial: Trial, event: Reported) -> None:
    if event.checkpoint is None or event.epoch <= trial.resume_epoch or event.epoch > trial.epoch:
        return
    report = replace(trial.curve[event.epoch - 1], checkpoint=event.checkpoint)
    best = _better(state, trial.best, report)
    state.update_trial(trial.id, curve=mended(trial.curve, report), resume=report, spare=trial.resume, best=best)


def _better(state: State, best: Report | None, report: Report) -> Report | None:
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
    # One that did not stop in time was ended by the study itself: that says nothing of the trial.
    asked = gang.stopping and not gang.abandoned
    if event.outcome == "lost" and not asked:
        state.update_trial(trial.id, losses=trial.losses + 1)
    elif event.outcome == "damaged" and trial.resume is not None and trial.resume_epoch == gang.from_epoch:
        _fall_back(state, trial, trial.resume)


def _fall_back(state: State, trial: Trial, damaged: Report) -> None:
    """Go on from the checkpoint before the damaged one, or anew."""
    kept = [x for x in (trial.spare, trial.best) if x is not None and x.checkpoint != damaged.checkpoint]
    bare = replace(damaged, checkpoint=None)
    best: Report | None = None
    for report in kept:
        best = _better(state, best, report)
    state.update_trial(
        trial.id,
        curve=mended(trial.curve, bare),
        resume=max(kept, key=lambda report: report.epoch, default=None),
        spare=None,
        best=best,
    )
    state.tally.rank(state)


def _end_trial(state: State, action: EndTrial, now_s: float) -> None:
    state.update_trial(action.trial, state=action.state, reason=action.reason, error=action.error, ended_s=now_s)


def _pin(state: State, event: Pin, _: float) -> None:
    if event.trial in state.trials:
        state.update_trial(event.trial, pinned=event.pinned)


TRIAL_HANDLERS: dict[type, Callable[[State, Any, float], None]] = {
    Drawn: _drawn,
    SpaceExhausted: _exhausted,
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
}
