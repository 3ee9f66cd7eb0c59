"""Plotly figures of curves and of the search space. As in Optuna, each figure has an info record and a renderer."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.files import write_atomically
from seer_nb.search_space.surrogate import importances
from seer_nb.views.figure_data import CurvesInfo, curves_info
from seer_nb.views.palette import GREY, OKABE_ITO, PLOTLY_DASHES, LineStyle, Palette
from seer_nb.views.view_model import TrialView, build_view, format_value

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from plotly.graph_objects import Figure, Scatter

    from seer_nb.core.state import State


LABEL_WIDTH, LABEL_HEIGHT = 0.1, 0.045
"""Size of a label in a figure of the usual size, as shares of the epochs and of the range of values."""
LOG_AXIS_RATIO = 30.0
"""Ratio of the largest to the smallest value above which a positive axis is logarithmic."""
MAX_VALUE_TICKS = 6
"""Number of distinct values up to which each value gets a tick of its own."""


def plot_curves(state: State) -> Figure:
    """Plot the learning curves: survivors in colour with labels at their ends, all others grey, the best marked."""
    return _curves_plot(curves_info(build_view(state)))


def write_figure(figure: Figure, path: str | os.PathLike[str], title: str = "seer_nb") -> Path:
    """Write a figure as one html file that works without a network.

    Args:
        figure: A plotly figure.
        path: Path of the file; an existing file is replaced.
        title: Title of the page.

    Returns:
        The path.
    """
    content: str = figure.to_html(full_html=True, include_plotlyjs=True, include_mathjax=False)
    head = f'<!doctype html>\n<html lang="en">\n<head><title>{html.escape(title)}</title>'
    content = re.sub(r"\A(?:<!doctype html>\s*)?<html>\s*<head>", lambda _: head, content, count=1)
    write_atomically(Path(path), content.encode())
    return Path(path)


def _curves_plot(info: CurvesInfo) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(info))
    if info.others:
        figure.add_trace(_grey_trace(info.others))
    styles = Palette().assign(trial.trial for trial in info.coloured)
    labelled = _labelled_trials(info)
    for trial in info.coloured:
        figure.add_trace(_coloured_trace(trial, styles[trial.trial], labelled=trial.trial in labelled))
    if info.best is not None:
        figure.add_trace(_best_mark(info.best))
    return figure


def _layout(info: CurvesInfo) -> dict[str, Any]:
    return {
        "template": "plotly_white",
        "title": {"text": f"{escape_text(info.metric)} by epoch"},
        "xaxis": {"title": {"text": "epoch"}, "range": [0.5, info.max_epochs * 1.12 + 0.5]},
        "yaxis": {"title": {"text": escape_text(info.metric)}, "range": [info.low, info.high]},
        "legend": {"title": {"text": "best first"}},
        "hovermode": "closest",
    }


def _grey_trace(trials: tuple[TrialView, ...]) -> Scatter:
    """Draw all grey curves as one trace, because hundreds of traces make a browser slow."""
    import plotly.graph_objects as go

    epochs: list[int | None] = []
    values: list[float | None] = []
    numbers: list[int | None] = []
    for trial in trials:
        # A gap separates each curve from the next one.
        epochs += [*(epoch for epoch, _ in trial.points), None]
        values += [*(value for _, value in trial.points), None]
        numbers += [*(trial.trial for _ in trial.points), None]
    return go.Scatter(
        x=epochs,
        y=values,
        customdata=numbers,
        name=f"{len(trials)} others",
        mode="lines",
        line={"color": GREY, "width": 1},
        opacity=0.5,
        hovertemplate="trial %{customdata}, epoch %{x}: %{y:.4g}<extra></extra>",
    )


def _last_index(trial: TrialView) -> int:
    """Return the index of the trial's last finite value among its points."""
    return max(index for index, (_, value) in enumerate(trial.points) if value is not None)


def _labelled_trials(info: CurvesInfo) -> set[int]:
    """Select trials whose labels do not overlap. The better trial gets the label; the legend names all trials."""
    wide, high = LABEL_WIDTH * info.max_epochs, LABEL_HEIGHT * (info.high - info.low)
    found: dict[int, tuple[float, float]] = {}
    for trial in info.coloured:
        epoch, value = trial.points[_last_index(trial)]
        if value is not None and not any(abs(epoch - x) < wide and abs(value - y) < high for x, y in found.values()):
            found[trial.trial] = epoch, value
    return set(found)


def _coloured_trace(trial: TrialView, style: LineStyle, *, labelled: bool) -> Scatter:
    import plotly.graph_objects as go

    label = f"trial {trial.trial}"
    end = _last_index(trial) if labelled else None
    config = ", ".join(
        f"{escape_text(name)}={escape_text(format_value(value))}" for name, value in trial.config.items()
    )
    return go.Scatter(
        x=[epoch for epoch, _ in trial.points],
        y=[value for _, value in trial.points],
        name=label,
        mode="lines+text",
        # Plotly does not trim an em space, which keeps the label away from the line and the star.
        text=[f"\N{EM SPACE}{label}" if index == end else "" for index in range(len(trial.points))],
        textposition="middle right",
        line={"color": style.colour, "width": 2, "dash": PLOTLY_DASHES[style.dash]},
        hovertemplate=f"{label}, epoch %{{x}}: %{{y:.4g}}<br>{config.replace('%{', '% {')}<extra></extra>",
    )


def _best_mark(trial: TrialView) -> Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[trial.best_epoch],
        y=[trial.value],
        name=f"best: {format_value(trial.value)}",
        mode="markers",
        marker={"symbol": "star", "size": 13, "color": "#D55E00", "line": {"width": 1, "color": "white"}},
        hovertemplate=f"best: trial {trial.trial}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
    )


def escape_text(text: str) -> str:
    """Escape a text for plotly, which interprets some html, also links, in its texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Axis(NamedTuple):
    """One axis of a parallel coordinates plot."""

    name: str
    positions: tuple[float, ...]
    """Position of each trial on the axis."""
    ticks: tuple[tuple[float, str], ...]
    """(position, label)."""


class CoordinatesInfo(NamedTuple):
    """Data of the parallel coordinates plot."""

    metric: str
    axes: tuple[Axis, ...]
    values: tuple[float, ...]
    """Best stored value of each trial."""
    maximize: bool


class ImportanceInfo(NamedTuple):
    """Data of the bar chart of hyperparameter importances."""

    shares: tuple[tuple[str, float], ...]
    """(name, importance); the most important first, sum 1."""
    n_trials: int


def coordinates_info(state: State) -> CoordinatesInfo:
    """Collect the configurations and values of all trials that have a stored value."""
    trials = [trial for trial in state.trials.values() if trial.best is not None and trial.best.value is not None]
    names = dict.fromkeys(name for trial in trials for name in trial.config)
    values = tuple(trial.best.value or 0.0 for trial in trials if trial.best)
    axes = tuple(_axis(name, [trial.config.get(name) for trial in trials]) for name in names)
    return CoordinatesInfo(state.settings.metric, axes, values, state.settings.mode == "max")


def coordinates_plot(info: CoordinatesInfo) -> Figure:
    """Plot one line per trial across one axis per hyperparameter, coloured by the trial's best value."""
    import plotly.graph_objects as go

    dimensions = [
        {
            "label": escape_text(axis.name),
            "values": list(axis.positions),
            "tickvals": [position for position, _ in axis.ticks],
            # Plotly draws these labels, and only these, without interpreting html, so they must not be escaped.
            "ticktext": [label for _, label in axis.ticks],
        }
        for axis in info.axes
    ]
    dimensions.append({"label": escape_text(info.metric), "values": list(info.values)})
    line = {
        "color": list(info.values),
        "colorscale": "Cividis",
        "reversescale": not info.maximize,
        "showscale": True,
        "colorbar": {"title": {"text": escape_text(info.metric)}},
    }
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line) if info.values else None)
    return figure.update_layout(template="plotly_white", title="Configurations and their best values")


def importance_info(state: State) -> ImportanceInfo:
    """Estimate the importance of each hyperparameter.

    Raises:
        ValueError: Fewer than eight trials have reported.
    """
    reported = [trial for trial in state.trials.values() if trial.curve]
    shares = importances(reported, state.settings.mode, state.settings.seed)
    return ImportanceInfo(tuple(shares.items()), len(reported))


def importance_plot(info: ImportanceInfo) -> Figure:
    """Plot one bar per hyperparameter."""
    import plotly.graph_objects as go

    names, shares = [escape_text(name) for name, _ in info.shares], [share for _, share in info.shares]
    bars = go.Bar(x=shares, y=names, orientation="h", text=[f"{share:.0%}" for share in shares])
    figure = go.Figure(bars.update(marker={"color": OKABE_ITO[0]}))
    title = f"Importance of hyperparameters, from {info.n_trials} trials"
    figure.update_layout(template="plotly_white", title=title, xaxis={"tickformat": ".0%", "title": {"text": "share"}})
    return figure.update_yaxes(autorange="reversed")


def _axis(name: str, given: Sequence[Any]) -> Axis:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        return _number_axis(name, [float(value) for value in given])
    options = list(dict.fromkeys(map(str, given)))
    positions = tuple(float(options.index(str(value))) for value in given)
    return Axis(name, positions, tuple((float(index), option) for index, option in enumerate(options)))


def _number_axis(name: str, values: Sequence[float]) -> Axis:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low > 0 and high > LOG_AXIS_RATIO * low:
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        return Axis(name, tuple(map(math.log10, values)), tuple((float(p), f"{10.0**p:g}") for p in powers))
    distinct = sorted(set(values))
    few = distinct if len(distinct) <= MAX_VALUE_TICKS else [low + (high - low) * k / 4 for k in range(5)]
    return Axis(name, tuple(values), tuple((value, f"{value:.4g}") for value in few))
