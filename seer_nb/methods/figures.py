"""The plotly layout that the figures of all methods share."""

from __future__ import annotations

from typing import Any


def figure_layout(title: str, x_title: str, y_title: str) -> dict[str, Any]:
    """Return a new layout with a title and the titles of both axes."""
    return {
        "template": "plotly_white",
        "title": {"text": title},
        "xaxis": {"title": {"text": x_title}},
        "yaxis": {"title": {"text": y_title}},
    }
