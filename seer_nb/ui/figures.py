"""Plotly figures of a study, in Optuna's shape: first what is to be seen, then how."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb.export import write_atomically
from seer_nb.ui.infos import CurvesInfo, curves
from seer_nb.ui.palette import GREY, PLOTLY_DASHES, Look, Palette
from seer_nb.ui.view import TrialView, format_value, look

if TYPE_CHECKING:
    import os

    from plotly.graph_objects import Figure, Scatter

    from seer_nb.core.state import State

LABEL_WIDTH, LABEL_HEIGHT = 0.1, 0.045
"""Of all epochs, and of the range of values, in a figure of the usual size."""


def plot_curves(state: State) -> Figure:
    """The learning curves: survivors in colour with labels at their ends, all others in grey, the best marked."""
    return _get_curves_plot(_get_curves_info(state))


def write_figure(figure: Figure, path: str | os.PathLike[str], title: str = "seer_nb") -> Path:
    """Write a figure as one html file that works without a network.

    Args:
        figure: A plotly figure.
        path: Of the file; an existing one is replaced.
        title: Of the page.

    Returns:
        The path.
    """
    content: str = figure.to_html(full_html=True, include_plotlyjs=True, include_mathjax=False)
    head = f'<!doctype html>\n<html lang="en">\n<head><title>{html.escape(title)}</title>'
    content = re.sub(r"\A(?:<!doctype html>\s*)?<html>\s*<head>", lambda _: head, content, count=1)
    write_atomically(Path(path), content.encode())
    return Path(path)


def _get_curves_info(state: State) -> CurvesInfo:
    return curves(look(state))


def _get_curves_plot(info: CurvesInfo) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(info))
    if info.others:
        figure.add_trace(_grey_trace(info.others))
    looks = Palette().deal(trial.trial for trial in info.coloured)
    apart = _apart(info)
    for trial in info.coloured:
        figure.add_trace(_coloured_trace(trial, looks[trial.trial], labelled=trial.trial in apart))
    if info.best is not None:
        figure.add_trace(_best_mark(info.best))
    return figure


def _layout(info: CurvesInfo) -> dict[str, Any]:
    return {
        "template": "plotly_white",
        "title": {"text": f"{shown(info.metric)} by epoch"},
        "xaxis": {"title": {"text": "epoch"}, "range": [0.5, info.max_epochs * 1.12 + 0.5]},
        "yaxis": {"title": {"text": shown(info.metric)}, "range": [info.low, info.high]},
        "legend": {"title": {"text": "best first"}},
        "hovermode": "closest",
    }


def _grey_trace(trials: tuple[TrialView, ...]) -> Scatter:
    """One trace for all: hundreds of traces make a browser slow."""
    import plotly.graph_objects as go

    epochs: list[int | None] = []
    values: list[float | None] = []
    numbers: list[int | None] = []
    for trial in trials:
        # A gap keeps one curve from running on into the next.
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


def _end(trial: TrialView) -> int:
    """The place of its last value among its points."""
    return max(place for place, (_, value) in enumerate(trial.points) if value is not None)


def _apart(info: CurvesInfo) -> set[int]:
    """Trials whose labels do not stand on one another: the better one has it, and the legend names all."""
    wide, high = LABEL_WIDTH * info.max_epochs, LABEL_HEIGHT * (info.high - info.low)
    found: dict[int, tuple[float, float]] = {}
    for trial in info.coloured:
        epoch, value = trial.points[_end(trial)]
        if value is not None and not any(abs(epoch - x) < wide and abs(value - y) < high for x, y in found.values()):
            found[trial.trial] = epoch, value
    return set(found)


def _coloured_trace(trial: TrialView, drawn: Look, *, labelled: bool) -> Scatter:
    import plotly.graph_objects as go

    label = f"trial {trial.trial}"
    end = _end(trial) if labelled else None
    config = ", ".join(f"{shown(name)}={shown(format_value(value))}" for name, value in trial.config.items())
    return go.Scatter(
        x=[epoch for epoch, _ in trial.points],
        y=[value for _, value in trial.points],
        name=label,
        mode="lines+text",
        # Spaces that are not trimmed keep the label off the line and off the star.
        text=[f"\N{EM SPACE}{label}" if place == end else "" for place in range(len(trial.points))],
        textposition="middle right",
        line={"color": drawn.colour, "width": 2, "dash": PLOTLY_DASHES[drawn.dash]},
        hovertemplate=f"{label}, epoch %{{x}}: %{{y:.4g}}<br>{config.replace('%{', '% {')}<extra></extra>",
    )


def _best_mark(trial: TrialView) -> Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[trial.epoch],
        y=[trial.value],
        name=f"best: {format_value(trial.value)}",
        mode="markers",
        marker={"symbol": "star", "size": 13, "color": "#D55E00", "line": {"width": 1, "color": "white"}},
        hovertemplate=f"best: trial {trial.trial}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
    )


def shown(text: str) -> str:
    """A text as plotly shows it as it is: it reads a little html, with links, in its texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
