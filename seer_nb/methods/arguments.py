"""Checks that arguments of methods share."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from seer_nb.core.units import show

if TYPE_CHECKING:
    from collections.abc import Collection


def whole(value: Any, name: str, least: int = 1) -> int:
    """A whole number, of Python or numpy.

    Raises:
        TypeError: It is none.
        ValueError: It is less.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={show(value)} is not a whole number: give one from {least} on")
    if value < least:
        raise ValueError(f"{name}={show(value)} is too small: give a whole number from {least} on")
    return int(value)


def real(value: Any, name: str, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number within bounds.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN or infinite, or out of bounds.
    """
    allowed = _allowed(above, least, most)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={show(value)} is not a number: give {allowed}")
    number = float(value)
    if not math.isfinite(number) or not (above < number and least <= number <= most):
        raise ValueError(f"{name}={show(value)} is out of bounds: give {allowed}")
    return number


def one_of(value: Any, name: str, options: Collection[str]) -> str:
    """One of some words.

    Raises:
        ValueError: It is another one.
    """
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}={show(value)} is unknown: give one of {', '.join(map(repr, options))}")
    return value


def _allowed(above: float, least: float, most: float) -> str:
    words = []
    if above > -math.inf:
        words.append(f"more than {above:g}")
    if least > -math.inf:
        words.append(f"at least {least:g}")
    if most < math.inf:
        words.append(f"at most {most:g}")
    return f"a finite number, {' and '.join(words)}" if words else "a finite number"
