"""Plotly figures of a federated search."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from seer_nb.views.palette import GREY, OKABE_ITO
from seer_nb.views.plotly_curves import escape_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from seer_nb.methods.fedex.result import Result


ROW_PX = 20
"""Least height of a row of the heatmap, in pixels, at which all numbers are readable."""
TITLE_CHARACTERS = 90
"""Characters in a line of the subtitle, for a figure 700 pixels wide."""


def plot_curves(result: Result) -> Figure:
    """Plot each arm's validation error by round: the best arm in colour, all others as one grey trace."""
    import plotly.graph_objects as go

    frame = result.curves()
    best = None if result.best is None else result.best.trial
    rounds: list[int | None] = []
    values: list[float | None] = []
    for _, curve in frame[frame.trial != best].groupby("trial"):
        # None breaks the line between two curves of the same trace.
        rounds += [*curve.epoch, None]
        values += [*curve.value, None]
    figure = go.Figure(layout=_layout(f"{result.target} validation error by round", f"{result.target} error"))
    figure.add_scatter(x=rounds, y=values, mode="lines", name="other arms", line={"color": GREY, "width": 1})
    own = frame[frame.trial == best]
    figure.add_scatter(
        x=own.epoch, y=own.value, mode="lines", name=f"best: arm {best}", line={"color": OKABE_ITO[0], "width": 2}
    )
    return figure


def plot_theta(result: Result) -> Figure:
    """Plot the probabilities of the best arm's options by round as a heatmap with one row per option.

    A row is named by the option's number; the full configuration is in the hover text, and that of the option that is
    most probable in the last round below the title.
    """
    import plotly.graph_objects as go

    number = result.best.trial if result.best is not None else 0
    frame = result.theta()
    frame = frame[frame.trial == number]
    table = frame.pivot_table(index=["axis", "option", "label"], columns="epoch", values="probability")
    several = table.index.get_level_values("axis").nunique() > 1
    labels = [escape_text(label) for _, _, label in table.index]
    # The labels of a grid are short. A list's configurations have many values, for which there is no room at the axis.
    names = labels if several else [str(option) for _, option, _ in table.index]
    figure = go.Figure(layout=_layout(f"Probability of each configuration in arm {number}, by round", "configuration"))
    figure.add_heatmap(
        z=table.to_numpy(),
        x=list(table.columns),
        y=names,
        text=[[label] * len(table.columns) for label in labels],
        hovertemplate="round %{x}, configuration %{y}: probability %{z:.3f}<br>%{text}<extra></extra>",
        zmin=0,
        zmax=1,
        colorscale="Blues",
        colorbar={"title": {"text": "probability"}},
    )
    figure.update_yaxes(type="category", dtick=1)
    figure.update_layout(height=max(450, ROW_PX * len(names) + 200), margin={"t": 120})
    if not several and len(table):
        best = int(table.iloc[:, -1].to_numpy().argmax())
        subtitle = "<br>".join(wrap(f"most probable at the end: {names[best]}: {labels[best]}", TITLE_CHARACTERS))
        figure.update_layout(title={"subtitle": {"text": subtitle}})
    return figure


def _layout(title: str, y_title: str) -> dict[str, object]:
    return {
        "template": "plotly_white",
        "title": {"text": title},
        "xaxis": {"title": {"text": "communication round"}},
        "yaxis": {"title": {"text": y_title}},
    }
