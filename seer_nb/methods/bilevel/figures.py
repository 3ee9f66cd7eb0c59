"""Plotly figures of a trace, and of the results of the applications."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from seer_nb.methods.figures import figure_layout
from seer_nb.views.palette import OKABE_ITO, PLOTLY_DASHES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plotly.graph_objects import Figure

    from seer_nb.methods.bilevel.trace import Row


_LABELS = {
    "upper": "upper: f(u, v)",
    "lower": "lower: g(u, v)",
    "residual": "||grad_v g||",
    "gamma": "gamma",
    "regulariser": "lambda",
    "eps": "eps",
}


def plot_levels(rows: Sequence[Row]) -> Figure:
    """Plot f and g by outer step."""
    return plot_lines("The two levels", "value", _lines(rows, ("upper", "lower")), log=False)


def plot_penalty(rows: Sequence[Row]) -> Figure:
    """Plot the residual of the lower problem and the schedule by outer step."""
    lines = _lines(rows, ("residual", "gamma", "regulariser", "eps"))
    return plot_lines("Residual of the lower problem", "value (log scale)", lines, log=True)


def plot_lines(
    title: str,
    y_title: str,
    lines: dict[str, tuple[list[float], list[float]]],
    *,
    log: bool,
    x_title: str = "outer step",
) -> Figure:
    """Plot lines that differ in colour and dash.

    Args:
        title: Title of the figure.
        y_title: Title of the y axis.
        lines: Label to x and y values.
        log: Whether the y axis is logarithmic.
        x_title: Title of the x axis.
    """
    import plotly.graph_objects as go

    figure = _figure(title, x_title, y_title, log=log)
    for place, (label, (x, y)) in enumerate(lines.items()):
        line = {"color": OKABE_ITO[place % len(OKABE_ITO)], "dash": PLOTLY_DASHES[place % len(PLOTLY_DASHES)]}
        figure.add_trace(go.Scatter(x=x, y=y, name=label, mode="lines", line=line))
    return figure


def plot_histogram(title: str, x_title: str, label: str, values: list[float]) -> Figure:
    """Plot the distribution of values."""
    import plotly.graph_objects as go

    figure = _figure(title, x_title, "count")
    figure.add_trace(go.Histogram(x=values, name=label, nbinsx=40, opacity=0.6, marker={"color": OKABE_ITO[0]}))
    return figure


def plot_bars(title: str, x_title: str, y_title: str, bars: dict[str, float]) -> Figure:
    """Plot one bar per name."""
    import plotly.graph_objects as go

    figure = _figure(title, x_title, y_title)
    figure.add_trace(go.Bar(x=list(bars), y=list(bars.values()), marker={"color": OKABE_ITO[0]}))
    return figure


def _figure(title: str, x_title: str, y_title: str, *, log: bool = False) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure(layout={**figure_layout(title, x_title, y_title), "showlegend": True})
    return figure.update_yaxes(type="log" if log else "linear")


def _lines(rows: Sequence[Row], names: Iterable[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Return steps and finite values by label, for each column that has any."""
    found = {_LABELS[name]: [(row.step, getattr(row, name)) for row in rows] for name in names}
    kept = {label: [pair for pair in pairs if math.isfinite(pair[1])] for label, pairs in found.items()}
    return {label: ([x for x, _ in pairs], [y for _, y in pairs]) for label, pairs in kept.items() if pairs}
