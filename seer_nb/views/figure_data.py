"""Figure data: what each figure of a study shows, computed before plotly or the svg renderer draws it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from seer_nb._utils.units import MICRO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from seer_nb.core.history import History, Mark, Steps
    from seer_nb.core.state import State
    from seer_nb.study.forecast import Forecast
    from seer_nb.views.view_model import StudyView, TrialView


MAX_COLOURED_CURVES = 16
MAX_RANGE_CURVES = 100
"""Number of grey curves that determine the range of values: of hundreds of trials most end low after one epoch."""
RANGE_POINTS_PER_CURVE = 20
"""Number of points of each grey curve that determine the range of values."""
N_TIME_SAMPLES = 160
"""Number of evenly spaced times from the start until now at which worker counts are sampled."""
Interval: TypeAlias = tuple[float, float, float]
"""(expected value, lower end, upper end) of a 90 % prediction interval."""
SpendingPoint: TypeAlias = tuple[float, float, float, float]
"""(study seconds, expected, lower end, upper end), the last three in dollars."""


class CurvesInfo(NamedTuple):
    """Data of the figure of learning curves."""

    metric: str
    max_epochs: int
    best: TrialView | None
    coloured: tuple[TrialView, ...]
    """The best trial and the best survivors, best first; at most MAX_COLOURED_CURVES."""
    others: tuple[TrialView, ...]
    """Grey trials in order of their end, unfinished ones last, so that only the end of the sequence changes."""
    projected: Mapping[int, float]
    """Projected value at the last epoch, by trial."""
    low: float
    """Lower end of the range of values; outliers among the grey trials may lie outside the range."""
    high: float


class Band(NamedTuple):
    """Worker counts of one trial, or of all trials without a colour together (trial is None)."""

    trial: int | None
    steps: Steps


class ParallelismInfo(NamedTuple):
    """Data of the figure of workers over time. Times are study seconds."""

    now_s: float
    until_s: float
    """End of the time axis: the deadline, or now if that is later."""
    bands: tuple[Band, ...]
    """Bands from the bottom up; their sum is the number of training workers."""
    size: Steps
    """Number of workers on ready machines."""
    wanted: Steps
    """Number of workers that the plan wanted."""
    boots: tuple[tuple[float, float], ...]
    """(start, end) of each machine's boot."""
    losses: tuple[float, ...]
    """Times at which machines were lost."""
    marks: tuple[Mark, ...]

    @property
    def high(self) -> float:
        """Largest number of ready or wanted workers."""
        return max(1.0, *(value for _, value in self.size), *(value for _, value in self.wanted))


class BurnInfo(NamedTuple):
    """Data of the figure of money over time. Times are study seconds, money is in dollars."""

    now_s: float
    until_s: float
    spent: Steps
    committed: float
    """Dollars committed now, on top of the dollars spent."""
    budgets: Steps
    deadlines: Steps
    marks: tuple[Mark, ...]
    plan: tuple[SpendingPoint, ...]
    """Forecast of the spending; empty without a forecast."""
    finish_s: float | None

    @property
    def high(self) -> float:
        """Upper end of the money axis, in dollars."""
        return max(value for _, value in self.budgets) * 1.05


class SpendingForecast(NamedTuple):
    """Forecast of the spending and of the end of a study."""

    points: tuple[SpendingPoint, ...]
    finish_s: float | None


class ForecastAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Forecast of a study's rest, as the forecast process sends it. Times are study seconds, money is in dollars."""

    request_id: int
    """Number of the request that is answered."""
    finish_s: Interval | None = None
    cost_usd: Interval | None = None
    best_value: Interval | None = None
    completed: float | None = None
    """Expected number of fully trained trials."""
    max_workers: float | None = None
    """Largest number of workers in use at once."""
    cost_over_time: tuple[SpendingPoint, ...] = ()
    simulations: int = 0
    """Number of simulated futures; 0 if the planner answered."""
    projected: dict[int, float] = {}
    """Projected value at the last epoch, by surviving trial."""
    error: str = ""
    """Why there is no forecast, in a sentence."""

    @property
    def spending(self) -> SpendingForecast:
        """The part of the answer that the figure of money shows."""
        return SpendingForecast(self.cost_over_time, self.finish_s[0] if self.finish_s else None)


def curves_info(view: StudyView, projected: Mapping[int, float] | None = None) -> CurvesInfo:
    """Select the learning curves to draw, and the range of values.

    Args:
        view: View of the study.
        projected: Projected value at the last epoch, by trial. Default: no projections.
    """
    drawn = [trial for trial in view.trials if any(value is not None for _, value in trial.points)]
    coloured = [trial for trial in drawn if trial.survives or trial is view.best][:MAX_COLOURED_CURVES]
    chosen = {trial.trial for trial in coloured}
    others = [trial for trial in drawn if trial.trial not in chosen]
    shown = {trial: value for trial, value in (projected or {}).items() if trial in chosen}
    low, high = _value_range(coloured, others, shown.values())
    others.sort(key=lambda trial: (trial.survives, trial.end_s or 0.0, trial.trial))
    return CurvesInfo(view.metric, view.max_epochs, view.best, tuple(coloured), tuple(others), shown, low, high)


def parallelism_info(state: State, history: History, view: StudyView, coloured: Sequence[int]) -> ParallelismInfo:
    """Compute each trial's number of workers over time.

    Args:
        state: State of the study.
        history: History of the same study.
        view: View of the same state.
        coloured: Numbers of the trials that get a band of their own.
    """
    now_s = view.elapsed_s
    own = [Band(trial, _sampled(history.workers[trial], now_s)) for trial in coloured if trial in history.workers]
    return ParallelismInfo(
        now_s=now_s,
        until_s=max(view.deadline_s, now_s),
        bands=(*own, Band(None, _rest(_sampled(history.training_workers, now_s), own))),
        size=history.ready_workers,
        wanted=history.wanted_workers,
        boots=tuple(_boots(state, now_s)),
        losses=tuple(history.losses),
        marks=tuple(history.marks),
    )


def burn_info(history: History, view: StudyView, forecast: SpendingForecast | None = None) -> BurnInfo:
    """Compute the money spent over time, with the forecast of the rest if there is one."""
    now_s = view.elapsed_s
    return BurnInfo(
        now_s=now_s,
        until_s=max(view.deadline_s, now_s, *(value for _, value in history.deadlines)),
        spent=[*((at_s, spent / MICRO) for at_s, spent in history.spent), (now_s, view.spent_micro / MICRO)],
        committed=view.committed_micro / MICRO,
        budgets=[(at_s, budget / MICRO) for at_s, budget in history.budgets],
        deadlines=history.deadlines,
        marks=tuple(history.marks),
        plan=() if forecast is None else forecast.points,
        finish_s=None if forecast is None else forecast.finish_s,
    )


def spending_forecast(forecast: Forecast) -> SpendingForecast:
    """Return the part of a forecast that the figure of money shows."""
    table = forecast.over_time
    points = zip(table.elapsed_s, table.cost_usd, table.cost_low, table.cost_high, strict=True)
    return SpendingForecast(tuple(points), forecast.finish_s.value if forecast.finish_s else None)


def _sampled(steps: Steps, now_s: float) -> Steps:
    """Round the times of steps up to N_TIME_SAMPLES evenly spaced times, and keep only changes."""
    width = now_s / N_TIME_SAMPLES
    found: Steps = [(0.0, 0.0)]
    for at_s, value in steps:
        sample_s = math.ceil(at_s / width) * width if width else 0.0
        if sample_s == found[-1][0]:
            found.pop()
        if not found or value != found[-1][1]:
            found.append((sample_s, value))
    return found


def _rest(busy: Steps, own: Iterable[Band]) -> Steps:
    """Subtract the trials' own bands from the total number of training workers."""
    changes: dict[float, float] = {}
    for steps, sign in [(busy, 1), *((band.steps, -1) for band in own)]:
        value = 0.0
        for at_s, following in steps:
            changes[at_s] = changes.get(at_s, 0.0) + sign * (following - value)
            value = following
    found: Steps = []
    left = 0.0
    for at_s in sorted(changes):
        left += changes[at_s]
        if not found or left != found[-1][1]:
            found.append((at_s, left))
    return found


def _boots(state: State, now_s: float) -> Iterable[tuple[float, float]]:
    for machine in state.machines.values():
        ends = [at_s for at_s in (machine.ready_s, machine.retired_s, machine.ended_s) if at_s is not None]
        yield machine.rented_s, min(ends, default=now_s)


def _value_range(coloured: list[TrialView], others: list[TrialView], projected: Iterable[float]) -> tuple[float, float]:
    """Compute the range of values to draw.

    The range holds all coloured curves, the middle 90 % of the best other trials' values, and a margin of 10 %.
    Projected values extend the range as long as the curves so far still fill half of the figure.
    """
    seen = _values(coloured)
    rest = sorted(_values(others[:MAX_RANGE_CURVES], RANGE_POINTS_PER_CURVE))
    cut = len(rest) // 20
    seen += rest[cut : len(rest) - cut]
    if not seen:
        return 0.0, 1.0
    low, high = min(seen), max(seen)
    reach = high / 2 - low / 2
    for end in projected:
        low, high = min(low, max(end, min(seen) - reach)), max(high, min(end, max(seen) + reach))
    # Halved before the subtraction, because the difference of two huge values would overflow.
    margin = 0.1 * (high / 2 - low / 2) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def _values(trials: list[TrialView], max_points: int | None = None) -> list[float]:
    """Return the trials' finite values, of about max_points reports of each trial if that is given."""
    found = []
    for trial in trials:
        points = trial.points if max_points is None else trial.points[:: math.ceil(len(trial.points) / max_points)]
        found += [value for _, value in points if value is not None]
    return found
