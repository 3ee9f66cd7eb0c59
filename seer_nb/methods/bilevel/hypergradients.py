"""Hypergradients at one point: the exact one, and the penalty method's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from seer_nb._utils.validation import check_number
from seer_nb.methods.bilevel.constraints import Box, Variables, tensors
from seer_nb.methods.bilevel.penalty import slopes
from seer_nb.methods.bilevel.problem import Batch, Problem, grad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.problem import Level


def hypergradient(upper: Level, lower: Level, u: Sequence[Tensor], v: Sequence[Tensor]) -> list[Tensor]:
    """grad_u f - grad2_uv g [grad2_vv g]^-1 grad_v f: how f(u, v*(u)) changes with u, if v is v*(u).

    By the implicit function theorem, with the whole Hessian: memory O(V^2) for V entries of v, so for small problems
    and for checks.

    Args:
        upper: f(u, v), a tensor of one number.
        lower: g(u, v), twice differentiable.
        u: Tensors of any shapes.
        v: Tensors where grad_v g is zero.

    Returns:
        A tensor for each of u, of its shape.

    Raises:
        ValueError: The Hessian is singular, or an argument cannot be.
    """
    problem = _problem(upper, lower, u, v)
    us, vs = problem.u.free, problem.v.free
    _, residual = problem.residual(Batch())
    flat = torch.cat([r.reshape(-1) for r in residual])
    rows = [_flat(grad([entry], vs, keep=True)) for entry in flat]
    found = grad([problem.upper(Batch())], [*us, *vs])
    try:
        p = torch.linalg.solve(torch.stack(rows), _flat(found[len(us) :]))
    except RuntimeError as error:
        raise ValueError("the Hessian of lower with regard to v is singular, so there is no hypergradient") from error
    through_v = grad([flat], us, [p])
    return [direct - slope for direct, slope in zip(found[: len(us)], through_v, strict=True)]


def penalty_gradient(
    upper: Level, lower: Level, u: Sequence[Tensor], v: Sequence[Tensor], gamma: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Derivatives of f + (gamma / 2) ||grad_v g||^2 with regard to u and v.

    Where that with regard to v is zero, that with regard to u is the hypergradient up to O(1 / gamma).

    Raises:
        ValueError: An argument cannot be.
    """
    problem = _problem(upper, lower, u, v)
    by = slopes(problem, Batch(), [*problem.u.free, *problem.v.free], check_number(gamma, "gamma", above=0.0)).by
    return by[: len(u)], by[len(u) :]


def _problem(upper: Level, lower: Level, u: Sequence[Tensor], v: Sequence[Tensor]) -> Problem:
    us, vs = tensors(u, "u"), tensors(v, "v")
    return Problem(upper, lower, Variables(us, [Box()] * len(us)), Variables(vs, [Box()] * len(vs)))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
