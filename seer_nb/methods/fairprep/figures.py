"""Plotly figures of an experiment's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.views.palette import OKABE_ITO

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from plotly.graph_objects import Figure


SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star")
X, Y = "disparate_impact", "accuracy"


def make_figures(frame: pd.DataFrame) -> Mapping[str, Figure]:
    """Return the figures of a result by name; "test" only if the frame has test rows.

    Args:
        frame: ``FairResult.frame``.
    """
    wide = _one_row_per_run(frame)
    found = {
        "tradeoff": plot_tradeoff(wide[wide["split"] == "validation"], "validation"),
        "spread": plot_spread(wide[wide["split"] == "validation"], "validation"),
    }
    test = wide[wide["split"] == "test"]
    if len(test):
        found["test"] = plot_tradeoff(test, "test")
    return found


def plot_tradeoff(wide: pd.DataFrame, split: str) -> Figure:
    """Plot accuracy by disparate impact, one point per run; colour shows the learner, symbol the intervention.

    Args:
        wide: One row per run.
        split: Name of the examples, for the title.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(f"Accuracy and disparate impact, {split}", X, Y))
    learners, interventions = (list(dict.fromkeys(wide[name])) for name in ("learner", "intervention"))
    for (learner, intervention), runs in wide.groupby(["learner", "intervention"], sort=False):
        figure.add_trace(
            go.Scatter(
                x=runs[X],
                y=runs[Y],
                name=str(intervention),
                legendgroup=str(learner),
                legendgrouptitle={"text": str(learner)},
                mode="markers",
                marker={
                    "color": OKABE_ITO[learners.index(learner) % len(OKABE_ITO)],
                    "symbol": SYMBOLS[interventions.index(intervention) % len(SYMBOLS)],
                    "size": 9,
                    "opacity": 0.7,
                },
            )
        )
    # A click hides one intervention of one learner.
    figure.update_layout(legend={"groupclick": "toggleitem"}, height=max(450, 20 * len(figure.data) + 200))
    figure.add_vline(x=1.0, line={"dash": "dot"})
    return figure


def plot_spread(wide: pd.DataFrame, split: str) -> Figure:
    """Plot the spread of disparate impact over seeds, one box per intervention and learner.

    Args:
        wide: One row per run.
        split: Name of the examples, for the title.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout={**_layout(f"Disparate impact over seeds, {split}", "", X), "boxmode": "group"})
    for index, (learner, runs) in enumerate(wide.groupby("learner", sort=False)):
        colour = OKABE_ITO[index % len(OKABE_ITO)]
        figure.add_trace(go.Box(x=runs["intervention"], y=runs[X], name=str(learner), marker={"color": colour}))
    figure.add_hline(y=1.0, line={"dash": "dot"})
    return figure


def _one_row_per_run(frame: pd.DataFrame) -> pd.DataFrame:
    kept = frame[frame["metric"].isin([X, Y]) & frame["group"].isin(["all", "between"])]
    keys = ["run", "split", "learner", "preprocessor", "postprocessor"]
    wide = kept.pivot_table(index=keys, columns="metric", values="value", dropna=False, sort=False)
    wide = wide.reindex(columns=[X, Y]).dropna(how="all").reset_index()
    wide["intervention"] = [
        " + ".join(name for name in pair if name != "none") or "none"
        for pair in zip(wide["preprocessor"], wide["postprocessor"], strict=True)
    ]
    return wide


def _layout(title: str, x: str, y: str) -> dict[str, Any]:
    return {
        "template": "plotly_white",
        "title": {"text": title},
        "xaxis": {"title": {"text": x.replace("_", " ")}},
        "yaxis": {"title": {"text": y.replace("_", " ")}},
        "showlegend": True,
    }
