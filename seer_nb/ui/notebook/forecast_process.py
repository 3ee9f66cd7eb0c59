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
from seer_nb.simulate.extrapolation import ExtrapolatedWorld, StudyFit
from seer_nb.storage import layout
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import JournalView
from seer_nb.study.forecast import Forecast, Prediction, forecast, forecast_from_plan, horizon
from seer_nb.ui.notebook.forecast_client import ForecastRequest
from seer_nb.views.figure_data import ForecastAnswer, Interval, spending_forecast

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State


N_CONTINUATIONS = 7
"""Number of continuations of a curve, of which the median is the projected value."""
MAX_PROJECTED_CURVES = 16
"""Number of curves that are projected: the best survivors."""


def answer_request(
    request: ForecastRequest, state: State, policy: Policy, is_superseded: Callable[[], bool]
) -> ForecastAnswer:
    """Forecast the rest of a study.

    Args:
        request: The request to answer.
        state: State of the study.
        policy: Policy of the study.
        is_superseded: Function that returns whether a newer request waits.
    """
    if not any(trial.curve for trial in state.trials.values()):
        return ForecastAnswer(
            request_id=request.request_id, error="no epoch was reported yet: wait for the first epochs"
        )
    try:
        found = _forecast(request, state, policy, is_superseded)
    except (ValueError, SeerError) as error:
        return ForecastAnswer(request_id=request.request_id, error=str(error))
    except Exception as error:  # noqa: BLE001 - a user's policy may raise anything
        message = f"the policy failed in the forecast: {headline(repr(error))}"
        return ForecastAnswer(request_id=request.request_id, error=message)
    if found.finish_s is None:
        return ForecastAnswer(request_id=request.request_id, error="no further trial can be fully trained")
    return ForecastAnswer(
        request_id=request.request_id,
        finish_s=_interval(found.finish_s),
        cost_usd=_interval(found.cost_usd),
        best_value=_interval(found.best_value),
        completed=found.completed,
        max_workers=float(found.over_time.workers.max()) if len(found.over_time) else None,
        cost_over_time=spending_forecast(found).points,
        simulations=found.n_simulations,
        projected={} if request.preview else _projected_values(state),
    )


def _forecast(request: ForecastRequest, state: State, policy: Policy, is_superseded: Callable[[], bool]) -> Forecast:
    """Simulate the rest, or ask the planner if the time limit is 0 or the simulation had no result in time."""
    budget, deadline_s = request.budget_micro, request.deadline_s
    if request.time_limit_s > 0:
        found = forecast(
            state,
            policy,
            budget=budget,
            deadline_s=deadline_s,
            limit_s=request.time_limit_s,
            should_continue=lambda: not is_superseded(),
        )
        if found.finish_s is not None:
            return found
        if is_superseded():
            raise SeerError("a newer request replaced this one")
    return forecast_from_plan(state, policy, budget=budget, deadline_s=deadline_s)


def _interval(expected: Prediction | None) -> Interval | None:
    return None if expected is None else (expected.value, expected.low, expected.high)


def _projected_values(state: State) -> dict[int, float]:
    """Project the best survivors' curves to the last epoch."""
    sign = -1 if state.settings.mode == "max" else 1
    survivors = [t for t in state.trials.values() if t.alive and t.best is not None and t.best.value is not None]
    survivors.sort(key=lambda trial: sign * (trial.best.value or 0.0) if trial.best else 0.0)
    fit = StudyFit(state)
    worlds = [ExtrapolatedWorld(fit, seed) for seed in range(N_CONTINUATIONS)]
    last = horizon(state)
    projected = {}
    for trial in survivors[:MAX_PROJECTED_CURVES]:
        values = [value for value, _ in (world.report(trial.id, last) for world in worlds) if value is not None]
        if values:
            projected[trial.id] = median(values)
    return projected


class RequestQueue:
    """Requests from standard input, of which only the most important one is answered.

    A thread of its own reads them. It exits the process when the input is closed, even during a simulation, because
    nobody waits for the answer any more.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[ForecastRequest] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def has_waiting(self) -> bool:
        """Return whether a request waits."""
        return not self._waiting.empty()

    def next(self) -> ForecastRequest:
        """Wait for a request; of several return the newest preview, or else the newest request."""
        found = [self._waiting.get()]
        while self.has_waiting():
            found.append(self._waiting.get())
        return max(found, key=lambda request: (request.preview, request.request_id))

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            self._waiting.put(msgspec.json.decode(line, type=ForecastRequest))
        os._exit(0)


def main(folder: Path) -> NoReturn:
    """Answer requests until the input is closed."""
    policy: Policy = layout.read_parts(folder)["policy"]
    view = JournalView(Journal(folder / layout.JOURNAL))
    requests = RequestQueue()
    while True:
        answer = answer_request(requests.next(), view.state(), policy, requests.has_waiting)
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
