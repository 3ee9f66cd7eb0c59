"""Statistics for policies: the mean of partly unfinished durations, and quantiles."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


SIGMA_RANGE = (0.03, 1.5)
"""Least and greatest standard deviation of the logarithms that a fit may return."""
ITERATIONS = 20
"""Steps of expectation and maximisation."""
BIN_WIDTH = 0.05
"""Width of the bins for logarithms of unfinished durations.

A logarithm is rounded down by one to two widths: a trial that has run as long as the finished ones may be about to
end, or its report may still be on the way."""
_FAR_TAIL = 5.0
"""Standard deviations from which on the tail of the normal distribution is expanded instead of computed."""


def censored_mean(known: Sequence[float], longer: Iterable[float]) -> float:
    """Return the mean of finished and unfinished durations, under a log-normal distribution.

    Args:
        known: Finished durations in seconds; at least one.
        longer: Elapsed seconds of the unfinished ones.

    Returns:
        Seconds. Each unfinished duration counts with its expectation, given its elapsed time.

    Source: Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm", 1977, section 4.
    """
    logs = [math.log(max(seconds, 1e-9)) for seconds in known]
    bounds = Counter((math.floor(math.log(max(seconds, 1e-9)) / BIN_WIDTH) - 1) * BIN_WIDTH for seconds in longer)
    count = len(logs) + bounds.total()
    total, squares = sum(logs), sum(log * log for log in logs)
    mu, sigma = _fit(total, squares, len(logs))
    for _ in range(ITERATIONS if bounds else 0):
        first, second = total, squares
        for bound, times in bounds.items():
            expected, variance = _truncated_normal((bound - mu) / sigma)
            log = mu + sigma * expected
            first += times * log
            second += times * (log * log + sigma * sigma * variance)
        mu, sigma = _fit(first, second, count)
    unfinished = sum(times * _truncated_log_normal_mean(mu, sigma, bound) for bound, times in bounds.items())
    return (sum(known) + unfinished) / count


def sorted_quantile(order: Sequence[float], share: float, without: int | None = None) -> float:
    """Return a quantile by linear interpolation, as ``numpy.quantile`` does; values may be minus infinity.

    Args:
        order: Values, ascending.
        share: Share of the values below the quantile, from 0 to 1.
        without: Index of a value that does not count; None: all count.
    """

    def value(k: int) -> float:
        return order[k if without is None or k < without else k + 1]

    last = len(order) - (without is not None) - 1
    place = share * last
    k = math.floor(place)
    low, high = value(k), value(min(k + 1, last))
    return low if low == high or math.isinf(low) else low + (place - k) * (high - low)


def _fit(total: float, squares: float, count: int) -> tuple[float, float]:
    mu = total / count
    sigma = math.sqrt(max(0.0, squares / count - mu * mu))
    return mu, min(max(sigma, SIGMA_RANGE[0]), SIGMA_RANGE[1])


def _truncated_normal(z: float) -> tuple[float, float]:
    """Return mean and variance of a standard normal variable that exceeds z."""
    if z > _FAR_TAIL:
        return z + 1 / z, 1 / (z * z)
    hazard = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / _tail(z)
    return hazard, max(0.0, 1 + z * hazard - hazard * hazard)


def _truncated_log_normal_mean(mu: float, sigma: float, bound: float) -> float:
    """Return the mean of a log-normal variable whose logarithm exceeds a bound."""
    z = (bound - mu) / sigma
    if z > _FAR_TAIL:
        return math.exp(bound) * (1 + sigma / z)
    return math.exp(mu + sigma * sigma / 2) * _tail(z - sigma) / _tail(z)


def _tail(z: float) -> float:
    """Return the probability that a standard normal variable exceeds z."""
    return math.erfc(z / math.sqrt(2)) / 2
