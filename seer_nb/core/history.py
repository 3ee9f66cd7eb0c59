"""How a study came to where it is: what figures over time and the log of decisions show, reduced from its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from seer_nb._utils.text import headline
from seer_nb._utils.units import format_duration, format_money
from seer_nb.core.actions import (
    AbandonGang,
    Action,
    BeginEnd,
    EndTrial,
    ExtendGang,
    Finish,
    Note,
    Rent,
    Retire,
    StartGang,
    StopGang,
)
from seer_nb.core.events import (
    Began,
    Event,
    GangEnded,
    MachineEnded,
    MachineReady,
    MachinesLeftBehind,
    Pause,
    Pin,
    Resume,
    RunnerStarted,
    SetBudget,
    SetDeadline,
    Silent,
    SpaceExhausted,
    Stop,
    StopTrial,
    WorkerFailed,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from seer_nb.core.model import Settings
    from seer_nb.core.state import State


Steps: TypeAlias = list[tuple[float, float]]
"""(study seconds, value from then on), in order."""
Kind: TypeAlias = Literal["command", "decision", "fault"]
SAMPLES = 400
"""Of the spending, within the deadline."""


class LogEntry(NamedTuple):
    """A line of the log."""

    number: int
    at_s: float
    kind: Kind
    trial: int | None
    text: str
    """What was done, was asked for, or went wrong."""
    reason: str
    """Why."""


class Mark(NamedTuple):
    """A moment at which a person changed the course."""

    at_s: float
    text: str


class History:
    """Grows with each record that a state has taken in."""

    def __init__(self) -> None:
        self.workers: dict[int, Steps] = {}
        """By trial: workers that train it."""
        self.busy: Steps = [(0.0, 0)]
        """Workers that train."""
        self.size: Steps = [(0.0, 0)]
        """Workers of ready machines."""
        self.wanted: Steps = [(0.0, 0)]
        """Workers that the plan wanted."""
        self.losses: list[float] = []
        """When machines ended that had not been told to."""
        self.spent: Steps = [(0.0, 0)]
        """Micro-dollars, sampled."""
        self.budgets: Steps = []
        """Micro-dollars, as a person set them."""
        self.deadlines: Steps = []
        """Study seconds, as a person set them."""
        self.marks: list[Mark] = []
        self.log: list[LogEntry] = []
        self._trial_of: dict[int, int] = {}
        self._told = ""

    def note(self, record: Event | Action, state: State) -> None:
        """Take in a record that the state has just taken in."""
        handler = _HANDLERS.get(type(record))
        if handler is not None:
            handler(self, record, state)
        if isinstance(record, MachineReady | MachineEnded | Retire | RunnerStarted):
            _step(self.size, state.now_s, state.tally.ready_slots)
        self._sample(state)

    def _sample(self, state: State) -> None:
        if state.now_s - self.spent[-1][0] >= max(state.deadline_s, state.now_s) / SAMPLES:
            self.spent.append((state.now_s, state.ledger.spent(state.now_s)))
        if len(self.spent) > 2 * SAMPLES:
            del self.spent[1::2]

    def _say(self, state: State, kind: Kind, text: str, *, trial: int | None = None, reason: str = "") -> None:
        self.log.append(LogEntry(len(self.log), state.now_s, kind, trial, text, reason))

    def _mark(self, state: State, text: str) -> None:
        self.marks.append(Mark(state.now_s, text))
        self._say(state, "command", text)

    def _sized(self, trial: int, size: int, state: State) -> None:
        _step(self.workers.setdefault(trial, []), state.now_s, size)
        _step(self.busy, state.now_s, state.tally.training)

    # --- decisions ---

    def _on_start(self, action: StartGang, state: State) -> None:
        self._trial_of[action.gang] = action.trial
        self._sized(action.trial, len(action.workers), state)
        workers = "1 worker" if len(action.workers) == 1 else f"{len(action.workers)} workers"
        text = f"trial {action.trial} trains on {workers} up to epoch {action.until}"
        self._say(state, "decision", text, trial=action.trial, reason=action.reason)

    def _on_stop_gang(self, action: StopGang, state: State) -> None:
        trial = self._trial_of.get(action.gang)
        text = f"trial {trial} is saved and halts after its epoch"
        self._say(state, "decision", text, trial=trial, reason=action.reason)

    def _on_extend(self, action: ExtendGang, state: State) -> None:
        trial = self._trial_of.get(action.gang)
        self._say(
            state, "decision", f"trial {trial} trains on up to epoch {action.until}", trial=trial, reason=action.reason
        )

    def _on_abandon(self, action: AbandonGang, state: State) -> None:
        trial = self._trial_of.get(action.gang)
        self._say(state, "fault", f"trial {trial} is given up as hung", trial=trial, reason=action.reason)

    def _on_end_trial(self, action: EndTrial, state: State) -> None:
        kind: Kind = "fault" if action.state == "failed" else "decision"
        self._say(state, kind, f"trial {action.trial} {action.state}", trial=action.trial, reason=action.reason)

    def _on_rent(self, action: Rent, state: State) -> None:
        text = f"machine {action.machine} ({action.offer}) is rented"
        self._say(state, "decision", text, reason=action.reason)

    def _on_retire(self, action: Retire, state: State) -> None:
        self._say(state, "decision", f"machine {action.machine} is handed back", reason=action.reason)

    def _on_note(self, action: Note, state: State) -> None:
        _step(self.wanted, state.now_s, action.workers)
        if action.reason != self._told:
            self._told = action.reason
            self._say(state, "decision", "plan", reason=action.reason)

    def _on_begin_end(self, action: BeginEnd, state: State) -> None:
        kind: Kind = "fault" if action.failed else "decision"
        self._say(state, kind, "all trials are saved, all machines handed back", reason=action.reason)

    def _on_finish(self, _: Finish, state: State) -> None:
        self.spent.append((state.now_s, state.ledger.spent(state.now_s)))
        _step(self.wanted, state.now_s, 0)
        self._say(state, "decision", f"the study has {state.phase}", reason="all machines are gone")

    # --- events ---

    def _on_began(self, event: Began, _: State) -> None:
        fresh = begun(event.settings)
        self.budgets, self.deadlines = fresh.budgets, fresh.deadlines

    def _on_runner(self, event: RunnerStarted, state: State) -> None:
        if not self.log:
            return
        for trial, steps in self.workers.items():
            if steps[-1][1]:
                self._sized(trial, 0, state)
        text = "a new runner took the study up" + (
            f", {format_duration(event.unseen_s)} after the last word of the one before" if event.unseen_s else ""
        )
        self._say(state, "fault", text)

    def _on_gang_ended(self, event: GangEnded, state: State) -> None:
        trial = self._trial_of.get(event.gang)
        if trial is None:
            return
        self._sized(trial, 0, state)
        if event.outcome == "lost":
            self._say(state, "fault", f"trial {trial} lost its workers", trial=trial, reason=headline(event.error))
        elif event.outcome == "damaged":
            text = f"trial {trial} goes back to epoch {state.trials[trial].resume_epoch}"
            self._say(state, "fault", text, trial=trial, reason=headline(event.error))

    def _on_silent(self, event: Silent, state: State) -> None:
        trial = self._trial_of.get(event.gang)
        text = f"trial {trial} is silent: no report for {format_duration(event.silent_s)}"
        self._say(state, "fault", text, trial=trial, reason=event.where)

    def _on_machine_ended(self, event: MachineEnded, state: State) -> None:
        if not event.expected:
            self.losses.append(state.now_s)
            self._say(state, "fault", f"machine {event.machine} was lost", reason=event.reason)

    def _on_left_behind(self, event: MachinesLeftBehind, state: State) -> None:
        text = "machines could not be ended, and may still be billed: " + ", ".join(map(str, event.machines))
        self._say(state, "fault", text, reason="resume() tries again, or end them at the provider")

    def _on_worker_failed(self, event: WorkerFailed, state: State) -> None:
        self._say(state, "fault", f"worker {event.worker} could not load train", reason=headline(event.error))

    def _on_exhausted(self, _: SpaceExhausted, state: State) -> None:
        self._say(state, "decision", "no further configuration is drawn", reason="the space has no other")

    # --- commands ---

    def _on_budget(self, _: SetBudget, state: State) -> None:
        # As it was taken: what is spent and committed cannot be taken back.
        _step(self.budgets, state.now_s, state.budget)
        self._mark(state, f"budget set to {format_money(state.budget)}")

    def _on_deadline(self, _: SetDeadline, state: State) -> None:
        _step(self.deadlines, state.now_s, state.deadline_s)
        self._mark(state, f"deadline set to {format_duration(state.deadline_s)}")

    def _on_pause(self, _: Pause, state: State) -> None:
        self._mark(state, "paused")

    def _on_resume(self, _: Resume, state: State) -> None:
        self._mark(state, "resumed")

    def _on_stop(self, _: Stop, state: State) -> None:
        self._mark(state, "stopped")

    def _on_pin(self, event: Pin, state: State) -> None:
        text = f"trial {event.trial} pinned" if event.pinned else f"trial {event.trial} let go"
        self._say(state, "command", text, trial=event.trial)

    def _on_stop_trial(self, event: StopTrial, state: State) -> None:
        self._say(state, "command", f"trial {event.trial} stopped by hand", trial=event.trial)


def begun(settings: Settings) -> History:
    """Of a study that nothing has happened to yet."""
    history = History()
    history.budgets, history.deadlines = [(0.0, settings.budget)], [(0.0, settings.deadline_s)]
    return history


def value_at(steps: Steps, at_s: float) -> float:
    """The value that stood then; 0 before the first."""
    from bisect import bisect_right

    place = bisect_right(steps, (at_s, float("inf")))
    return steps[place - 1][1] if place else 0.0


def _step(steps: Steps, at_s: float, value: float) -> None:
    if steps and steps[-1][0] == at_s:
        steps[-1] = (at_s, value)
    elif not steps or steps[-1][1] != value:
        steps.append((at_s, value))


_HANDLERS: dict[type, Callable[[History, Any, State], None]] = {
    StartGang: History._on_start,
    StopGang: History._on_stop_gang,
    ExtendGang: History._on_extend,
    AbandonGang: History._on_abandon,
    EndTrial: History._on_end_trial,
    Rent: History._on_rent,
    Retire: History._on_retire,
    Note: History._on_note,
    BeginEnd: History._on_begin_end,
    Finish: History._on_finish,
    Began: History._on_began,
    RunnerStarted: History._on_runner,
    Silent: History._on_silent,
    GangEnded: History._on_gang_ended,
    MachineEnded: History._on_machine_ended,
    MachinesLeftBehind: History._on_left_behind,
    WorkerFailed: History._on_worker_failed,
    SpaceExhausted: History._on_exhausted,
    SetBudget: History._on_budget,
    SetDeadline: History._on_deadline,
    Pause: History._on_pause,
    Resume: History._on_resume,
    Stop: History._on_stop,
    Pin: History._on_pin,
    StopTrial: History._on_stop_trial,
}
