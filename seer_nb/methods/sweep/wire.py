"""A cell's fits as the metrics of one report, and back: so a study's journal holds them, to the last bit."""

from __future__ import annotations

import math
from statistics import mean, median
from typing import TYPE_CHECKING

from seer_nb.methods.sweep.fitting import Fit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

METRIC = "validation_rmse"
"""What a study of a sweep minimises: the mean over a cell's repeats."""
_OF_FITS = ("validation", "rmse", "ct_s", "converged")
_OF_TARGETS = ("units", "standard")


def metrics(fits: Sequence[Fit], targets: Iterable[str]) -> dict[str, float]:
    """As one report: three numbers to look at, then those of each repeat."""
    found = {
        METRIC: mean(fit.validation for fit in fits),
        "rmse": mean(fit.rmse for fit in fits),
        "ct_s": median(fit.ct_s for fit in fits),
    }
    names = tuple(targets)
    for repeat, fit in enumerate(fits, 1):
        found |= {_of_fit(name, repeat): getattr(fit, name) for name in _OF_FITS}
        for kind in _OF_TARGETS:
            values = zip(names, getattr(fit, kind), strict=True)
            found |= {_of_target(kind, repeat, target): value for target, value in values}
    return found


def fits(reported: Mapping[str, float | None], targets: Iterable[str], repeats: int) -> tuple[Fit, ...]:
    """The fits of a report."""
    names = tuple(targets)

    def read(name: str) -> float:
        value = reported[name]
        return math.nan if value is None else value

    def fit(repeat: int) -> Fit:
        numbers = {name: read(_of_fit(name, repeat)) for name in _OF_FITS}
        units, standard = (tuple(read(_of_target(kind, repeat, name)) for name in names) for kind in _OF_TARGETS)
        return Fit(**numbers, units=units, standard=standard)

    return tuple(fit(repeat) for repeat in range(1, repeats + 1))


def _of_fit(name: str, repeat: int) -> str:
    return f"{name}:{repeat}"


def _of_target(kind: str, repeat: int, target: str) -> str:
    return f"{kind}:{repeat}:{target}"
