"""Box constraints, by clipping after each step or by a change of variable; and the tensors that they bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping


By: TypeAlias = Literal["clip", "change"]
_MARGIN = 1e-4
"""Smallest distance of a start from a bound, relative to half the box width; tanh is too flat closer to the bound."""


@dataclass(frozen=True)
class Box:
    """The constraint low <= x <= high for every entry of a tensor.

    Args:
        low: Lower bound.
        high: Upper bound, above ``low``.
        by: "clip" clips x after each step. "change" optimises a free z with x = low + (high - low) (tanh z + 1) / 2;
            a start on a bound is then moved slightly inside. Use "change" for a lower problem whose solution may lie
            on a bound: there the gradient with respect to z vanishes, while the one with respect to x need not.

    Raises:
        ValueError: The bounds are empty, or "change" has an infinite one.

    Example:
        >>> weights = Box(0.0, 1.0, by="change")
        >>> bilevel.minimize(upper, lower, [u], [v], u_box=weights)
    """

    low: float = -math.inf
    high: float = math.inf
    by: By = "clip"

    def __post_init__(self) -> None:
        check_choice(self.by, "by", get_args(By))
        if not self.low < self.high:
            raise ValueError(f"low={short_repr(self.low)}: not below high={short_repr(self.high)}; expected low < high")
        if self.by == "change" and not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(
                f'by="change": low={short_repr(self.low)}, high={short_repr(self.high)} are not finite; '
                "expected two finite bounds"
            )

    def to_free(self, x: Tensor) -> Tensor:
        """Return the unconstrained variable that stands for x."""
        inside = x.clamp(self.low, self.high)
        if self.by == "clip":
            return inside
        scaled = 2 * (inside - self.low) / (self.high - self.low) - 1
        return torch.atanh(scaled.clamp(_MARGIN - 1, 1 - _MARGIN))

    def from_free(self, z: Tensor) -> Tensor:
        """Return the x of an unconstrained variable."""
        if self.by == "clip":
            return z
        # Rounding may exceed the bound slightly, so clamp here too.
        return (self.low + (self.high - self.low) * (torch.tanh(z) + 1) / 2).clamp(self.low, self.high)


class Variables:
    """Tensors that are optimised within their boxes."""

    def __init__(self, given: Sequence[Tensor], boxes: Sequence[Box]) -> None:
        self._boxes = tuple(boxes)
        self._start = [box.to_free(x.detach()).clone() for box, x in zip(boxes, given, strict=True)]
        self.free = [z.clone().requires_grad_() for z in self._start]
        """The unconstrained variables that the optimizer moves."""

    def values(self) -> list[Tensor]:
        """Return the values for the user's functions; differentiable with respect to ``free``."""
        return [box.from_free(z) for box, z in zip(self._boxes, self.free, strict=True)]

    def copy(self) -> list[Tensor]:
        """Return detached copies of the values."""
        return [x.detach().clone() for x in self.values()]

    def clip(self) -> None:
        """Clip the variables to the boxes that work by clipping."""
        with torch.no_grad():
            for box, z in zip(self._boxes, self.free, strict=True):
                if box.by == "clip" and (box.low > -math.inf or box.high < math.inf):
                    z.clamp_(box.low, box.high)

    def reset(self) -> None:
        """Set the variables to their start."""
        self.assign(self._start)

    def assign(self, free: Sequence[Tensor]) -> None:
        """Set the unconstrained variables."""
        with torch.no_grad():
            for z, value in zip(self.free, free, strict=True):
                z.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the variables and their start: a resumed run may be given a different start."""
        return {"free": self.free, "start": self._start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._start = to_devices_of(self._start, state["start"])
        self.assign(state["free"])


def to_devices_of(current: Sequence[Tensor], stored: Sequence[Tensor]) -> list[Tensor]:
    """Move stored tensors, which are loaded on the CPU, to the devices of the current ones."""
    return [tensor.to(like.device) for tensor, like in zip(stored, current, strict=True)]


def make_boxes(given: Any, name: str, count: int) -> list[Box]:
    """Return one box per tensor, from one box for all, or from a list of boxes and None.

    Raises:
        TypeError: Something is not a box.
        ValueError: The number of boxes is wrong.
    """
    boxes = [given] * count if given is None or isinstance(given, Box) else given
    if not isinstance(boxes, list | tuple) or not all(box is None or isinstance(box, Box) for box in boxes):
        raise TypeError(
            f"{name}={short_repr(given)}: not a box; expected a bilevel.Box(low, high), or a list of boxes and None"
        )
    if len(boxes) != count:
        raise ValueError(f"{name}: {len(boxes)} boxes for {count} tensors; expected one box each, or one for all")
    return [box or Box() for box in boxes]


def check_tensors(value: Any, name: str) -> list[Tensor]:
    """Return a list of finite floating-point tensors.

    Raises:
        TypeError: The value is not a list of floating-point tensors.
        ValueError: The list is empty, or a tensor has a value that is not finite.
    """
    if isinstance(value, Tensor) or not isinstance(value, Sequence):
        raise TypeError(f"{name}: type {type(value).__name__}; expected a list of tensors")
    if not value:
        raise ValueError(f"{name}={short_repr(value)}: empty; expected at least one tensor")
    for place, tensor in enumerate(value):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name}[{place}]: type {kind}; expected a tensor of floating-point numbers")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name}[{place}]: some values are not finite; expected finite values")
    return list(value)
