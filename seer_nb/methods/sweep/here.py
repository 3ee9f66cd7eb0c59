"""A sweep in this process, cell by cell."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.core.headline import headline
from seer_nb.core.units import parse_duration
from seer_nb.methods.sweep.result import Outcome, SweepResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.methods.sweep.task import Task


def run(task: Task, deadline: Any) -> SweepResult:
    """All cells, as far as the time goes; None: all.

    Raises:
        TypeError, ValueError: The deadline is no length of time.
    """
    clock = _Clock(time.monotonic(), None if deadline is None else parse_duration(deadline, "deadline"))
    outcomes = list(_outcomes(task, clock))
    late = any(outcome.state == "waiting" for outcome in outcomes)
    reason = "the deadline has come" if late else "every cell is done"
    return SweepResult.of(task, outcomes, reason, wall_s=clock.elapsed_s)


class _Clock(NamedTuple):
    """When a sweep in this process has begun, and must end."""

    begun_s: float
    deadline_s: float | None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.begun_s

    @property
    def over(self) -> bool:
        return self.deadline_s is not None and self.elapsed_s > self.deadline_s


def _outcomes(task: Task, clock: _Clock) -> Iterator[Outcome]:
    for cell in task.grid.cells:
        if clock.over:
            yield Outcome(cell)
            continue
        try:
            yield Outcome(cell, "completed", task.fits(cell))
        except Exception:  # noqa: BLE001 - whatever a user's estimator raises is a result of its cell
            yield Outcome(cell, "failed", error=headline(traceback.format_exc()))
