"""Hypergradients at one point: the exact one, and the penalty method's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from seer_nb._utils.validation import check_number
from seer_nb.methods.bilevel.constraints import Box, Variables, check_tensors
from seer_nb.methods.bilevel.penalty import evaluate_penalty
from seer_nb.methods.bilevel.problem import Batch, Problem, grad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.problem import Level


def hypergradient(upper: Level, lower: Level, u: Sequence[Tensor], v: Sequence[Tensor]) -> list[Tensor]:
    """Return the derivative of f(u, v*(u)) with respect to u: grad_u f - grad2_uv g [grad2_vv g]^-1 grad_v f.

    The formula follows from the implicit function theorem, and holds at v = v*(u). It uses the whole Hessian, with
    memory O(V^2) for V entries of v: only for small problems and for checks.

    Args:
        upper: f(u, v), a tensor of one number.
        lower: g(u, v), twice differentiable.
        u: Tensors of any shapes.
        v: Tensors of any shapes, at which grad_v g is zero.

    Returns:
        One tensor per tensor of u, of the same shape.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: The Hessian is singular, or an argument has a wrong value.

    Example:
        >>> u, v = [torch.ones(3)], [torch.ones(3)]
        >>> hypergradient(lambda u, v: v[0].sum(), lambda u, v: (v[0] - u[0]).square().sum(), u, v)
        [tensor([1., 1., 1.])]
    """
    problem = _problem(upper, lower, u, v)
    us, vs = problem.u.free, problem.v.free
    _, residual = problem.lower_and_residual(Batch())
    flat = _flatten(residual)
    rows = [_flatten(grad([entry], vs, keep_graph=True)) for entry in flat]
    found = grad([problem.upper(Batch())], [*us, *vs])
    try:
        p = torch.linalg.solve(torch.stack(rows), _flatten(found[len(us) :]))
    except RuntimeError as error:
        raise ValueError("the Hessian of lower with respect to v is singular: there is no hypergradient") from error
    through_v = grad([flat], us, [p])
    return [direct - indirect for direct, indirect in zip(found[: len(us)], through_v, strict=True)]


def penalty_gradient(
    upper: Level, lower: Level, u: Sequence[Tensor], v: Sequence[Tensor], gamma: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the derivatives of f + (gamma / 2) ||grad_v g||^2 with respect to u and v.

    The penalty method follows these gradients (Mehra and Hamm, ACML 2021). Where the one for v is zero, the one for u
    is the hypergradient up to O(1 / gamma).

    Args:
        upper: f(u, v), a tensor of one number.
        lower: g(u, v), twice differentiable.
        u: Tensors of any shapes.
        v: Tensors of any shapes.
        gamma: Weight of the penalty, above 0.

    Returns:
        One list of tensors for u and one for v, of their shapes.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument has a wrong value.

    Example:
        >>> by_u, by_v = penalty_gradient(upper, lower, [u], [v], gamma=100.0)
    """
    problem = _problem(upper, lower, u, v)
    inputs = [*problem.u.free, *problem.v.free]
    gradients = evaluate_penalty(problem, Batch(), inputs, check_number(gamma, "gamma", greater_than=0.0)).gradients
    return gradients[: len(u)], gradients[len(u) :]


def _problem(upper: Level, lower: Level, u: Sequence[Tensor], v: Sequence[Tensor]) -> Problem:
    us, vs = check_tensors(u, "u"), check_tensors(v, "v")
    return Problem(upper, lower, Variables(us, [Box()] * len(us)), Variables(vs, [Box()] * len(vs)))


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
