"""Which setting is best on validation examples: by metrics in order of importance, by weights, or by a formula."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_number
from seer_nb.methods.fairprep.metrics import COUNTS, DIFFERENCES, LOWER, RATES, RATIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    By: TypeAlias = str | Sequence[str] | Mapping[str, float] | Callable[[Mapping[str, float]], float]
    """A metric; metrics, the most important first; weights; or a function of all metrics, the higher the better."""


METRICS = (*RATES, "coverage", *RATIOS, *DIFFERENCES)
"""That can be selected by; those in a group are of all examples."""
STEP = 10.0
"""How many times as much a metric weighs as the next one in the order."""


def goodness(metric: str, value: float) -> float:
    """The higher, the better: distances to what is ideal count negative.

    A ratio's distance is that of the smaller of r and 1 / r to 1, so that it does not matter which group is on top.
    """
    if metric in RATIOS:
        if math.isnan(value):
            return value
        return (min(value, 1 / value) if value > 0 else 0.0) - 1
    if metric in DIFFERENCES:
        return -abs(value)
    return -value if metric in LOWER else value


def scorer(by: Any) -> Callable[[Mapping[str, float]], float]:
    """A function from metrics to a number, the higher the better.

    Raises:
        TypeError: ``by`` is nothing of that kind.
        ValueError: A metric is unknown, comes twice, or there is none.
    """
    if callable(by):
        return lambda metrics: float(by(metrics))
    weights = _weights(by)
    return lambda metrics: sum(weight * goodness(name, metrics[name]) for name, weight in weights.items())


def names(by: Any) -> tuple[str, ...]:
    """The metrics that are looked at; accuracy, where a function does not tell."""
    return ("accuracy",) if callable(by) else tuple(_weights(by))


def _weights(by: Any) -> dict[str, float]:
    """Powers of ten by order, as in github DataResponsibly/FairPrep, or as they were given."""
    hint = f"give some of {', '.join(METRICS)}"
    if isinstance(by, str):
        by = [by]
    if isinstance(by, dict):
        weights = {name: check_number(weight, f"by[{name!r}]") for name, weight in by.items()}
    elif isinstance(by, list | tuple):
        weights = {name: STEP ** (len(by) - 1 - place) for place, name in enumerate(map(_text, by))}
        if len(weights) < len(by):
            raise ValueError(f"by={short_repr(by)} has a metric twice: give each once")
    else:
        raise TypeError(f"by={short_repr(by)} is neither a list of metrics, nor weights, nor a function: {hint}")
    if not weights:
        raise ValueError(f"by={short_repr(by)} is empty: {hint}")
    for name in weights:
        if name not in METRICS:
            known = "is a count, which is not better or worse" if name in COUNTS else "is unknown"
            raise ValueError(f"by has the metric {short_repr(name)}, which {known}: {hint}")
    return weights


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"by has {short_repr(name)}, which is not a name: give names of metrics")
    return name


def undominated(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points are such that no other is as good in all ways and better in one; NaN is the worst there is."""
    clean = [[-math.inf if math.isnan(x) else x for x in point] for point in points]

    def beaten(point: list[float]) -> bool:
        return any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in clean)

    return [not beaten(point) for point in clean]
