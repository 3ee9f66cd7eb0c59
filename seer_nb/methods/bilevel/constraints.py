"""Box constraints: by clipping after each step, or by a change of variable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping


By = Literal["clip", "change"]
_INSIDE = 1e-4
"""How far inside the box, of its half width, a change of variable begins: at the bound itself its slope is zero."""


@dataclass(frozen=True)
class Box:
    """low <= x <= high for every entry of a tensor.

    By "clip", x is put back after each step. By "change", x = low + (high - low) (tanh z + 1) / 2 with z free; a value
    on the bound then begins a little inside. For a lower problem whose solution may lie on a bound use "change": there
    the gradient with regard to z vanishes, while the one with regard to x need not.
    """

    low: float = -math.inf
    high: float = math.inf
    by: By = "clip"

    def __post_init__(self) -> None:
        check_choice(self.by, "by", get_args(By))
        if not self.low < self.high:
            raise ValueError(f"low={short_repr(self.low)} is not below high={short_repr(self.high)}: give low < high")
        if self.by == "change" and not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(
                f'by="change" needs two finite bounds, not low={short_repr(self.low)}, high={short_repr(self.high)}'
            )

    def free(self, x: Tensor) -> Tensor:
        """The variable that is moved for x."""
        inside = x.clamp(self.low, self.high)
        if self.by == "clip":
            return inside
        scaled = 2 * (inside - self.low) / (self.high - self.low) - 1
        return torch.atanh(scaled.clamp(_INSIDE - 1, 1 - _INSIDE))

    def value(self, z: Tensor) -> Tensor:
        """The x of a moved variable."""
        if self.by == "clip":
            return z
        # Clamped too, for rounding may lead a hair over the bound.
        return (self.low + (self.high - self.low) * (torch.tanh(z) + 1) / 2).clamp(self.low, self.high)


class Variables:
    """Tensors that are moved, within their boxes."""

    def __init__(self, given: Sequence[Tensor], boxes: Sequence[Box]) -> None:
        self._boxes = tuple(boxes)
        self._start = [box.free(x.detach()).clone() for box, x in zip(boxes, given, strict=True)]
        self.free = [z.clone().requires_grad_() for z in self._start]

    def values(self) -> list[Tensor]:
        """As the user's functions take them; differentiable with regard to ``free``."""
        return [box.value(z) for box, z in zip(self._boxes, self.free, strict=True)]

    def copy(self) -> list[Tensor]:
        """The values, cut off from all that comes."""
        return [x.detach().clone() for x in self.values()]

    def clip(self) -> None:
        """Put back what a step has led out of its box."""
        with torch.no_grad():
            for box, z in zip(self._boxes, self.free, strict=True):
                if box.by == "clip" and (box.low > -math.inf or box.high < math.inf):
                    z.clamp_(box.low, box.high)

    def reset(self) -> None:
        """Back to the start."""
        self.put(self._start)

    def state_dict(self) -> dict[str, Any]:
        """The moved variables, and where they began: that comes from elsewhere when a run goes on."""
        return {"free": self.free, "start": self._start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._start = beside(state["start"], self._start)
        self.put(state["free"])

    def put(self, free: Sequence[Tensor]) -> None:
        """Set the moved variables."""
        with torch.no_grad():
            for z, value in zip(self.free, free, strict=True):
                z.copy_(value)


def beside(stored: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Stored tensors, which come on the CPU, on the devices of those that they stand for."""
    return [tensor.to(like.device) for tensor, like in zip(stored, given, strict=True)]


def boxes_for(given: Any, name: str, count: int) -> list[Box]:
    """A box a tensor, from one for all, or a list with None for those without."""
    every = [given] * count if given is None or isinstance(given, Box) else given
    if not isinstance(every, list | tuple) or not all(box is None or isinstance(box, Box) for box in every):
        raise TypeError(
            f"{name}={short_repr(given)} is no box: give a bilevel.Box(low, high), or a list of boxes and None"
        )
    if len(every) != count:
        raise ValueError(f"{name} has {len(every)} boxes for {count} tensors: give one for each, or one for all")
    return [box or Box() for box in every]


def tensors(value: Any, name: str) -> list[Tensor]:
    """A list of tensors of floating-point numbers, all of them finite."""
    if isinstance(value, Tensor) or not isinstance(value, Sequence):
        raise TypeError(f"{name} is of the type {type(value).__name__}: give a list of tensors")
    if not value:
        raise ValueError(f"{name}={short_repr(value)} is empty: give at least one tensor")
    for place, tensor in enumerate(value):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name}[{place}] is of the type {kind}: give tensors of floating-point numbers")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name}[{place}] holds values that are not finite: give finite ones")
    return list(value)
