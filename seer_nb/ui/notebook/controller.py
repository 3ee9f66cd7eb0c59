"""What a person does in the live view, as calls of the study: each gives a sentence back that says what was done."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from seer_nb._utils.text import show
from seer_nb._utils.units import MICRO, format_duration, format_money
from seer_nb.errors import SeerError
from seer_nb.storage import resource_usage
from seer_nb.study import health
from seer_nb.study.results import Table
from seer_nb.study.settings import new_budget, new_deadline
from seer_nb.views.export import formats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from seer_nb.core import Settings
    from seer_nb.core.history import History
    from seer_nb.core.state import State
    from seer_nb.storage.resource_usage import Vitals
    from seer_nb.study.study import Study
    from seer_nb.views.view_model import StudyView


class StudyReader:
    """What views need of a study. Not to be used by two threads at once.

    Args:
        study: That the user holds.
    """

    def __init__(self, study: Study) -> None:
        self.given = study
        self._own: Study | None = None

    @property
    def study(self) -> Study:
        """For commands: the user's own until it has started."""
        if self._own is None and self.started:
            self._own = type(self.given)._attached(self.folder)
            self._own._launched = self.given._launched
        return self._own or self.given

    @property
    def started(self) -> bool:
        """Whether there is a journal."""
        return self.given._view is not None

    @property
    def folder(self) -> Path:
        """The study's files."""
        return self.given.folder

    @property
    def settings(self) -> Settings:
        """What it was created with."""
        return self.given._settings

    def state(self) -> State:
        """The newest."""
        return self.study.state

    def history(self) -> History:
        """How the state that was read last came about."""
        return self.study.history

    def status(self) -> str:
        """As ``Study.status``."""
        return self.study.status

    def vitals(self) -> Vitals | None:
        """What its processes use now, if any runs that tells."""
        return resource_usage.read(self.folder)

    def now_s(self, status: str) -> float:
        """Study seconds now: the journal tells only those of its last record."""
        state, view = self.state(), self.study._view
        return state.now_s if view is None else health.now_s(view, state, status)

    def stuck(self, status: str) -> str:
        """Why it does not get on, though its status says so; empty if it does."""
        state, view = self.state(), self.study._view
        return "" if view is None else health.why(self.folder, view, state, status)


MOST = 4.0
"""A slider reaches up to so many times what the study was given."""
Asked = dict[str, Any]


class Limits(NamedTuple):
    """Budget and deadline."""

    budget: int
    """Micro-dollars."""
    deadline_s: float
    deadline_wall: float | None = None
    """Unix seconds, of one on the wall: then the seconds above are only what it comes to so far."""

    @property
    def deadline(self) -> float | datetime:
        """As a person gives it."""
        return self.deadline_s if self.deadline_wall is None else datetime.fromtimestamp(self.deadline_wall, UTC)


class Step(NamedTuple):
    """What one Apply has changed: all that differs between the two, and nothing else."""

    before: Limits
    after: Limits

    def undone(self, now: Limits) -> Limits:
        """The limits without it: what it left alone stays as it is by now, whoever has changed it since."""
        before, after = self
        return Limits(
            now.budget if before.budget == after.budget else before.budget,
            *(now[1:] if before.deadline == after.deadline else before[1:]),
        )


class Controller:
    """Steers one study, from any thread.

    Args:
        study: What the user holds.
    """

    def __init__(self, study: Study) -> None:
        self.handle = StudyReader(study)
        self._steps: list[Step] = []
        """What was applied, the latest last."""
        self.lock = threading.RLock()
        """Held by whoever uses the handle."""

    def do(self, asked: Asked) -> str:
        """Do what was asked for.

        Args:
            asked: "do" names it; the rest are its arguments.

        Returns:
            A sentence for the person.

        Raises:
            ValueError, TypeError, SeerError, OSError: It cannot be done; the sentence says why.
        """
        name = str(asked.get("do"))
        if name not in _COMMANDS:
            raise ValueError(f"do={show(name)} is unknown: give one of {', '.join(_COMMANDS)}")
        with self.lock:
            return _COMMANDS[name](self, asked)

    def limits(self, view: StudyView) -> dict[str, Any]:
        """What the controls need: what may be done, and the sliders' ranges, in dollars and seconds."""
        settings, state = self.handle.settings, self.handle.state()
        floor = state.ledger.floor(view.elapsed_s)
        return {
            "can": {
                "start": view.status == "created",
                "pause": view.status == "running",
                "resume": view.status in {"paused", "pausing", "interrupted", "ended", "failed"},
                "stop": view.status in {"running", "paused", "pausing"},
                "adjust": view.status != "created",
                "undo": bool(self._steps),
            },
            "undo": self._undo_words(_limits(state)),
            "kept": f"Results, checkpoints and the best value stay; machines are handed back, "
            f"{format_money(view.free)} is not spent.",
            "budget": _range(view.budget / MICRO, floor / MICRO, MOST * settings.budget / MICRO),
            "deadline": _range(view.deadline_s, view.elapsed_s, MOST * settings.deadline_s),
        }

    def wanted(self, asked: Asked) -> Limits:
        """The limits that a person has set the sliders to, checked; what was not touched stays as it is."""
        with self.lock:
            return _wanted(self.handle.state(), asked)

    # --- commands ---

    def _start(self, _: Asked) -> str:
        self.handle.given.start()
        return "started"

    def _pause(self, _: Asked) -> str:
        self.handle.study.pause()
        return "pausing: all trials are saved, all machines handed back"

    def _resume(self, _: Asked) -> str:
        self.handle.study.resume()
        return "resumed"

    def _stop(self, _: Asked) -> str:
        self.handle.study.stop()
        return "stopping: all trials are saved, all machines handed back"

    def _pin(self, asked: Asked) -> str:
        trial: Any = asked.get("trial")
        pinned = bool(asked.get("pinned", True))
        self.handle.study.pin(trial, pinned)
        return (
            f"trial {trial} pinned: it stays in the running" if pinned else f"trial {trial} is ranked like the others"
        )

    def _stop_trial(self, asked: Asked) -> str:
        trial: Any = asked.get("trial")
        self.handle.study.stop_trial(trial)
        return f"trial {trial} is being stopped"

    def _apply(self, asked: Asked) -> str:
        # Read once: what another view changes meanwhile would look like something to be changed back.
        state = self.handle.state()
        step = Step(_limits(state), _wanted(state, asked))
        if not self._send(*step):
            return "nothing to apply: budget and deadline are what they were"
        self._steps.append(step)
        return f"applied: {_words(step.after)}"

    def _undo(self, _: Asked) -> str:
        if not self._steps:
            raise SeerError("there is nothing to undo")
        step = self._steps[-1]
        # Also if it seems to be undone: perhaps no runner has taken it in yet.
        self._send(step.after, step.before)
        self._steps.pop()
        return f"taken back: {_words(step.undone(_limits(self.handle.state())))}"

    def _export(self, asked: Asked) -> str:
        table: Any = asked.get("table")
        suffix, study = asked.get("format"), self.handle.study
        # Both become parts of a file's name.
        if suffix not in formats():
            raise ValueError(f"format={show(suffix)} is unknown: give one of {', '.join(formats())}")
        if table not in get_args(Table):
            raise ValueError(f"table={show(table)} is unknown: give one of {', '.join(get_args(Table))}")
        path = study.export(f"{study.name}-{table}.{suffix}", table)
        return f"written: {path}"

    def _report(self, _: Asked) -> str:
        return f"written: {self.handle.study.report(f'{self.handle.study.name}-report.html')}"

    # --- inside ---

    def _send(self, old: Limits, new: Limits) -> bool:
        """Have the study change what differs, if anything does."""
        changed: dict[str, Any] = {}
        if new.budget != old.budget:
            changed["budget"] = new.budget / MICRO
        if new.deadline != old.deadline:
            changed["deadline"] = new.deadline
        if changed:
            self.handle.study.adjust(**changed)
        return bool(changed)

    def _undo_words(self, now: Limits) -> str:
        return f"take back: {_words(self._steps[-1].undone(now))}" if self._steps else "take back what was set here"


def _limits(state: State) -> Limits:
    return Limits(state.budget, state.deadline_s, state.deadline_wall)


def _wanted(state: State, asked: Asked) -> Limits:
    now, budget, deadline = _limits(state), asked.get("budget"), asked.get("deadline")
    if budget is not None:
        now = now._replace(budget=new_budget(state, budget).budget)
    if deadline is not None:
        moved = new_deadline(state, deadline)
        now = now._replace(deadline_s=moved.deadline_s, deadline_wall=moved.deadline_wall)
    return now


def _words(limits: Limits) -> str:
    wall = limits.deadline_wall
    deadline = (
        format_duration(limits.deadline_s)
        if wall is None
        else f"{datetime.fromtimestamp(wall, UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    )
    return f"budget {format_money(limits.budget)}, deadline {deadline}"


def _range(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": min(low, value), "high": max(high, 2 * value)}


_COMMANDS: Mapping[str, Callable[[Controller, Asked], str]] = {
    "start": Controller._start,
    "pause": Controller._pause,
    "resume": Controller._resume,
    "stop": Controller._stop,
    "pin": Controller._pin,
    "stop_trial": Controller._stop_trial,
    "apply": Controller._apply,
    "undo": Controller._undo,
    "export": Controller._export,
    "report": Controller._report,
}
