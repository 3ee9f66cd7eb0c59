"""Plotly figures of the search space: which configurations were good, and which hyperparameters matter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.importance import importances
from seer_nb.ui.figures import shown
from seer_nb.ui.palette import OKABE_ITO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure

    from seer_nb.core.state import State

WIDE = 30.0
"""A positive axis whose greatest value is so many times its least is logarithmic."""


class Axis(NamedTuple):
    """One axis of a parallel coordinate plot: numbers, and the words at some of them."""

    name: str
    places: tuple[float, ...]
    """A number a trial."""
    ticks: tuple[tuple[float, str], ...]


class CoordinatesInfo(NamedTuple):
    """Configurations and their values."""

    metric: str
    axes: tuple[Axis, ...]
    values: tuple[float, ...]
    """Best stored value of each trial."""
    more_is_better: bool


class ImportanceInfo(NamedTuple):
    """Which hyperparameters matter."""

    shares: tuple[tuple[str, float], ...]
    """The most important first."""
    n_trials: int


def coordinates_info(state: State) -> CoordinatesInfo:
    """Of all trials that have a value."""
    trials = [trial for trial in state.trials.values() if trial.best is not None and trial.best.value is not None]
    names = dict.fromkeys(name for trial in trials for name in trial.config)
    values = tuple(trial.best.value or 0.0 for trial in trials if trial.best)
    axes = tuple(_axis(name, [trial.config.get(name) for trial in trials]) for name in names)
    return CoordinatesInfo(state.settings.metric, axes, values, state.settings.mode == "max")


def coordinates_plot(info: CoordinatesInfo) -> Figure:
    """A line a trial across an axis a hyperparameter, coloured by its value."""
    import plotly.graph_objects as go

    dimensions = [
        {
            "label": shown(axis.name),
            "values": list(axis.places),
            "tickvals": [place for place, _ in axis.ticks],
            # Plotly draws these words, and only these, as they are: escaped ones would be read with their entities.
            "ticktext": [word for _, word in axis.ticks],
        }
        for axis in info.axes
    ]
    dimensions.append({"label": shown(info.metric), "values": list(info.values)})
    line = {
        "color": list(info.values),
        "colorscale": "Cividis",
        "reversescale": not info.more_is_better,
        "showscale": True,
        "colorbar": {"title": {"text": shown(info.metric)}},
    }
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line) if info.values else None)
    return figure.update_layout(template="plotly_white", title="Configurations and what they reached")


def importance_info(state: State) -> ImportanceInfo:
    """Raises ValueError as long as too few trials have reported."""
    begun = [trial for trial in state.trials.values() if trial.state != "waiting"]
    shares = importances(begun, state.settings.mode, state.settings.seed)
    return ImportanceInfo(tuple(shares.items()), len(begun))


def importance_plot(info: ImportanceInfo) -> Figure:
    """A bar a hyperparameter."""
    import plotly.graph_objects as go

    names, shares = [shown(name) for name, _ in info.shares], [share for _, share in info.shares]
    bars = go.Bar(x=shares, y=names, orientation="h", text=[f"{share:.0%}" for share in shares])
    figure = go.Figure(bars.update(marker={"color": OKABE_ITO[0]}))
    title = f"Which hyperparameters matter, as {info.n_trials} trials tell"
    figure.update_layout(template="plotly_white", title=title, xaxis={"tickformat": ".0%", "title": {"text": "share"}})
    return figure.update_yaxes(autorange="reversed")


def _axis(name: str, given: Sequence[Any]) -> Axis:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        return _number_axis(name, [float(value) for value in given])
    options = list(dict.fromkeys(map(str, given)))
    places = tuple(float(options.index(str(value))) for value in given)
    return Axis(name, places, tuple((float(place), option) for place, option in enumerate(options)))


def _number_axis(name: str, values: Sequence[float]) -> Axis:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low > 0 and high > WIDE * low:
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        return Axis(name, tuple(map(math.log10, values)), tuple((float(p), f"{10.0**p:g}") for p in powers))
    kinds = sorted(set(values))
    few = kinds if len(kinds) <= 6 else [low + (high - low) * k / 4 for k in range(5)]  # noqa: PLR2004 - to be read
    return Axis(name, tuple(values), tuple((value, f"{value:.4g}") for value in few))
