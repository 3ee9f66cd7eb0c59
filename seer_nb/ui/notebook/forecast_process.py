"""The process that makes forecasts for a live view; see ``seer_nb.ui.notebook.forecast_client``."""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NoReturn

import msgspec

from seer_nb._utils.text import headline
from seer_nb.errors import SeerError
from seer_nb.simulate.extrapolated import Fit, FittedWorld
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import View
from seer_nb.study.forecast import Expected, Forecast, estimate, forecast, horizon
from seer_nb.ui.notebook.forecast_client import Question
from seer_nb.views.figure_data import Foreseen, Interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State


ENDS = 7
"""Continuations of a curve of which the middle one is shown."""
N_ENDS = 16
"""Curves that are continued: the best."""


def answer(question: Question, state: State, policy: Policy, asked: Callable[[], bool]) -> Foreseen:
    """What is to be expected of a study.

    Args:
        question: That was asked.
        state: Of the study.
        policy: The study's.
        asked: Whether there is another question by now.
    """
    if not any(trial.curve for trial in state.trials.values()):
        return Foreseen(number=question.number, error="nothing was reported yet: wait for the first epochs")
    try:
        found = _found(question, state, policy, asked)
    except (ValueError, SeerError) as error:
        return Foreseen(number=question.number, error=str(error))
    except Exception as error:  # noqa: BLE001 - a policy of the user's may raise anything
        return Foreseen(number=question.number, error=f"the policy has failed in the forecast: {headline(repr(error))}")
    if found.finish_s is None:
        return Foreseen(number=question.number, error="no further trial can be trained to its last epoch")
    table = found.over_time
    moments = zip(table.elapsed_s, table.cost_usd, table.cost_low, table.cost_high, strict=True)
    return Foreseen(
        number=question.number,
        finish_s=_band(found.finish_s),
        cost_usd=_band(found.cost_usd),
        best_value=_band(found.best_value),
        survivors=found.completed,
        workers=float(table.workers.max()) if len(table) else None,
        cost_over_time=tuple(moments),
        futures=found.futures,
        ends={} if question.preview else _ends(state),
    )


def _found(question: Question, state: State, policy: Policy, asked: Callable[[], bool]) -> Forecast:
    """By simulation, if there is time for that and nobody asks something else meanwhile; else by the planner."""
    budget, deadline_s = question.budget, question.deadline_s
    if question.limit_s > 0:
        found = forecast(
            state, policy, budget=budget, deadline_s=deadline_s, limit_s=question.limit_s, goes_on=lambda: not asked()
        )
        if found.finish_s is not None:
            return found
        if asked():
            raise SeerError("another question came before there was an answer")
    return estimate(state, policy, budget=budget, deadline_s=deadline_s)


def _band(expected: Expected | None) -> Interval | None:
    return None if expected is None else (expected.value, expected.low, expected.high)


def _ends(state: State) -> dict[int, float]:
    """Where the best curves in the running would lead."""
    sign = -1 if state.settings.mode == "max" else 1
    able = [t for t in state.trials.values() if t.alive and t.best is not None and t.best.value is not None]
    able.sort(key=lambda trial: sign * (trial.best.value or 0.0) if trial.best else 0.0)
    fit = Fit(state)
    worlds = [FittedWorld(fit, seed) for seed in range(ENDS)]
    last = horizon(state)
    found = {}
    for trial in able[:N_ENDS]:
        values = [value for value, _ in (world.report(trial.id, last) for world in worlds) if value is not None]
        if values:
            found[trial.id] = median(values)
    return found


class Questions:
    """Those that come on standard input; of several, only the one that matters most.

    They are read on a thread of its own, which ends the process when its input ends: whatever it is thinking about
    then, there is nobody left to tell.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Question] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def waiting(self) -> bool:
        """Whether there is another one."""
        return not self._waiting.empty()

    def next(self) -> Question:
        """Waits for it."""
        found = [self._waiting.get()]
        while self.waiting():
            found.append(self._waiting.get())
        return max(found, key=lambda question: (question.preview, question.number))

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            self._waiting.put(msgspec.json.decode(line, type=Question))
        os._exit(0)


def main(folder: Path) -> NoReturn:
    """Answer for as long as there may be questions."""
    policy: Policy = layout.read_parts(folder)["policy"]
    view = View(Journal(folder / layout.JOURNAL))
    questions = Questions()
    while True:
        found = answer(questions.next(), view.state(), policy, questions.waiting)
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
