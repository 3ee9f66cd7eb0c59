"""What records of trials and their gangs change in the state of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb.core import model as m
from seer_nb.core.curve import longer, mended

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.state import State


def _drawn(state: State, event: m.Drawn, _: float) -> None:
    state.trials[event.trial] = m.Trial(id=event.trial, config=event.config)
    state.tally.waiting[event.trial] = None
    state.n_drawn += 1
    state.draws_pending = max(0, state.draws_pending - 1)


def _exhausted(state: State, _: m.SpaceExhausted, __: float) -> None:
    state.exhausted = True
    state.draws_pending = 0


def _draw(state: State, action: m.Draw, _: float) -> None:
    state.draws_pending += action.count


def _start_gang(state: State, action: m.StartGang, now_s: float) -> None:
    gang = m.Gang(
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


def _stop_gang(state: State, action: m.StopGang, _: float) -> None:
    state.gangs[action.gang] = replace(state.gangs[action.gang], stopping=action.reason or "told to")


def _extend_gang(state: State, action: m.ExtendGang, _: float) -> None:
    state.gangs[action.gang] = replace(state.gangs[action.gang], until=action.until)


def _abandon_gang(state: State, action: m.AbandonGang, _: float) -> None:
    state.gangs[action.gang] = replace(state.gangs[action.gang], stopping=action.reason, abandoned=True)


def _reported(state: State, event: m.Reported, now_s: float) -> None:
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
    report = m.Report(
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


def _restore_point(state: State, trial: m.Trial, event: m.Reported) -> None:
    if event.checkpoint is None or event.epoch <= trial.resume_epoch or event.epoch > trial.epoch:
        return
    report = replace(trial.curve[event.epoch - 1], checkpoint=event.checkpoint)
    best = _better(state, trial.best, report)
    state.update_trial(trial.id, curve=mended(trial.curve, report), resume=report, spare=trial.resume, best=best)


def _better(state: State, best: m.Report | None, report: m.Report) -> m.Report | None:
    if report.value is None:
        return best
    if best is None or best.value is None:
        return report
    less = report.value < best.value
    better = less if state.settings.mode == "min" else report.value > best.value
    return report if better else best


def _silent(state: State, event: m.Silent, _: float) -> None:
    if event.gang in state.gangs:
        state.silent[event.gang] = event.where


def _gang_ended(state: State, event: m.GangEnded, now_s: float) -> None:
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


def _fall_back(state: State, trial: m.Trial, damaged: m.Report) -> None:
    """Go on from the checkpoint before the damaged one, or anew."""
    kept = [x for x in (trial.spare, trial.best) if x is not None and x.checkpoint != damaged.checkpoint]
    bare = replace(damaged, checkpoint=None)
    best: m.Report | None = None
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


def _end_trial(state: State, action: m.EndTrial, now_s: float) -> None:
    state.update_trial(action.trial, state=action.state, reason=action.reason, error=action.error, ended_s=now_s)


def _pin(state: State, event: m.Pin, _: float) -> None:
    if event.trial in state.trials:
        state.update_trial(event.trial, pinned=event.pinned)


HANDLERS: dict[type, Callable[[State, Any, float], None]] = {
    m.Drawn: _drawn,
    m.SpaceExhausted: _exhausted,
    m.Draw: _draw,
    m.StartGang: _start_gang,
    m.StopGang: _stop_gang,
    m.ExtendGang: _extend_gang,
    m.AbandonGang: _abandon_gang,
    m.Reported: _reported,
    m.Silent: _silent,
    m.GangEnded: _gang_ended,
    m.EndTrial: _end_trial,
    m.Pin: _pin,
}
