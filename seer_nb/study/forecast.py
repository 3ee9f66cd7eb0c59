"""Forecast of a study's time, money and best value: the same policy, simulated on extrapolated curves."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb import core
from seer_nb._utils.units import MICRO, format_duration, format_usd, parse_duration
from seer_nb.simulate.extrapolation import ExtrapolatedWorld, StudyFit, natural_range
from seer_nb.simulate.simulator import SimulationStoppedError, simulate_to_end
from seer_nb.study.stage_table import stages_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from plotly.graph_objects import Figure

    from seer_nb.core.history import History
    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State


MAX_SIMULATIONS = 12
"""Maximum number of simulations."""
ENOUGH_SIMULATIONS = 5
"""Number of simulations that suffice for a band; more are run only within QUICK_S."""
QUICK_S = 2.0
"""Processor seconds after which ENOUGH_SIMULATIONS simulations suffice."""
LIMIT_S = 20.0
"""Processor seconds after which no simulation is started. Not wall time: a busy machine must give the same answer."""
FRONTIER_S = 40.0
"""Processor seconds for a whole frontier."""
LOW, HIGH = 0.1, 0.9
"""Quantiles of the band."""
BEST_BAND_FACTOR = 3.0
"""Factor by which the band of the best value is widened, because simulations differ less from each other than from
reality. With it, bands held the best value in two of three cases on the four tables that ship with seer_nb."""
N_TABLE_ROWS = 40
"""Number of rows of the table over time."""
TIME_COLUMNS = ("elapsed_s", "cost_usd", "cost_low", "cost_high", "survivors", "workers")


class Prediction(NamedTuple):
    """An expected value and its band: 90 % of the simulations lie above ``low``, and 90 % below ``high``."""

    value: float
    low: float
    high: float


class Forecast(NamedTuple):
    """The expected future of a study."""

    over_time: pd.DataFrame
    """One row per moment: elapsed_s (study seconds), cost_usd (spent until then) with its band cost_low to cost_high,
    survivors (trials not yet stopped), workers. Empty if there was too little time to simulate."""
    stages: pd.DataFrame | None
    """The plan, one row per stage: see `seer_nb.study.stage_table.stages_frame`; None if the policy does not plan
    ahead."""
    finish_s: Prediction | None
    """End of the study in study seconds; None if there was too little time to simulate."""
    cost_usd: Prediction | None
    """Total spending in dollars; None if there was too little time to simulate."""
    best_value: Prediction | None
    """Best stored value at the end; None also before the first report. Its band is less certain than the others."""
    completed: float | None
    """Number of fully trained trials."""
    n_simulations: int
    """Number of simulations."""

    def __repr__(self) -> str:
        if self.finish_s is None or self.cost_usd is None:
            return f"Forecast(too long to simulate{self._planned()}; give a longer patience=)"
        best = "" if self.best_value is None else f", best value {_band(self.best_value)}"
        finish = format_duration(self.finish_s.value)
        return f"Forecast(finish after {finish}, {format_usd(self.cost_usd.value)}{best})"

    def _planned(self) -> str:
        if self.stages is None:
            return ""
        if not len(self.stages):
            return "; by the plan no further trial can be fully trained"
        last = self.stages.iloc[-1]
        finish = format_duration(last.ends_s)
        return f"; by the plan finish after {finish}, {format_usd(last.cost_usd)}: see .stages"

    def plot(self, state: State | None = None, history: History | None = None) -> Figure:
        """Return a plotly figure of the expected spending with its band, and of the workers.

        Args:
            state: State of the study, to add its spending so far and its limits. Default: neither is shown.
            history: History of the study, to show its past spending over time.
        """
        from seer_nb.views.plotly_time import forecast_plot

        return forecast_plot(self, state, history)


def forecast(  # noqa: PLR0913 - keyword arguments of what may change
    state: State,
    policy: Policy,
    *,
    epoch_seconds: float | None = None,
    budget: int | None = None,
    deadline_s: float | None = None,
    limit_s: float | None = None,
    should_continue: Callable[[], bool] = lambda: True,
) -> Forecast:
    """Simulate the rest of a study several times.

    The forecast of an ended study is its result. With another budget or deadline, the study is resumed under it.

    Args:
        state: The study's state; not modified.
        policy: The study's policy.
        epoch_seconds: Seconds of one epoch on one worker. Default: as measured so far.
        budget: Another budget in micro-dollars. Default: the study's.
        deadline_s: Another deadline in study seconds. Default: the study's.
        limit_s: Limit on this thread's processor seconds. Default: LIMIT_S.
        should_continue: Called repeatedly; once it returns False, the forecast uses the simulations that are finished.

    Raises:
        ValueError: Nothing was measured yet and epoch_seconds is not given, or epoch_seconds is not a duration.
    """
    import numpy as np

    if epoch_seconds is not None:
        epoch_seconds = parse_duration(epoch_seconds, "epoch_seconds")
    stages = stages_frame(state, policy, epoch_seconds=epoch_seconds, budget=budget, deadline_s=deadline_s)
    commands: list[core.Command] = []
    if budget is not None:
        commands.append(core.SetBudget(budget_micro=budget))
    if deadline_s is not None:
        commands.append(core.SetDeadline(deadline_s=deadline_s))
    if state.phase == "ended" and commands:
        commands.append(core.Resume())
    limit_s = LIMIT_S if limit_s is None else limit_s
    limit = _CpuTimeLimit(limit_s, should_continue)
    over = state.phase == "ended" and not commands
    ends = [state] if over else _simulate(state, policy, epoch_seconds, commands, limit)
    if not ends:
        return Forecast(_over_time([], state.now_s), stages, None, None, None, None, 0)
    return Forecast(
        over_time=_over_time(ends, state.now_s),
        stages=stages,
        finish_s=expected_of([end.now_s for end in ends]),
        cost_usd=expected_of([spent_at(end, end.now_s) for end in ends]),
        best_value=_best(ends, state),
        completed=float(np.median([sum(t.state == "completed" for t in end.trials.values()) for end in ends])),
        n_simulations=len(ends),
    )


def frontier(  # noqa: PLR0913 - keyword arguments of what may change
    state: State,
    policy: Policy,
    budgets: Sequence[int],
    deadlines: Sequence[float],
    *,
    epoch_seconds: float | None = None,
    limit_s: float | None = None,
) -> pd.DataFrame:
    """Return the expected best value for combinations of budget and deadline.

    Args:
        state: The study's state, with at least one report.
        policy: The study's policy.
        budgets: Budgets in micro-dollars.
        deadlines: Deadlines in study seconds.
        epoch_seconds: Seconds of one epoch on one worker. Default: as measured so far.
        limit_s: Limit on processor seconds for all combinations. Default: FRONTIER_S.

    Returns:
        Columns deadline_s, budget_usd, best_value, best_low, best_high; NaN where the simulation takes too long.

    Raises:
        ValueError: Nothing was measured yet.
    """
    import pandas as pd

    each_s = (FRONTIER_S if limit_s is None else limit_s) / max(1, len(budgets) * len(deadlines))
    rows = []
    for deadline_s in deadlines:
        for budget in budgets:
            found = forecast(
                state, policy, epoch_seconds=epoch_seconds, budget=budget, deadline_s=deadline_s, limit_s=each_s
            ).best_value
            rows.append((deadline_s, budget / MICRO, *(found or (float("nan"),) * 3)))
    return pd.DataFrame(rows, columns=["deadline_s", "budget_usd", "best_value", "best_low", "best_high"])


def plot_frontier(table: pd.DataFrame, metric: str) -> Figure:
    """Return a plotly figure of a table of `frontier`, with one line per deadline.

    Args:
        table: The table.
        metric: Name of the metric, for the axis.
    """
    import plotly.graph_objects as go

    from seer_nb.views.palette import OKABE_ITO

    figure = go.Figure()
    known = table.best_value.notna().any()
    for (deadline_s, rows), colour in zip(table.groupby("deadline_s"), OKABE_ITO, strict=False):
        band = {"type": "data", "symmetric": False, "width": 4}
        errors = {"array": rows.best_high - rows.best_value, "arrayminus": rows.best_value - rows.best_low}
        name = f"deadline {format_duration(float(deadline_s))}"  # type: ignore[arg-type]
        line = {"color": colour}
        trace = go.Scatter(x=rows.budget_usd, y=rows.best_value, error_y={**band, **errors}, name=name, line=line)
        figure.add_trace(trace)
    figure.update_layout(
        template="plotly_white",
        title="Expected best value by budget" if known else "Too long to simulate: give a longer patience=",
        xaxis={"title": "budget, USD", "type": "log"},
        yaxis={"title": metric},
    )
    return figure


class _CpuTimeLimit:
    """A limit on the processor time of the thread that creates it.

    Args:
        limit_s: Processor seconds.
        should_continue: The limit is also reached once this returns False.
    """

    def __init__(self, limit_s: float, should_continue: Callable[[], bool]) -> None:
        self._limit_s, self._should_continue = limit_s, should_continue
        self._begun_s = time.thread_time()

    def used_s(self) -> float:
        return time.thread_time() - self._begun_s

    def lasts(self, seconds: float = 0.0) -> bool:
        """Return whether so many more processor seconds fit into the limit."""
        return self.used_s() + seconds < self._limit_s and self._should_continue()


def _simulate(
    state: State, policy: Policy, epoch_seconds: float | None, commands: Sequence[core.Command], limit: _CpuTimeLimit
) -> list[State]:
    ends: list[State] = []
    longest_s = 0.0
    fit = StudyFit(state, epoch_seconds)
    for seed in range(MAX_SIMULATIONS):
        begun_s = limit.used_s()
        if not limit.lasts(longest_s) or (len(ends) >= ENOUGH_SIMULATIONS and begun_s + longest_s > QUICK_S):
            break
        try:
            ends.append(
                simulate_to_end(state, policy, ExtrapolatedWorld(fit, seed), commands, should_continue=limit.lasts)
            )
        except SimulationStoppedError:
            break
        longest_s = max(longest_s, limit.used_s() - begun_s)
    return ends


def _over_time(ends: Sequence[State], since_s: float) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    last_s = max((end.now_s for end in ends), default=since_s)
    rows = []
    for at_s in np.linspace(since_s, last_s, N_TABLE_ROWS) if ends else ():
        costs = [spent_at(end, at_s) for end in ends]
        survivors = [_survivors(end, at_s) for end in ends]
        workers = [_workers(end, at_s) for end in ends]
        rows.append(
            (
                float(at_s),
                float(np.median(costs)),
                *np.quantile(costs, [LOW, HIGH]).tolist(),
                float(np.median(survivors)),
                float(np.median(workers)),
            )
        )
    return pd.DataFrame(rows, columns=list(TIME_COLUMNS))


def spent_at(state: State, at_s: float) -> float:
    """Return the dollars that the machines had cost by a moment.

    Args:
        state: State of the study after that moment.
        at_s: Study seconds.
    """
    bills = (_bill_at(state, machine, at_s) for machine in state.machines.values() if machine.rented_s <= at_s)
    return sum(bills) / MICRO


def _bill_at(state: State, machine: core.Machine, at_s: float) -> int:
    if machine.ended_s is not None and at_s >= machine.ended_s:
        return state.ledger.bill(machine.id, at_s)
    return state.offers[machine.offer].bill(max(0.0, at_s - machine.rented_s))


def _survivors(state: State, at_s: float) -> int:
    begun = (trial for trial in state.trials.values() if trial.started_s is not None and trial.started_s <= at_s)
    return sum(trial.ended_s is None or trial.ended_s > at_s for trial in begun)


def _workers(state: State, at_s: float) -> int:
    return sum(
        x.slots for x in state.machines.values() if x.rented_s <= at_s and (x.ended_s is None or x.ended_s > at_s)
    )


def _best(ends: Sequence[State], state: State) -> Prediction | None:
    values = [end.best.best.value for end in ends if end.best and end.best.best]
    return best_value_of([value for value in values if value is not None], state)


def best_value_of(found: Sequence[float], state: State) -> Prediction | None:
    """Return the expected best value; its band is widened by BEST_BAND_FACTOR within the metric's natural range.

    Args:
        found: Best values of the simulations.
        state: The study's state.
    """
    seen = [report.value for trial in state.trials.values() for report in trial.curve if report.value is not None]
    if not found or not seen:
        return None
    value, low, high = expected_of(found)
    least, most = natural_range(seen)
    now = state.best.best.value if state.best and state.best.best else None
    if now is not None and state.settings.mode == "max":
        least = max(least, min(now, value))
    elif now is not None:
        most = min(most, max(now, value))
    return Prediction(
        value,
        max(least, value - BEST_BAND_FACTOR * (value - low)),
        min(most, value + BEST_BAND_FACTOR * (high - value)),
    )


def expected_of(values: Sequence[float]) -> Prediction:
    """Return the median of equally likely values, and their band."""
    import numpy as np

    low, middle, high = np.quantile(values, [LOW, 0.5, HIGH]).tolist()
    return Prediction(middle, low, high)


def _band(expected: Prediction) -> str:
    return f"{expected.value:.4g} ({expected.low:.4g} to {expected.high:.4g})"


MAX_NEW_TRIALS = 200
"""Maximum number of new trials that `forecast_from_plan` draws."""
MAX_CURVES = 12
"""Maximum number of curves that `forecast_from_plan` continues, each of present and of new trials."""
HORIZON = 300
"""Maximum epoch to which a curve is continued."""
_PLANNED = ["elapsed_s", "cost_usd", "survivors", "workers"]


def forecast_from_plan(
    state: State, policy: Policy, *, budget: int | None = None, deadline_s: float | None = None
) -> Forecast:
    """Return a forecast within a fraction of a second, from the planner instead of from simulations.

    Finish and cost are the plan's. The best value is taken from as many extrapolated curves, of present and new trials,
    as the plan fully trains.

    Args:
        state: The study's state, with at least one report.
        policy: The study's policy.
        budget: Another budget in micro-dollars. Default: the study's.
        deadline_s: Another deadline in study seconds. Default: the study's.

    Raises:
        ValueError: Nothing was measured yet, or the policy does not plan ahead.
    """
    stages = stages_frame(state, policy, budget=budget, deadline_s=deadline_s)
    if stages is None:
        raise ValueError(f"policy={state.settings.policy!r} does not plan ahead: only a simulation can forecast it")
    if not len(stages):
        return Forecast(_planned(stages, state), stages, None, None, None, 0.0, 0)
    last = stages.iloc[-1]
    completed, started = int(last.survivors), int(stages.survivors.iloc[0])
    fit = StudyFit(state)
    values = [_best_of(ExtrapolatedWorld(fit, seed), state, completed, started) for seed in range(MAX_SIMULATIONS)]
    return Forecast(
        over_time=_planned(stages, state),
        stages=stages,
        finish_s=Prediction(*[float(last.ends_s)] * 3),
        cost_usd=Prediction(*[float(last.cost_usd)] * 3),
        best_value=best_value_of([value for value in values if value is not None], state),
        completed=float(completed),
        n_simulations=0,
    )


def _best_of(world: ExtrapolatedWorld, state: State, completed: int, started: int) -> float | None:
    """Return the best last value of the trials that the plan fully trains, in one simulated future.

    Args:
        world: Extrapolated curves of one future.
        state: The study's state.
        completed: Number of trials that are fully trained.
        started: Number of trials that are started.
    """
    sign = -1 if state.settings.mode == "max" else 1
    able = [trial for trial in state.trials.values() if trial.alive and trial.best and trial.best.value is not None]
    able.sort(key=lambda trial: sign * (trial.best.value or 0.0) if trial.best else 0.0)
    known = [trial.id for trial in able[:completed]]
    fresh = range(len(state.trials), min(started, len(state.trials) + MAX_NEW_TRIALS))
    first = {number: world.report(number, 1)[0] for number in fresh}
    likely = sorted((n for n, value in first.items() if value is not None), key=lambda n: sign * (first[n] or 0.0))
    share = math.ceil(completed * len(first) / max(1, started))
    shown = (*known[:MAX_CURVES], *likely[: min(share, MAX_CURVES)])
    ends = [world.report(number, horizon(state))[0] for number in shown]
    done = [state.best.best.value] if state.best and state.best.best else []
    found = [value for value in (*ends, *done) if value is not None]
    return (max(found) if sign < 0 else min(found)) if found else None


def horizon(state: State) -> int:
    """Return the last epoch to which curves are continued; later epochs change little."""
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
