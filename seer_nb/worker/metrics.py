"""Converts what a training function reports to floats, with errors that name the value."""

from __future__ import annotations

import math
import reprlib
from typing import Any


def as_float(value: Any, what: str, call: str) -> float:
    """Convert a float, an int, or a numpy or torch value with one element to a float, which may not be finite.

    Args:
        value: The value given.
        what: Name of the value, for the error.
        call: The method that got the value, for the error.

    Raises:
        TypeError: The value is anything else.
    """
    if type(value) is float:
        return value
    if not isinstance(value, str | bytes | bytearray) and getattr(value, "size", None) is not None:
        value = _element(value)
    if value is not None and not isinstance(value, str | bytes | bytearray):
        try:
            return float(value)
        except OverflowError:
            return math.inf
        except (TypeError, ValueError, RuntimeError):
            pass
    raise TypeError(
        f"{call} got {what}={_shown(value)}, of type {type(value).__name__}; "
        "expected one number (a float, an int, or a tensor or array with one element)"
    )


def as_finite_floats(values: dict[str, Any]) -> dict[str, float | None]:
    """Convert reported values to floats; a value that is not finite becomes None.

    Raises:
        TypeError: A value is not one number.
    """
    numbers = {name: as_float(value, name, "run.report()") for name, value in values.items()}
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def check_report(metric: str, unnamed: tuple[Any, ...], values: dict[str, Any]) -> None:
    """Check the arguments of ``run.report``.

    Args:
        metric: The study's metric.
        unnamed: Values without a name.
        values: Reported values by name.

    Raises:
        TypeError: There is a value without a name.
        ValueError: The study's metric is missing.
    """
    if unnamed:
        given = _shown(unnamed[0])
        raise TypeError(f"run.report() got {given} without a name; expected run.report({metric}=...)")
    if metric not in values:
        given = ", ".join(map(repr, values)) or "no metric"
        raise ValueError(f"run.report() got {given}, but the study's metric is {metric!r}")


def _element(value: Any) -> Any:
    """Return the element of an array or tensor that has exactly one; any other value as it is."""
    shape = getattr(value, "shape", ())
    try:
        return value.item() if math.prod(shape) == 1 else value
    except (TypeError, ValueError):
        return value


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"<shape {tuple(shape)}>" if shape else reprlib.repr(value)
