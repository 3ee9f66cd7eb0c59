"""A forecast within a fraction of a second: by the planner, where ``seer_nb.forecast`` simulates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from seer_nb.forecast import FUTURES, TIME_COLUMNS, Expected, Forecast, best_value_of, spent_at
from seer_nb.simulate.fitted import Fit, FittedWorld
from seer_nb.stages import stages_frame

if TYPE_CHECKING:
    import pandas as pd

    from seer_nb.core.engine import Policy
    from seer_nb.core.state import State

MOST_FRESH = 200
"""New trials that are drawn."""
MOST_CURVES = 12
"""Of those in the running, and of new ones, that are continued: the best."""
HORIZON = 300
"""Epochs, at most, that a curve is continued."""
_PLANNED = ["elapsed_s", "cost_usd", "survivors", "workers"]


def estimate(state: State, policy: Policy, *, budget: int | None = None, deadline_s: float | None = None) -> Forecast:
    """A forecast within a fraction of a second, by the planner instead of by simulation.

    Finish and cost are the plan's. The best value is that of as many curves, of trials in the running and of new ones,
    as the plan trains to the end.

    Args:
        state: Of the study; something must have been reported.
        policy: The study's.
        budget: Another one, in micro-dollars.
        deadline_s: Another one, in study seconds.

    Raises:
        ValueError: Nothing was measured yet, or the policy does not plan ahead.
    """
    stages = stages_frame(state, policy, budget=budget, deadline_s=deadline_s)
    if stages is None:
        raise ValueError(f"policy={state.settings.policy!r} does not plan ahead, so there is only what is simulated")
    if not len(stages):
        return Forecast(_planned(stages, state), stages, None, None, None, 0.0, 0)
    last = stages.iloc[-1]
    completed, started = int(last.survivors), int(stages.survivors.iloc[0])
    fit = Fit(state)
    values = [_best_of(FittedWorld(fit, seed), state, completed, started) for seed in range(FUTURES)]
    return Forecast(
        over_time=_planned(stages, state),
        stages=stages,
        finish_s=Expected(*[float(last.ends_s)] * 3),
        cost_usd=Expected(*[float(last.cost_usd)] * 3),
        best_value=best_value_of([value for value in values if value is not None], state),
        completed=float(completed),
        futures=0,
    )


def _best_of(world: FittedWorld, state: State, completed: int, started: int) -> float | None:
    """The best last value of so many trials that are trained to the end, of so many that were started."""
    sign = -1 if state.settings.mode == "max" else 1
    able = [trial for trial in state.trials.values() if trial.alive and trial.best and trial.best.value is not None]
    able.sort(key=lambda trial: sign * (trial.best.value or 0.0) if trial.best else 0.0)
    known = [trial.id for trial in able[:completed]]
    fresh = range(len(state.trials), min(started, len(state.trials) + MOST_FRESH))
    first = {number: world.report(number, 1)[0] for number in fresh}
    likely = sorted((n for n, value in first.items() if value is not None), key=lambda n: sign * (first[n] or 0.0))
    share = math.ceil(completed * len(first) / max(1, started))
    shown = (*known[:MOST_CURVES], *likely[: min(share, MOST_CURVES)])
    ends = [world.report(number, horizon(state))[0] for number in shown]
    done = [state.best.best.value] if state.best and state.best.best else []
    found = [value for value in (*ends, *done) if value is not None]
    return (max(found) if sign < 0 else min(found)) if found else None


def horizon(state: State) -> int:
    """The last epoch to which curves are continued one by one: what comes after it changes little."""
    return min(state.settings.max_epochs, HORIZON)


def _planned(stages: pd.DataFrame, state: State) -> pd.DataFrame:
    import pandas as pd

    if not len(stages):
        return pd.DataFrame(columns=list(TIME_COLUMNS))
    spent = spent_at(state, state.now_s)
    now = pd.DataFrame([(state.now_s, spent, len(state.trials), stages.workers.iloc[0])], columns=_PLANNED)
    then = stages.rename(columns={"ends_s": "elapsed_s"})[_PLANNED]
    return pd.concat([now, then], ignore_index=True).assign(
        cost_low=lambda table: table.cost_usd, cost_high=lambda table: table.cost_usd
    )[list(TIME_COLUMNS)]
