"""Criteria for the best setting on validation examples: ordered metrics, weights, or a function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_number
from seer_nb.methods.fairprep.metrics import COUNTS, DIFFERENCES, LOWER_IS_BETTER, RATES, RATIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    By: TypeAlias = str | Sequence[str] | Mapping[str, float] | Callable[[Mapping[str, float]], float]
    """A metric; metrics, the most important first; weights; or a function of all metrics (higher is better)."""


METRICS = (*RATES, "coverage", *RATIOS, *DIFFERENCES)
"""Metrics to select by; the rates are those of all examples."""
WEIGHT_RATIO = 10.0
"""Weight of a metric divided by that of the next one in an ordered list."""


def goodness(metric: str, value: float) -> float:
    """Return a value that is higher for better metrics; distances from the ideal are negative.

    A ratio r is as good as 1 / r, so the direction of a disparity does not matter.

    Args:
        metric: Name of the metric.
        value: Its value.
    """
    if metric in RATIOS:
        if math.isnan(value):
            return value
        return (min(value, 1 / value) if value > 0 else 0.0) - 1
    if metric in DIFFERENCES:
        return -abs(value)
    return -value if metric in LOWER_IS_BETTER else value


def make_scorer(by: Any) -> Callable[[Mapping[str, float]], float]:
    """Return a function of all metrics to a score; higher is better.

    Raises:
        TypeError: ``by`` has the wrong type.
        ValueError: A metric is unknown or occurs twice, or there is none.
    """
    if callable(by):
        return lambda metrics: float(by(metrics))
    weights = _read_weights(by)
    return lambda metrics: sum(weight * goodness(name, metrics[name]) for name, weight in weights.items())


def metric_names(by: Any) -> tuple[str, ...]:
    """Return the metrics of a criterion; ("accuracy",) for a function."""
    return ("accuracy",) if callable(by) else tuple(_read_weights(by))


def find_undominated(points: Sequence[Sequence[float]]) -> list[bool]:
    """Return for each point whether no other is as good in all coordinates and better in one; NaN is worst."""
    clean = [[-math.inf if math.isnan(x) else x for x in point] for point in points]

    def is_dominated(point: list[float]) -> bool:
        return any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in clean)

    return [not is_dominated(point) for point in clean]


def _read_weights(by: Any) -> dict[str, float]:
    """Return weights as given, or powers of ten for a list, as in github DataResponsibly/FairPrep."""
    expected = f"expected some of {', '.join(METRICS)}"
    if isinstance(by, str):
        by = [by]
    if isinstance(by, dict):
        weights = {name: check_number(weight, f"by[{name!r}]") for name, weight in by.items()}
    elif isinstance(by, list | tuple):
        weights = {name: WEIGHT_RATIO ** (len(by) - 1 - index) for index, name in enumerate(map(_check_text, by))}
        if len(weights) < len(by):
            raise ValueError(f"by={short_repr(by)}: duplicate metric; expected distinct metrics")
    else:
        raise TypeError(f"by={short_repr(by)}: neither a list of metrics, nor weights, nor a function; {expected}")
    if not weights:
        raise ValueError(f"by={short_repr(by)}: empty; {expected}")
    for name in weights:
        if name not in METRICS:
            cause = "a count, which is neither good nor bad" if name in COUNTS else "unknown"
            raise ValueError(f"by: metric {short_repr(name)} is {cause}; {expected}")
    return weights


def _check_text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"by: {short_repr(name)} is not a str; expected names of metrics")
    return name
