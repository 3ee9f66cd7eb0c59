"""The mean of durations of which some are not over yet."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


SPREAD = (0.03, 1.5)
"""Least and most standard deviation that is believed, of logarithms."""
STEPS = 20
GRAIN = 0.05
"""Logarithms of durations that are not over are told apart as finely as this, rounded down by once or twice as much:
who has lasted as long as others may be about to end, or has and is still to be heard."""
_FAR = 5.0
"""Standard deviations beyond which the normal distribution's tail is taken from its expansion."""


def censored_mean(known: Sequence[float], longer: Iterable[float]) -> float:
    """The mean of all, if their logarithms are distributed normally: by expectation and maximisation.

    Args:
        known: Durations that are over, in seconds; at least one.
        longer: How long the others have lasted by now.

    Returns:
        Seconds. Each of the others counts with what is expected of it, given how long it has lasted.

    Source: Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm", 1977, section 4.
    """
    logs = [math.log(max(seconds, 1e-9)) for seconds in known]
    bounds = Counter((math.floor(math.log(max(seconds, 1e-9)) / GRAIN) - 1) * GRAIN for seconds in longer)
    count = len(logs) + bounds.total()
    total, squares = sum(logs), sum(log * log for log in logs)
    mu, sigma = _fit(total, squares, len(logs))
    for _ in range(STEPS if bounds else 0):
        first, second = total, squares
        for bound, times in bounds.items():
            expected, spread = _beyond((bound - mu) / sigma)
            log = mu + sigma * expected
            first += times * log
            second += times * (log * log + sigma * sigma * spread)
        mu, sigma = _fit(first, second, count)
    late = sum(times * _longer_mean(mu, sigma, bound) for bound, times in bounds.items())
    return (sum(known) + late) / count


def _fit(total: float, squares: float, count: int) -> tuple[float, float]:
    mu = total / count
    sigma = math.sqrt(max(0.0, squares / count - mu * mu))
    return mu, min(max(sigma, SPREAD[0]), SPREAD[1])


def _beyond(z: float) -> tuple[float, float]:
    """Mean and variance of a standard normal variable that exceeds z."""
    if z > _FAR:
        return z + 1 / z, 1 / (z * z)
    hazard = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / _tail(z)
    return hazard, max(0.0, 1 + z * hazard - hazard * hazard)


def _longer_mean(mu: float, sigma: float, bound: float) -> float:
    """Of a log-normal variable whose logarithm exceeds a bound."""
    z = (bound - mu) / sigma
    if z > _FAR:
        return math.exp(bound) * (1 + sigma / z)
    return math.exp(mu + sigma * sigma / 2) * _tail(z - sigma) / _tail(z)


def _tail(z: float) -> float:
    """Probability that a standard normal variable exceeds z."""
    return math.erfc(z / math.sqrt(2)) / 2


def quantile(values: Iterable[float], share: float) -> float:
    """By linear interpolation, as numpy's percentile; values may be minus infinity."""
    order = sorted(values)
    place = share * (len(order) - 1)
    k = math.floor(place)
    low, high = order[k], order[min(k + 1, len(order) - 1)]
    return low if low == high or math.isinf(low) else low + (place - k) * (high - low)
