"""The process that makes forecasts for a live view; see ``seer_nb.ui.foresee``."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from seer_nb.core.headline import headline
from seer_nb.errors import SeerError
from seer_nb.forecast import Expected, Forecast, estimate, forecast
from seer_nb.journal import Journal, View
from seer_nb.runner import files
from seer_nb.simulate.fitted import FittedWorld
from seer_nb.ui.foresee import Band, Foreseen, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seer_nb.core.engine import Policy
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
    return estimate(state, policy, budget=budget, deadline_s=deadline_s)


def _band(expected: Expected | None) -> Band | None:
    return None if expected is None else (expected.value, expected.low, expected.high)


def _ends(state: State) -> dict[int, float]:
    """Where the best curves in the running would lead."""
    sign = -1 if state.settings.mode == "max" else 1
    able = [t for t in state.trials.values() if t.alive and t.best is not None and t.best.value is not None]
    able.sort(key=lambda trial: sign * (trial.best.value or 0.0) if trial.best else 0.0)
    worlds = [FittedWorld(state, None, seed) for seed in range(ENDS)]
    last = state.settings.max_epochs
    found = {}
    for trial in able[:N_ENDS]:
        values = [value for value, _ in (world.report(trial.id, last) for world in worlds) if value is not None]
        if values:
            found[trial.id] = median(values)
    return found


class Questions:
    """Those that come on standard input; of several, only the one that matters most."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    def waiting(self) -> bool:
        """Whether there is something to read."""
        return bool(select.select([sys.stdin], [], [], 0)[0])

    def __iter__(self) -> Iterator[Question]:
        while not self._ended:
            found = list(self._read())
            if found:
                yield max(found, key=lambda question: (question.preview, question.number))

    def _read(self) -> Iterator[Question]:
        """All there are; waits for the first."""
        while True:
            # Not buffered, so that select tells the truth.
            chunk = os.read(sys.stdin.fileno(), 1 << 16)
            self._ended = not chunk
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from (msgspec.json.decode(line, type=Question) for line in lines)
            if self._ended or (not self._rest and not self.waiting()):
                return


def main(folder: Path) -> None:
    """Answer until there are no more questions."""
    policy: Policy = files.read_parts(folder)["policy"]
    view = View(Journal(folder / files.JOURNAL))
    questions = Questions()
    for question in questions:
        found = answer(question, view.state(), policy, questions.waiting)
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
