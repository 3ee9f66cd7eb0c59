"""What figures of a study show, before they are drawn: by plotly, or as svg."""

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


N_IN_COLOUR = 16
N_OTHERS = 100
"""Grey curves that matter for the range: of hundreds of trials most end low after an epoch."""
POINTS_OF_OTHERS = 20
"""Of each of them."""
MOMENTS = 160
"""At which the workers are looked at, from the start until now."""


class CurvesInfo(NamedTuple):
    """The learning curves."""

    metric: str
    max_epochs: int
    best: TrialView | None
    coloured: tuple[TrialView, ...]
    """The best trial and the best survivors, best first; at most N_IN_COLOUR."""
    others: tuple[TrialView, ...]
    """In order of their end, those that have not ended last: of many, only the last ones change."""
    ends: Mapping[int, float]
    """Projected value at the last epoch, by trial."""
    low: float
    high: float
    """The range of values that is worth seeing: outliers of the others lie outside."""


class Band(NamedTuple):
    """Workers of one trial, or of all trials without a colour."""

    trial: int | None
    steps: Steps


class ParallelismInfo(NamedTuple):
    """Who had how many workers, and when. Times are study seconds."""

    now_s: float
    until_s: float
    """End of the axis: the deadline, unless it was passed."""
    bands: tuple[Band, ...]
    """From the bottom up; their sum is the number of workers that trained."""
    size: Steps
    """Workers of ready machines."""
    wanted: Steps
    """Workers that the plan wanted."""
    boots: tuple[tuple[float, float], ...]
    """(from, until) of each machine's boot."""
    losses: tuple[float, ...]
    marks: tuple[Mark, ...]

    @property
    def high(self) -> float:
        """The most workers there were or were wanted."""
        return max(1.0, *(value for _, value in self.size), *(value for _, value in self.wanted))


class BurnInfo(NamedTuple):
    """Money over time: study seconds and dollars."""

    now_s: float
    until_s: float
    spent: Steps
    committed: float
    """On top of what is spent now."""
    budgets: Steps
    deadlines: Steps
    marks: tuple[Mark, ...]
    plan: tuple[tuple[float, float, float, float], ...]
    """(time, expected, low, high) of what will be spent; empty before it is known."""
    finish_s: float | None

    @property
    def high(self) -> float:
        """The most money that is to be seen."""
        return max(value for _, value in self.budgets) * 1.05


def curves(view: StudyView, ends: Mapping[int, float] | None = None) -> CurvesInfo:
    """What there is to see of the learning curves.

    Args:
        view: Of the study.
        ends: Projected value at the last epoch, by trial.
    """
    drawn = [trial for trial in view.trials if any(value is not None for _, value in trial.points)]
    coloured = [trial for trial in drawn if trial.survives or trial is view.best][:N_IN_COLOUR]
    chosen = {trial.trial for trial in coloured}
    others = [trial for trial in drawn if trial.trial not in chosen]
    shown = {trial: end for trial, end in (ends or {}).items() if trial in chosen}
    low, high = _range(coloured, others, shown.values())
    others.sort(key=lambda trial: (trial.survives, trial.end_s or 0.0, trial.trial))
    return CurvesInfo(view.metric, view.max_epochs, view.best, tuple(coloured), tuple(others), shown, low, high)


def parallelism(state: State, history: History, view: StudyView, coloured: Sequence[int]) -> ParallelismInfo:
    """Who had how many workers.

    Args:
        state: Of the study.
        history: Of the study.
        view: Of the study.
        coloured: Trials that have a band of their own.
    """
    now_s = view.elapsed_s
    own = [Band(trial, _sampled(history.workers[trial], now_s)) for trial in coloured if trial in history.workers]
    return ParallelismInfo(
        now_s=now_s,
        until_s=max(view.deadline_s, now_s),
        bands=(*own, Band(None, _rest(_sampled(history.busy, now_s), own))),
        size=history.size,
        wanted=history.wanted,
        boots=tuple(_boots(state, now_s)),
        losses=tuple(history.losses),
        marks=tuple(history.marks),
    )


class Expectation(NamedTuple):
    """What a forecast says of the money."""

    cost: tuple[tuple[float, float, float, float], ...]
    """(time, expected, low, high) of what will be spent, in study seconds and dollars."""
    finish_s: float | None


def told(forecast: Forecast) -> Expectation:
    """By a forecast."""
    table = forecast.over_time
    moments = zip(table.elapsed_s, table.cost_usd, table.cost_low, table.cost_high, strict=True)
    return Expectation(tuple(moments), forecast.finish_s.value if forecast.finish_s else None)


def burn(history: History, view: StudyView, plan: Expectation | None = None) -> BurnInfo:
    """Money over time, with what is expected of the rest."""
    now_s = view.elapsed_s
    return BurnInfo(
        now_s=now_s,
        until_s=max(view.deadline_s, now_s, *(value for _, value in history.deadlines)),
        spent=[*((at_s, spent / MICRO) for at_s, spent in history.spent), (now_s, view.spent / MICRO)],
        committed=view.committed / MICRO,
        budgets=[(at_s, budget / MICRO) for at_s, budget in history.budgets],
        deadlines=history.deadlines,
        marks=tuple(history.marks),
        plan=() if plan is None else plan.cost,
        finish_s=None if plan is None else plan.finish_s,
    )


def _sampled(steps: Steps, now_s: float) -> Steps:
    """As it is seen at so many moments; only where it changes."""
    width = now_s / MOMENTS
    found: Steps = [(0.0, 0.0)]
    for at_s, value in steps:
        # What changes between two moments is seen at the second one.
        moment = math.ceil(at_s / width) * width if width else 0.0
        if moment == found[-1][0]:
            found.pop()
        if not found or value != found[-1][1]:
            found.append((moment, value))
    return found


def _rest(busy: Steps, own: Iterable[Band]) -> Steps:
    """What is left of all for those without a band."""
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


def _range(coloured: list[TrialView], others: list[TrialView], ends: Iterable[float]) -> tuple[float, float]:
    """All of the coloured curves, the middle nine tenths of the best others' values, and a little air.

    Projected ends are taken in as long as the curves so far still fill half of the figure.
    """
    seen = _values(coloured)
    rest = sorted(_values(others[:N_OTHERS], POINTS_OF_OTHERS))
    cut = len(rest) // 20
    seen += rest[cut : len(rest) - cut]
    if not seen:
        return 0.0, 1.0
    low, high = min(seen), max(seen)
    reach = high / 2 - low / 2
    for end in ends:
        low, high = min(low, max(end, min(seen) - reach)), max(high, min(end, max(seen) + reach))
    # Halved before the difference is taken: two huge values must not overflow.
    air = 0.1 * (high / 2 - low / 2) or 0.05 * abs(high) or 0.5
    return low - air, high + air


def _values(trials: list[TrialView], most: int | None = None) -> list[float]:
    """Of all points, or of about so many of each trial."""
    found = []
    for trial in trials:
        points = trial.points if most is None else trial.points[:: math.ceil(len(trial.points) / most)]
        found += [value for _, value in points if value is not None]
    return found


Interval: TypeAlias = tuple[float, float, float]
"""A number, and between what it will lie nine times in ten at either end."""


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected. Times are study seconds, money is dollars."""

    number: int
    """Of the question."""
    finish_s: Interval | None = None
    cost_usd: Interval | None = None
    best_value: Interval | None = None
    survivors: float | None = None
    """Trials that will be fully trained."""
    workers: float | None = None
    """The most that will be used."""
    cost_over_time: tuple[tuple[float, float, float, float], ...] = ()
    """(time, expected, low, high)."""
    futures: int = 0
    """How many were simulated."""
    ends: dict[int, float] = {}
    """By trial in the running: its value if it were fully trained."""
    error: str = ""
    """Why there is no answer, in a sentence."""


def expectation(foreseen: Foreseen | None) -> Expectation | None:
    """What it says of the money."""
    if foreseen is None:
        return None
    return Expectation(foreseen.cost_over_time, foreseen.finish_s[0] if foreseen.finish_s else None)
