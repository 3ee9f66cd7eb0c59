"""What a person does in the live view, as calls of the study: each gives a sentence back that says what was done."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from seer_nb.adjusting import new_budget, new_deadline
from seer_nb.core.money import MICRO
from seer_nb.core.units import format_duration, format_money, show
from seer_nb.errors import SeerError
from seer_nb.export import formats
from seer_nb.handle import Handle
from seer_nb.reading import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seer_nb.study import Study
    from seer_nb.ui.view import StudyView

MOST = 4.0
"""A slider reaches up to so many times what the study was given."""
Asked = dict[str, Any]


class Limits(NamedTuple):
    """Budget and deadline."""

    budget: int
    """Micro-dollars."""
    deadline_s: float


class Steering:
    """Steers one study, from any thread.

    Args:
        study: What the user holds.
    """

    def __init__(self, study: Study) -> None:
        self.handle = Handle(study)
        self._before: list[Limits] = []
        """What was applied over, the latest last."""
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
                "undo": bool(self._before),
            },
            "undo": self._undo_words(),
            "kept": f"Results, checkpoints and the best value stay; machines are handed back, "
            f"{format_money(view.free)} is not spent.",
            "budget": _range(view.budget / MICRO, floor / MICRO, MOST * settings.budget / MICRO),
            "deadline": _range(view.deadline_s, view.elapsed_s, MOST * settings.deadline_s),
        }

    def wanted(self, asked: Asked) -> Limits:
        """The limits that a person has set the sliders to, checked; what was not touched stays as it is."""
        with self.lock:
            state, budget, deadline = self.handle.state(), asked.get("budget"), asked.get("deadline")
            return Limits(
                state.budget if budget is None else new_budget(state, budget).budget,
                state.deadline_s if deadline is None else new_deadline(state, deadline).deadline_s,
            )

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
        wanted = self.wanted(asked)
        now = self._now()
        if wanted == now:
            return "nothing to apply: budget and deadline are what they were"
        self._adjust(now, wanted)
        self._before.append(now)
        return f"applied: {_words(wanted)}"

    def _undo(self, _: Asked) -> str:
        if not self._before:
            raise SeerError("there is nothing to undo")
        wanted, now = self._before[-1], self._now()
        if wanted != now:  # else another view has taken it back
            self._adjust(now, wanted)
        self._before.pop()
        return f"taken back: {_words(wanted)}"

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

    def _now(self) -> Limits:
        state = self.handle.state()
        return Limits(state.budget, state.deadline_s)

    def _adjust(self, now: Limits, wanted: Limits) -> None:
        self.handle.study.adjust(
            budget=wanted.budget / MICRO if wanted.budget != now.budget else None,
            deadline=wanted.deadline_s if wanted.deadline_s != now.deadline_s else None,
        )

    def _undo_words(self) -> str:
        return f"take back: {_words(self._before[-1])}" if self._before else "take back what was set here"


def _words(limits: Limits) -> str:
    return f"budget {format_money(limits.budget)}, deadline {format_duration(limits.deadline_s)}"


def _range(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": min(low, value), "high": max(high, 2 * value)}


_COMMANDS: Mapping[str, Callable[[Steering, Asked], str]] = {
    "start": Steering._start,
    "pause": Steering._pause,
    "resume": Steering._resume,
    "stop": Steering._stop,
    "pin": Steering._pin,
    "stop_trial": Steering._stop_trial,
    "apply": Steering._apply,
    "undo": Steering._undo,
    "export": Steering._export,
    "report": Steering._report,
}
