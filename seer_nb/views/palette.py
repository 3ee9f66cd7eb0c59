"""Colours and dashes of curves: a survivor keeps its line style for as long as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Colours that colour-blind people can distinguish too (Okabe and Ito 2008). Black and yellow are left out because each
is invisible on either a dark or a light background."""
GREY = "#999999"
SVG_DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "12 3 2 3 2 3")
PLOTLY_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


class LineStyle(NamedTuple):
    """Colour and dash of one trial's curve; colour alone never distinguishes two trials."""

    colour: str
    dash: int
    """Index into SVG_DASHES and PLOTLY_DASHES."""


class Palette:
    """Assignment of a unique line style to each trial shown."""

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}

    def assign(self, trials: Iterable[int]) -> dict[int, LineStyle]:
        """Return the line styles of the trials shown now, and free the styles of all other trials."""
        shown = list(trials)
        self._slots = {trial: self._slots[trial] for trial in shown if trial in self._slots}
        taken = set(self._slots.values())
        free = (slot for slot in range(len(shown) + len(taken)) if slot not in taken)
        for trial in shown:
            if trial not in self._slots:
                self._slots[trial] = next(free)
        return {trial: _line_style(self._slots[trial]) for trial in shown}


def _line_style(slot: int) -> LineStyle:
    row, column = divmod(slot, len(OKABE_ITO))
    return LineStyle(OKABE_ITO[column], (row + column) % len(SVG_DASHES))
