"""The history of a study, reduced from its records: time series for figures, and the log of decisions."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeAlias

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
    Reported,
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
"""Step function: (study seconds, value from then on), ordered by time."""
Kind: TypeAlias = Literal["command", "decision", "fault"]
SAMPLES = 400
"""Number of samples of the spending until the deadline."""


UNSHARED = (
    "each of its workers did all of the work, because train uses neither run.prepare(model) nor run.loader(...) nor "
    "torch.distributed; Study(max_parallelism=1) avoids such gangs from the start"
)
"""Why a trial trains on one worker after its gang has reported."""


class LogEntry(NamedTuple):
    """An entry of the log."""

    number: int
    at_s: float
    kind: Kind
    trial: int | None
    text: str
    """What was decided, what the user commanded, or what failed."""
    reason: str
    """Why, as text."""


class Mark(NamedTuple):
    """A command of the user, as marked in figures over time."""

    at_s: float
    text: str


class History:
    """The history of one study. It grows with each record that a state has applied."""

    def __init__(self) -> None:
        self.workers: dict[int, Steps] = {}
        """Workers that train each trial, by trial."""
        self.training_workers: Steps = [(0.0, 0)]
        """Workers that gangs use."""
        self.ready_workers: Steps = [(0.0, 0)]
        """Workers of ready machines."""
        self.wanted_workers: Steps = [(0.0, 0)]
        """Workers that the plan wants."""
        self.losses: list[float] = []
        """Times at which machines ended unexpectedly."""
        self.spent: Steps = [(0.0, 0)]
        """Spent micro-dollars, sampled."""
        self.budgets: Steps = []
        """Budget in micro-dollars, as set by the user."""
        self.deadlines: Steps = []
        """Deadline in study seconds, as set by the user."""
        self.marks: list[Mark] = []
        self.log: list[LogEntry] = []
        self._trial_of: dict[int, int] = {}
        self._last_reason = ""
        """Text of the last logged plan."""

    def add(self, record: Event | Action, state: State) -> None:
        """Add a record that the state has just applied.

        Args:
            record: An event or an action.
            state: The state after the record.
        """
        handler = self._HANDLERS.get(type(record))
        if handler is not None:
            handler(self, record, state)
        if isinstance(record, MachineReady | MachineEnded | Retire | RunnerStarted):
            _add_step(self.ready_workers, state.now_s, state.index.ready_slots)
        self._sample_spending(state)

    def _sample_spending(self, state: State) -> None:
        if state.now_s - self.spent[-1][0] >= max(state.deadline_s, state.now_s) / SAMPLES:
            self.spent.append((state.now_s, state.ledger.spent_micro(state.now_s)))
        if len(self.spent) > 2 * SAMPLES:
            del self.spent[1::2]

    def _add_entry(self, state: State, kind: Kind, text: str, *, trial: int | None = None, reason: str = "") -> None:
        self.log.append(LogEntry(len(self.log), state.now_s, kind, trial, text, reason))

    def _add_mark(self, state: State, text: str) -> None:
        self.marks.append(Mark(state.now_s, text))
        self._add_entry(state, "command", text)

    def _set_workers(self, trial: int, size: int, state: State) -> None:
        _add_step(self.workers.setdefault(trial, []), state.now_s, size)
        _add_step(self.training_workers, state.now_s, state.index.training)

    # --- decisions ---

    def _on_start(self, action: StartGang, state: State) -> None:
        self._trial_of[action.gang] = action.trial
        self._set_workers(action.trial, len(action.workers), state)
        workers = "1 worker" if len(action.workers) == 1 else f"{len(action.workers)} workers"
        text = f"trial {action.trial} trains on {workers} up to epoch {action.until}"
        self._add_entry(state, "decision", text, trial=action.trial, reason=action.reason)

    def _on_stop_gang(self, action: StopGang, state: State) -> None:
        trial = self._trial_of.get(action.gang)
        text = f"trial {trial} stops after its current epoch"
        self._add_entry(state, "decision", text, trial=trial, reason=action.reason)

    def _on_extend(self, action: ExtendGang, state: State) -> None:
        trial = self._trial_of.get(action.gang)
        self._add_entry(
            state, "decision", f"trial {trial} continues up to epoch {action.until}", trial=trial, reason=action.reason
        )

    def _on_abandon(self, action: AbandonGang, state: State) -> None:
        trial = self._trial_of.get(action.gang)
        self._add_entry(state, "fault", f"trial {trial} is abandoned as hung", trial=trial, reason=action.reason)

    def _on_end_trial(self, action: EndTrial, state: State) -> None:
        kind: Kind = "fault" if action.state == "failed" else "decision"
        self._add_entry(state, kind, f"trial {action.trial} {action.state}", trial=action.trial, reason=action.reason)

    def _on_rent(self, action: Rent, state: State) -> None:
        text = f"machine {action.machine} ({action.offer}) is rented"
        self._add_entry(state, "decision", text, reason=action.reason)

    def _on_retire(self, action: Retire, state: State) -> None:
        self._add_entry(state, "decision", f"machine {action.machine} is retired", reason=action.reason)

    def _on_note(self, action: Note, state: State) -> None:
        _add_step(self.wanted_workers, state.now_s, action.workers)
        if action.reason != self._last_reason:
            self._last_reason = action.reason
            self._add_entry(state, "decision", "plan", reason=action.reason)

    def _on_begin_end(self, action: BeginEnd, state: State) -> None:
        kind: Kind = "fault" if action.failed else "decision"
        self._add_entry(state, kind, "all trials are saved and all machines retired", reason=action.reason)

    def _on_finish(self, _: Finish, state: State) -> None:
        self.spent.append((state.now_s, state.ledger.spent_micro(state.now_s)))
        _add_step(self.wanted_workers, state.now_s, 0)
        self._add_entry(state, "decision", f"the study has {state.phase}", reason="all machines are gone")

    # --- events ---

    def _on_began(self, event: Began, _: State) -> None:
        fresh = initial_history(event.settings)
        self.budgets, self.deadlines = fresh.budgets, fresh.deadlines

    def _on_runner(self, event: RunnerStarted, state: State) -> None:
        if not self.log:
            return
        for trial, steps in self.workers.items():
            if steps[-1][1]:
                self._set_workers(trial, 0, state)
        text = "a new runner started"
        if event.unseen_s:
            text += f", {format_duration(event.unseen_s)} after the last record of the previous one"
        self._add_entry(state, "fault", text)

    def _on_reported(self, event: Reported, state: State) -> None:
        if event.shares is False and event.gang in self._trial_of:
            trial = self._trial_of[event.gang]
            text = f"trial {trial} trains on 1 worker from now on"
            self._add_entry(state, "decision", text, trial=trial, reason=UNSHARED)

    def _on_gang_ended(self, event: GangEnded, state: State) -> None:
        trial = self._trial_of.get(event.gang)
        if trial is None:
            return
        self._set_workers(trial, 0, state)
        if event.outcome == "lost":
            self._add_entry(
                state, "fault", f"trial {trial} lost its workers", trial=trial, reason=headline(event.error)
            )
        elif event.outcome == "damaged":
            text = f"trial {trial} returns to epoch {state.trials[trial].resume_epoch}"
            self._add_entry(state, "fault", text, trial=trial, reason=headline(event.error))

    def _on_silent(self, event: Silent, state: State) -> None:
        trial = self._trial_of.get(event.gang)
        text = f"trial {trial} is silent: no report for {format_duration(event.silent_s)}"
        self._add_entry(state, "fault", text, trial=trial, reason=event.where)

    def _on_machine_ended(self, event: MachineEnded, state: State) -> None:
        if not event.expected:
            self.losses.append(state.now_s)
            self._add_entry(state, "fault", f"machine {event.machine} was lost", reason=event.reason)

    def _on_left_behind(self, event: MachinesLeftBehind, state: State) -> None:
        text = "machines could not be terminated and may still be billed: " + ", ".join(map(str, event.machines))
        self._add_entry(state, "fault", text, reason="call resume() to try again, or terminate them at the provider")

    def _on_worker_failed(self, event: WorkerFailed, state: State) -> None:
        self._add_entry(state, "fault", f"worker {event.worker} could not load train", reason=headline(event.error))

    def _on_exhausted(self, _: SpaceExhausted, state: State) -> None:
        self._add_entry(state, "decision", "no further configuration is drawn", reason="the search space is exhausted")

    # --- commands ---

    def _on_budget(self, _: SetBudget, state: State) -> None:
        # The applied budget: it cannot be less than what is spent and committed.
        _add_step(self.budgets, state.now_s, state.budget_micro)
        self._add_mark(state, f"budget set to {format_money(state.budget_micro)}")

    def _on_deadline(self, _: SetDeadline, state: State) -> None:
        _add_step(self.deadlines, state.now_s, state.deadline_s)
        self._add_mark(state, f"deadline set to {format_duration(state.deadline_s)}")

    def _on_pause(self, _: Pause, state: State) -> None:
        self._add_mark(state, "paused")

    def _on_resume(self, _: Resume, state: State) -> None:
        self._add_mark(state, "resumed")

    def _on_stop(self, _: Stop, state: State) -> None:
        self._add_mark(state, "stopped")

    def _on_pin(self, event: Pin, state: State) -> None:
        text = f"trial {event.trial} pinned" if event.pinned else f"trial {event.trial} unpinned"
        self._add_entry(state, "command", text, trial=event.trial)

    def _on_stop_trial(self, event: StopTrial, state: State) -> None:
        self._add_entry(state, "command", f"trial {event.trial} stopped by hand", trial=event.trial)

    _HANDLERS: ClassVar[dict[type, Callable[[History, Any, State], None]]] = {
        StartGang: _on_start,
        StopGang: _on_stop_gang,
        ExtendGang: _on_extend,
        AbandonGang: _on_abandon,
        EndTrial: _on_end_trial,
        Rent: _on_rent,
        Retire: _on_retire,
        Note: _on_note,
        BeginEnd: _on_begin_end,
        Finish: _on_finish,
        Began: _on_began,
        RunnerStarted: _on_runner,
        Reported: _on_reported,
        Silent: _on_silent,
        GangEnded: _on_gang_ended,
        MachineEnded: _on_machine_ended,
        MachinesLeftBehind: _on_left_behind,
        WorkerFailed: _on_worker_failed,
        SpaceExhausted: _on_exhausted,
        SetBudget: _on_budget,
        SetDeadline: _on_deadline,
        Pause: _on_pause,
        Resume: _on_resume,
        Stop: _on_stop,
        Pin: _on_pin,
        StopTrial: _on_stop_trial,
    }
    """Method that adds each type of record to the history; other records add nothing."""


def initial_history(settings: Settings) -> History:
    """Return the history of a study that has not started."""
    history = History()
    history.budgets, history.deadlines = [(0.0, settings.budget_micro)], [(0.0, settings.deadline_s)]
    return history


def step_value_at(steps: Steps, at_s: float) -> float:
    """Return the value of a step function at a time; 0 before its first step."""
    place = bisect_right(steps, (at_s, float("inf")))
    return steps[place - 1][1] if place else 0.0


def _add_step(steps: Steps, at_s: float, value: float) -> None:
    """Append a step, unless the value is unchanged; a later value at the same time replaces the earlier one."""
    if steps and steps[-1][0] == at_s:
        steps[-1] = (at_s, value)
    elif not steps or steps[-1][1] != value:
        steps.append((at_s, value))
