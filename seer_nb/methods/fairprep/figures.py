"""Plotly figures of a result's frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.views.palette import OKABE_ITO

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from plotly.graph_objects import Figure


SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star")
X, Y = "disparate_impact", "accuracy"


def figures(frame: pd.DataFrame) -> Mapping[str, Figure]:
    """Figures by name; "test" only if there are test rows."""
    wide = _wide(frame)
    found = {
        "tradeoff": tradeoff_plot(wide[wide["split"] == "validation"], "validation"),
        "spread": spread_plot(wide[wide["split"] == "validation"], "validation"),
    }
    test = wide[wide["split"] == "test"]
    if len(test):
        found["test"] = tradeoff_plot(test, "test")
    return found


def tradeoff_plot(wide: pd.DataFrame, split: str) -> Figure:
    """Accuracy by disparate impact, a point a run: colour and symbol tell the learner, words the intervention."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(f"Accuracy and disparate impact, {split}", X, Y))
    for place, (learner, runs) in enumerate(wide.groupby("learner", sort=False)):
        figure.add_trace(
            go.Scatter(
                x=runs[X],
                y=runs[Y],
                name=str(learner),
                mode="markers",
                text=runs["intervention"],
                marker={
                    "color": OKABE_ITO[place % len(OKABE_ITO)],
                    "symbol": SYMBOLS[place % len(SYMBOLS)],
                    "opacity": 0.7,
                },
            )
        )
    figure.add_vline(x=1.0, line={"dash": "dot"})
    return figure


def spread_plot(wide: pd.DataFrame, split: str) -> Figure:
    """How disparate impact is spread over seeds, a box an intervention and learner."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={**_layout(f"Disparate impact over seeds, {split}", "", X), "boxmode": "group"})
    for place, (learner, runs) in enumerate(wide.groupby("learner", sort=False)):
        colour = OKABE_ITO[place % len(OKABE_ITO)]
        figure.add_trace(go.Box(x=runs["intervention"], y=runs[X], name=str(learner), marker={"color": colour}))
    figure.add_hline(y=1.0, line={"dash": "dot"})
    return figure


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
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
