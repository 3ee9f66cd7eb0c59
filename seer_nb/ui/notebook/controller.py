"""Actions of the live view, as calls of the study. Each action returns a sentence that says what was done."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO, format_duration, format_money
from seer_nb.errors import SeerError
from seer_nb.storage import resource_usage
from seer_nb.study.results import TableName
from seer_nb.study.settings import new_budget, new_deadline
from seer_nb.views.export import formats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from seer_nb.core.history import History
    from seer_nb.core.state import State
    from seer_nb.storage.resource_usage import ResourceUsage
    from seer_nb.study.study import Study
    from seer_nb.views.view_model import StudyView


MAX_SLIDER_FACTOR = 4.0
"""Upper end of a slider, as a multiple of the limit that the study was created with."""
Request = dict[str, Any]
"""A message from the browser: "do" names the action, the other items are its arguments."""


class StudyReader:
    """Access of the live view to a study, through a second ``Study`` on the same folder.

    The user's own ``Study`` is not thread-safe, and the live view reads on another thread. A reader itself must not be
    used by two threads at once.

    Args:
        study: The study that the user holds.
    """

    def __init__(self, study: Study) -> None:
        self.user_study = study
        self._own: Study | None = None

    @property
    def study(self) -> Study:
        """The study to read and to send commands to: the user's own until it has started."""
        if self._own is None and self.started:
            self._own = self.user_study.reopen()
        return self._own or self.user_study

    @property
    def started(self) -> bool:
        """Whether the study has a journal."""
        return self.user_study.started

    @property
    def folder(self) -> Path:
        """Folder of the study."""
        return self.user_study.folder

    def state(self) -> State:
        """Read the newest state."""
        return self.study.state

    def history(self) -> History:
        """Return the history of the state that was read last."""
        return self.study.history

    def status(self) -> str:
        """Return ``Study.status``."""
        return self.study.status

    def stalled(self) -> str:
        """Return ``Study.stalled``."""
        return self.study.stalled

    def now_s(self) -> float:
        """Return the present study seconds, which the journal does not hold before the next record."""
        return self.study.now_s

    def resource_usage(self) -> ResourceUsage | None:
        """Read the resource usage of the study's processes; None if unknown."""
        return resource_usage.read(self.folder)


class Limits(NamedTuple):
    """Budget and deadline of a study."""

    budget_micro: int
    deadline_s: float
    deadline_wall: float | None = None
    """Unix seconds of a wall-clock deadline; then ``deadline_s`` is only its present equivalent."""

    @property
    def deadline(self) -> float | datetime:
        """The deadline as a user would give it: study seconds, or a datetime."""
        return self.deadline_s if self.deadline_wall is None else datetime.fromtimestamp(self.deadline_wall, UTC)


class LimitChange(NamedTuple):
    """One applied change of limits."""

    before: Limits
    after: Limits

    def undo(self, now: Limits) -> Limits:
        """Return the present limits without this change; a limit that the change left alone stays as it is now."""
        before, after = self
        return Limits(
            now.budget_micro if before.budget_micro == after.budget_micro else before.budget_micro,
            *(now[1:] if before.deadline == after.deadline else before[1:]),
        )


class Controller:
    """Controls of one study, for use from any thread.

    Args:
        study: The study that the user holds.
    """

    def __init__(self, study: Study) -> None:
        self.reader = StudyReader(study)
        self._changes: list[LimitChange] = []
        """Applied changes that can be undone, the latest last."""
        self.lock = threading.RLock()
        """Lock that every user of ``reader`` holds."""

    def do(self, request: Request) -> str:
        """Carry out an action.

        Args:
            request: Message from the browser.

        Returns:
            A sentence that says what was done.

        Raises:
            ValueError, TypeError, SeerError, OSError: The action is impossible; the message says why.
        """
        name = str(request.get("do"))
        if name not in self._actions:
            raise ValueError(f"do={short_repr(name)}: unknown action; expected one of {', '.join(self._actions)}")
        with self.lock:
            return self._actions[name](self, request)

    def control_state(self, view: StudyView) -> dict[str, Any]:
        """Return what the controls show: the allowed actions, and the sliders' ranges in dollars and seconds."""
        state = self.reader.state()
        floor_micro = state.ledger.least_budget_micro(view.elapsed_s)
        return {
            "can": {
                "start": view.status == "created",
                "pause": view.status == "running",
                "resume": view.status in {"paused", "pausing", "interrupted", "ended", "failed"},
                "stop": view.status in {"running", "paused", "pausing"},
                "adjust": view.status != "created",
                "undo": bool(self._changes),
            },
            "undo": self._undo_title(_limits(state)),
            "kept": "Results, checkpoints and the best value are kept. All machines are retired. "
            f"{format_money(view.free_micro)} is not spent.",
            "budget": _slider(
                view.budget_micro / MICRO, floor_micro / MICRO, MAX_SLIDER_FACTOR * state.settings.budget_micro / MICRO
            ),
            "deadline": _slider(view.deadline_s, view.elapsed_s, MAX_SLIDER_FACTOR * state.settings.deadline_s),
        }

    def requested_limits(self, request: Request) -> Limits:
        """Validate the limits in a request; a limit that is not in the request stays as it is."""
        with self.lock:
            return _requested_limits(self.reader.state(), request)

    # --- actions ---

    def _start(self, _: Request) -> str:
        self.reader.user_study.start()
        return "started"

    def _pause(self, _: Request) -> str:
        self.reader.study.pause()
        return "pausing: all trials are saved, then all machines are retired"

    def _resume(self, _: Request) -> str:
        self.reader.study.resume()
        return "resumed"

    def _stop(self, _: Request) -> str:
        self.reader.study.stop()
        return "stopping: all trials are saved, then all machines are retired"

    def _pin(self, request: Request) -> str:
        trial: Any = request.get("trial")
        pinned = bool(request.get("pinned", True))
        self.reader.study.pin(trial, pinned)
        return f"trial {trial} pinned: it stays in the running" if pinned else f"trial {trial} unpinned"

    def _stop_trial(self, request: Request) -> str:
        trial: Any = request.get("trial")
        self.reader.study.stop_trial(trial)
        return f"trial {trial} is being stopped"

    def _apply(self, request: Request) -> str:
        # Read once: otherwise a change by another view in between would be undone.
        state = self.reader.state()
        change = LimitChange(_limits(state), _requested_limits(state, request))
        advice = self._adjust(*change)
        if advice is None:
            return "nothing to apply: budget and deadline are unchanged"
        self._changes.append(change)
        return f"applied: {_format_limits(change.after)}" + (f"; {advice}" if advice else "")

    def _undo(self, _: Request) -> str:
        if not self._changes:
            raise SeerError("there is nothing to undo")
        change = self._changes[-1]
        # Also if the limits seem unchanged, because the runner may not have received the change yet.
        self._adjust(change.after, change.before)
        self._changes.pop()
        return f"undone: {_format_limits(change.undo(_limits(self.reader.state())))}"

    def _export(self, request: Request) -> str:
        table: Any = request.get("table")
        suffix, study = request.get("format"), self.reader.study
        # Both become parts of a file name.
        if suffix not in formats():
            raise ValueError(f"format={short_repr(suffix)}: unknown format; expected one of {', '.join(formats())}")
        if table not in get_args(TableName):
            raise ValueError(
                f"table={short_repr(table)}: unknown table; expected one of {', '.join(get_args(TableName))}"
            )
        path = study.export(f"{study.name}-{table}.{suffix}", table)
        return f"written: {path}"

    def _report(self, _: Request) -> str:
        return f"written: {self.reader.study.report(f'{self.reader.study.name}-report.html')}"

    # --- helpers ---

    def _adjust(self, old: Limits, new: Limits) -> str | None:
        """Adjust the limits that differ; return a warning if they do not fit together, and None if none differs."""
        budget = None if new.budget_micro == old.budget_micro else new.budget_micro / MICRO
        deadline = None if new.deadline == old.deadline else new.deadline
        if budget is None and deadline is None:
            return None
        return self.reader.study.change_limits(budget, deadline)

    def _undo_title(self, now: Limits) -> str:
        return f"undo: {_format_limits(self._changes[-1].undo(now))}" if self._changes else "undo the last change"

    _actions: ClassVar[Mapping[str, Callable[[Controller, Request], str]]] = {
        "start": _start,
        "pause": _pause,
        "resume": _resume,
        "stop": _stop,
        "pin": _pin,
        "stop_trial": _stop_trial,
        "apply": _apply,
        "undo": _undo,
        "export": _export,
        "report": _report,
    }


def _limits(state: State) -> Limits:
    return Limits(state.budget_micro, state.deadline_s, state.deadline_wall)


def _requested_limits(state: State, request: Request) -> Limits:
    limits, budget, deadline = _limits(state), request.get("budget"), request.get("deadline")
    if budget is not None:
        limits = limits._replace(budget_micro=new_budget(state, budget).budget_micro)
    if deadline is not None:
        moved = new_deadline(state, deadline)
        limits = limits._replace(deadline_s=moved.deadline_s, deadline_wall=moved.deadline_wall)
    return limits


def _format_limits(limits: Limits) -> str:
    wall = limits.deadline_wall
    deadline = (
        format_duration(limits.deadline_s)
        if wall is None
        else f"{datetime.fromtimestamp(wall, UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    )
    return f"budget {format_money(limits.budget_micro)}, deadline {deadline}"


def _slider(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": min(low, value), "high": max(high, 2 * value)}
