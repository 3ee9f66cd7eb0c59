"""The two levels as functions of the optimised variables, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from seer_nb._utils.text import short_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.methods.bilevel.constraints import Variables


class Stateful(Protocol):
    """An object whose state is a dict of plain values and tensors."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""


Level: TypeAlias = Callable[..., Tensor]
"""(u, v), or with minibatches (u, v, batch), to a tensor of one number; u and v are lists of tensors."""


class Batch(NamedTuple):
    """The minibatches of one outer step: for each level a tuple of one batch, or an empty tuple without minibatches."""

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
    model: Stateful | None = None
    """Model whose buffers the levels change, such as the statistics of batch normalisation."""

    def upper(self, batch: Batch) -> Tensor:
        """Return f at the current variables."""
        return _check_scalar(self.f(self.u.values(), self.v.values(), *batch.upper), "upper")

    def lower(self, batch: Batch) -> Tensor:
        """Return g at the current variables."""
        return _check_scalar(self.g(self.u.values(), self.v.values(), *batch.lower), "lower")

    def lower_gradient(self, batch: Batch) -> list[Tensor]:
        """Return grad_v g without a graph."""
        return grad([self.lower(batch)], self.v.free)

    def lower_and_residual(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Return g and its residual grad_v g, differentiable in u and v; the residual is zero at v*(u).

        Raises:
            ValueError: g does not depend on u or v.
        """
        value = self.lower(batch)
        if not value.requires_grad:
            raise ValueError("lower does not depend on u or v by torch operations; expected it to depend on v at least")
        found = torch.autograd.grad(value, self.v.free, create_graph=True, materialize_grads=True)
        return value, list(found)

    def inequality(self) -> Tensor | None:
        """Return h as a vector, whose entries must not be positive; None without inequalities."""
        return None if self.h is None else self.h(self.u.values(), self.v.values()).reshape(-1)


def grad(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
    *,
    keep_graph: bool = False,
) -> list[Tensor]:
    """Return the gradient of a weighted sum of outputs; zero for an input that no output depends on.

    Args:
        outputs: Tensors; an output that requires no gradient counts as a constant.
        inputs: Tensors to differentiate with respect to.
        weights: One tensor per output, of the output's shape. None: scalar outputs with weight 1.
        keep_graph: Whether the graph is needed again.
    """
    paired = zip(outputs, weights or [torch.ones_like(output) for output in outputs], strict=True)
    live = [(output, weight) for output, weight in paired if output.requires_grad]
    if not live:
        return [torch.zeros_like(tensor) for tensor in inputs]
    ends, starts = zip(*live, strict=True)
    return list(torch.autograd.grad(ends, inputs, starts, retain_graph=keep_graph, materialize_grads=True))


def norm(tensors: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all entries together."""
    return torch.stack([tensor.detach().square().sum() for tensor in tensors]).sum().sqrt().item()


def _check_scalar(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} returned {short_repr(value)}; expected a tensor of one number")
    if value.numel() != 1:
        raise ValueError(f"{name} returned a tensor of the shape {tuple(value.shape)}; expected one number")
    return value.reshape(())
