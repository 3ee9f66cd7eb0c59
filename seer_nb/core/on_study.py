"""What records of the study as a whole change in its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.core import model as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.state import State


def _began(state: State, _: m.Began, __: float) -> None:
    state.phase = "running"


def _deadline_moved(state: State, event: m.DeadlineMoved, _: float) -> None:
    state.deadline_s = event.deadline_s


def _set_budget(state: State, event: m.SetBudget, now_s: float) -> None:
    # What is spent and committed cannot be taken back.
    state.ledger.budget = max(event.budget, state.ledger.floor(now_s))


def _set_deadline(state: State, event: m.SetDeadline, now_s: float) -> None:
    # Machines that live cannot be gone before they are told to go.
    release_s = max((state.offers[machine.offer].release_s for machine in state.live.values()), default=0.0)
    state.deadline_s = max(event.deadline_s, now_s + release_s)
    state.deadline_wall = event.deadline_wall


def _pause(state: State, _: m.Pause, now_s: float) -> None:
    if state.phase == "running":
        state.ending_s = now_s
        state.phase = "pausing" if state.live or state.gangs else "paused"


def _resume(state: State, _: m.Resume, __: float) -> None:
    if state.phase in {"pausing", "paused", "ending", "ended"}:
        state.phase, state.reason, state.failed = "running", "", False


def _begin_end(state: State, action: m.BeginEnd, now_s: float) -> None:
    state.phase, state.reason, state.failed, state.ending_s = "ending", action.reason, action.failed, now_s


def _finish(state: State, _: m.Finish, __: float) -> None:
    state.phase = "paused" if state.phase == "pausing" else "ended"
    for trial in list(state.tally.waiting):
        state.update_trial(trial, reason="drawn, but not started before the study " + state.phase)


def _note(state: State, action: m.Note, now_s: float) -> None:
    if action.reason != state.plan_reason:
        state.plan_reason, state.noted_s = action.reason, now_s
    if action.changes:
        wanted = {**state.wanted, **action.wanted}
        state.wanted = {trial: count for trial, count in wanted.items() if count}
    else:
        state.wanted = action.wanted
    state.wanted_workers = action.workers


HANDLERS: dict[type, Callable[[State, Any, float], None]] = {
    m.Began: _began,
    m.DeadlineMoved: _deadline_moved,
    m.SetBudget: _set_budget,
    m.SetDeadline: _set_deadline,
    m.Pause: _pause,
    m.Resume: _resume,
    m.BeginEnd: _begin_end,
    m.Finish: _finish,
    m.Note: _note,
}
