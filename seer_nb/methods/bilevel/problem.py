"""The two levels as functions of what is moved, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from seer_nb._utils.text import short_repr

if TYPE_CHECKING:
    from seer_nb.methods.bilevel.constraints import Variables


Level = Callable[..., Tensor]
"""(u, v) or, with minibatches, (u, v, batch) -> a tensor of one number. u and v are lists of tensors."""


class Batch(NamedTuple):
    """What the two functions are given beside u and v: a tuple of one, or nothing."""

    upper: tuple[Any, ...] = ()
    lower: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Problem:
    """min over u of f(u, v*(u)) with v*(u) = argmin over v of g(u, v), and optionally h(u, v) <= 0."""

    f: Level
    g: Level
    u: Variables
    v: Variables
    h: Level | None = None

    def upper(self, batch: Batch) -> Tensor:
        """F at the point where the variables are."""
        return number(self.f(self.u.values(), self.v.values(), *batch.upper), "upper")

    def lower(self, batch: Batch) -> Tensor:
        """G there."""
        return number(self.g(self.u.values(), self.v.values(), *batch.lower), "lower")

    def slope(self, batch: Batch) -> list[Tensor]:
        """grad_v g as numbers."""
        return grad([self.lower(batch)], self.v.free)

    def residual(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """G, and grad_v g as a function of u and v: zero where v solves the lower problem."""
        value = self.lower(batch)
        if not value.requires_grad:
            raise ValueError("lower does not depend on u or v by torch operations: it must, on v at least")
        found = torch.autograd.grad(value, self.v.free, create_graph=True, materialize_grads=True)
        return value, list(found)

    def excess(self) -> Tensor | None:
        """H as a vector: its entries must not be above zero."""
        return None if self.h is None else self.h(self.u.values(), self.v.values()).reshape(-1)


def grad(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], weights: Sequence[Tensor] | None = None, *, keep: bool = False
) -> list[Tensor]:
    """Gradient of the weighted sum of the outputs; zero for an input that nothing depends on.

    Args:
        outputs: Tensors; those that need no gradient count as constants.
        inputs: Tensors with regard to which is derived.
        weights: A tensor of its shape for each output; without, each output is one number with the weight 1.
        keep: Whether the graph is needed again.
    """
    paired = zip(outputs, weights or [torch.ones_like(output) for output in outputs], strict=True)
    live = [(output, weight) for output, weight in paired if output.requires_grad]
    if not live:
        return [torch.zeros_like(tensor) for tensor in inputs]
    ends, starts = zip(*live, strict=True)
    return list(torch.autograd.grad(ends, inputs, starts, retain_graph=keep, materialize_grads=True))


def norm(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm of all entries together."""
    return torch.stack([tensor.detach().square().sum() for tensor in tensors]).sum().sqrt().item()


def number(value: Any, name: str) -> Tensor:
    """What a level returned, if it is one number."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} returned {short_repr(value)}: it must return a tensor of one number")
    if value.numel() != 1:
        raise ValueError(f"{name} returned a tensor of the shape {tuple(value.shape)}: it must return one number")
    return value.reshape(())
