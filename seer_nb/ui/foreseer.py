"""The process that makes forecasts for a live view; see ``seer_nb.ui.foresee``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from seer_nb.core.units import format_duration
from seer_nb.errors import SeerError
from seer_nb.forecast import Expected, forecast
from seer_nb.journal import Journal, View
from seer_nb.runner import files
from seer_nb.simulate.fitted import FittedWorld
from seer_nb.ui.foresee import Band, Foreseen, Question

if TYPE_CHECKING:
    from seer_nb.core.engine import Policy
    from seer_nb.core.state import State

NICE = 10
ENDS = 7
"""Continuations of a curve of which the middle one is shown."""
N_ENDS = 16
"""Curves that are continued: the best."""


def answer(question: Question, state: State, policy: Policy) -> Foreseen:
    """What is to be expected of a study."""
    if not any(trial.curve for trial in state.trials.values()):
        return Foreseen(number=question.number, error="nothing was reported yet: wait for the first epochs")
    try:
        found = forecast(
            state, policy, budget=question.budget, deadline_s=question.deadline_s, limit_s=question.limit_s
        )
    except (ValueError, SeerError) as error:
        return Foreseen(number=question.number, error=str(error))
    if found.finish_s is None:
        short = format_duration(question.limit_s)
        return Foreseen(number=question.number, error=f"this study takes longer than {short} to simulate")
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


def main(folder: Path) -> None:
    """Answer until there are no more questions."""
    os.nice(NICE)
    policy: Policy = files.read_parts(folder)["policy"]
    view = View(Journal(folder / files.JOURNAL))
    for line in sys.stdin.buffer:
        question = msgspec.json.decode(line, type=Question)
        sys.stdout.buffer.write(msgspec.json.encode(answer(question, view.state(), policy)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
