"""The static picture beside a live view: a saved notebook still shows it; it is hidden while the live view exists."""

from __future__ import annotations

from typing import Any

RENEWAL_INTERVAL_S = 30.0
"""Seconds between two static pictures."""


class StaticPicture:
    """An output of a cell that is replaced periodically."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._renewed_s = float("-inf")
        self._final = False

    def show(self, picture: str, model: str) -> None:
        """Show a picture below the cell.

        Args:
            picture: Fragment of html that is marked as standing for the live view.
            model: Identity of the live view; while the live view is on the page, the picture is hidden.
        """
        from IPython.display import HTML, display

        handle = display(HTML(_hiding_style(model) + picture), display_id=True)
        if handle is not None:
            self._handles.append((handle, model))
        self._final = False

    def due(self, now_s: float, *, over: bool) -> bool:
        """Return whether a new picture is due: periodically, and once after the final update."""
        return bool(self._handles) and ((over and not self._final) or now_s - self._renewed_s >= RENEWAL_INTERVAL_S)

    def renew(self, picture: str, now_s: float, *, over: bool = False) -> None:
        """Replace the picture."""
        from IPython.display import HTML

        self._renewed_s, self._final = now_s, over
        for handle, model in self._handles:
            handle.update(HTML(_hiding_style(model) + picture))


def _hiding_style(model: str) -> str:
    """Return a style that hides the picture beside its live view, and JupyterLab's error about a missing widget."""
    return (
        "<style>"
        f':root:has(.seer-live[data-model="{model}"]) [data-stands-for="{model}"] {{ display: none; }}'
        f'.jp-OutputArea:has([data-stands-for="{model}"]) .jp-OutputArea-output.jupyter-widgets:not(:has(*))'
        " { display: none; }</style>"
    )
