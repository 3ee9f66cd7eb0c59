"""Plotly figures of a trace, and of what came of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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


def levels_plot(rows: Sequence[Row]) -> Figure:
    """Both levels by outer step."""
    return lines_plot("The two levels", "value", _lines(rows, ("upper", "lower")), log=False)


def penalty_plot(rows: Sequence[Row]) -> Figure:
    """How far v is from solving the lower problem, and what the schedule did about it."""
    lines = _lines(rows, ("residual", "gamma", "regulariser", "eps"))
    return lines_plot("How well the lower problem is solved", "value, logarithmic", lines, log=True)


def _lines(rows: Sequence[Row], names: Iterable[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Of each name that has values, its label with steps and values."""
    found = {_LABELS[name]: [(row.step, getattr(row, name)) for row in rows] for name in names}
    kept = {label: [pair for pair in pairs if math.isfinite(pair[1])] for label, pairs in found.items()}
    return {label: ([x for x, _ in pairs], [y for _, y in pairs]) for label, pairs in kept.items() if pairs}


def lines_plot(
    title: str,
    unit: str,
    lines: dict[str, tuple[list[float], list[float]]],
    *,
    log: bool,
    across: str = "outer step",
) -> Figure:
    """Lines told apart by colour and dash."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(title, across, unit, log=log))
    for place, (label, (x, y)) in enumerate(lines.items()):
        line = {"color": OKABE_ITO[place % len(OKABE_ITO)], "dash": PLOTLY_DASHES[place % len(PLOTLY_DASHES)]}
        figure.add_trace(go.Scatter(x=x, y=y, name=label, mode="lines", line=line))
    return figure


def histogram_plot(title: str, across: str, groups: dict[str, list[float]]) -> Figure:
    """How values are distributed in each group, told apart by colour and hatch."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={**_layout(title, across, "count", log=False), "barmode": "overlay"})
    for place, (label, values) in enumerate(groups.items()):
        marker = {"color": OKABE_ITO[place], "pattern": {"shape": ("", "/", "x")[place % 3]}}
        figure.add_trace(go.Histogram(x=values, name=label, nbinsx=40, opacity=0.6, marker=marker))
    return figure


def bars_plot(title: str, across: str, unit: str, bars: dict[str, float]) -> Figure:
    """A bar a name."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(title, across, unit, log=False))
    figure.add_trace(go.Bar(x=list(bars), y=list(bars.values()), marker={"color": OKABE_ITO[0]}))
    return figure


def _layout(title: str, across: str, unit: str, *, log: bool) -> dict[str, Any]:
    return {
        "template": "plotly_white",
        "title": {"text": title},
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": unit}, "type": "log" if log else "linear"},
        "showlegend": True,
    }
