"""Arguments that cannot be are answered by one sentence."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from seer_nb.core.units import show


def whole(value: Any, name: str, least: int = 1) -> int:
    """A whole number that is not too small."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={show(value)} is not a whole number: give one of at least {least}")
    if value < least:
        raise ValueError(f"{name}={show(value)} is too small: give a whole number of at least {least}")
    return int(value)


def real(value: Any, name: str, *, low: float = 0.0, high: float = math.inf, least: float | None = None) -> float:
    """A finite number above ``low`` (from ``least`` on, if that is given) and not above ``high``."""
    allowed = f"above {low:g}" if least is None else f"of at least {least:g}"
    allowed += f" and at most {high:g}" if math.isfinite(high) else ""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={show(value)} is not a number: give one {allowed}")
    number = float(value)
    if not math.isfinite(number) or number > high or (number <= low if least is None else number < least):
        raise ValueError(f"{name}={show(value)} is out of range: give a finite number {allowed}")
    return number


def one_of(value: Any, name: str, allowed: Collection[str]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in allowed:
        words = " or ".join(f'"{word}"' for word in allowed)
        raise ValueError(f"{name}={show(value)} is unknown: give {words}")
    return value


def tensors(value: Any, name: str) -> list[Tensor]:
    """A list of tensors of floating-point numbers, all of them finite."""
    if isinstance(value, Tensor) or not isinstance(value, Sequence):
        raise TypeError(f"{name} is of the type {type(value).__name__}: give a list of tensors")
    if not value:
        raise ValueError(f"{name}={show(value)} is empty: give at least one tensor")
    for place, tensor in enumerate(value):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name}[{place}] is of the type {kind}: give tensors of floating-point numbers")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name}[{place}] holds values that are not finite: give finite ones")
    return list(value)
