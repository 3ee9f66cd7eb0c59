"""The static picture beside a live view: hidden while that lives, it is what a saved notebook still shows."""

from __future__ import annotations

from typing import Any

EVERY_S = 30.0
"""How often it is renewed."""


class Snapshot:
    """One output of a cell, which is replaced from time to time."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._renewed_s = float("-inf")
        self._final = False

    def show(self, picture: str, model: str) -> None:
        """Put it below the cell.

        Args:
            picture: A fragment of html, marked as standing for the model.
            model: Identity of the live view: while that is on the page, the picture is hidden.
        """
        from IPython.display import HTML, display

        handle = display(HTML(_hiding(model) + picture), display_id=True)
        if handle is not None:
            self._handles.append((handle, model))
        self._final = False

    def due(self, now_s: float, *, over: bool) -> bool:
        """Whether it is time for another one: now and then, and once when nothing will change any more."""
        return bool(self._handles) and ((over and not self._final) or now_s - self._renewed_s >= EVERY_S)

    def renew(self, picture: str, now_s: float, *, over: bool = False) -> None:
        """Replace it."""
        from IPython.display import HTML

        self._renewed_s, self._final = now_s, over
        for handle, model in self._handles:
            handle.update(HTML(_hiding(model) + picture))


def _hiding(model: str) -> str:
    """While the live view is on the page; and, in JupyterLab, the line about a widget that cannot be found."""
    return (
        "<style>"
        f':root:has(.seer-live[data-model="{model}"]) [data-stands-for="{model}"] {{ display: none; }}'
        f'.jp-OutputArea:has([data-stands-for="{model}"]) .jp-OutputArea-output.jupyter-widgets:not(:has(*))'
        " { display: none; }</style>"
    )
