"""Colours and dashes: a survivor keeps the look that it was given for as long as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Colours told apart by colour-blind people too (Okabe and Ito 2008); without black and yellow, each of which is lost
on either a dark or a light background."""
GREY = "#999999"
SVG_DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "12 3 2 3 2 3")
PLOTLY_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


class Look(NamedTuple):
    """How a trial is drawn: never by colour alone."""

    colour: str
    dash: int
    """Place in SVG_DASHES and PLOTLY_DASHES."""


class Palette:
    """Gives each trial a look that no other one shown has."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}

    def deal(self, trials: Iterable[int]) -> dict[int, Look]:
        """Looks for the trials that are shown now; those no longer shown give theirs back."""
        shown = list(trials)
        self._places = {trial: self._places[trial] for trial in shown if trial in self._places}
        taken = set(self._places.values())
        free = (place for place in range(len(shown) + len(taken)) if place not in taken)
        for trial in shown:
            if trial not in self._places:
                self._places[trial] = next(free)
        return {trial: _look(self._places[trial]) for trial in shown}


def _look(place: int) -> Look:
    row, column = divmod(place, len(OKABE_ITO))
    return Look(OKABE_ITO[column], (row + column) % len(SVG_DASHES))
