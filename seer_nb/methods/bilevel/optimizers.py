"""The three baselines of the penalty method, and what all four solvers share: one outer step, its state, and Adam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from seer_nb.methods.bilevel.constraints import Box, Variables
from seer_nb.methods.bilevel.problem import Stateful, grad, norm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.options import SolverOptions
    from seer_nb.methods.bilevel.problem import Batch, Problem
    from seer_nb.methods.bilevel.schedule import PenaltySchedule


class StepInfo(NamedTuple):
    """Values of one outer step, at its last v and before it moved u."""

    upper: float
    """f."""
    lower: float
    """g."""
    residual: float
    """||grad_v g||."""
    schedule: PenaltySchedule | None = None
    """Schedule in force at the step; None unless the solver is the penalty method."""


class Solver(Stateful, Protocol):
    """A method that takes outer steps: ``inner_steps`` steps on v, and one on u."""

    def step(self, batch: Batch) -> StepInfo:
        """Take one outer step."""


class PartsState:
    """The state of a solver as the states of its parts; the problem's u and v are saved by the outer loop."""

    parts: Mapping[str, Stateful]

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


class BoxedAdam:
    """Adam on variables that stay in their boxes."""

    def __init__(self, variables: Variables, lr: float) -> None:
        self._variables = variables
        self._adam = torch.optim.Adam(variables.free, lr=lr)

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Take one descent step, and clip."""
        for z, gradient in zip(self._variables.free, gradients, strict=True):
            z.grad = gradient
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self._variables.clip()

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate of all later steps."""
        for group in self._adam.param_groups:
            group["lr"] *= factor

    def reset(self) -> None:
        """Set the variables to their start, and clear the moments."""
        self._variables.reset()
        self._adam.state.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the moments and the current learning rate."""
        return dict(self._adam.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._adam.load_state_dict(dict(state))


class AlternatingDescent(PartsState):
    """GD: T steps of Adam on v along g, then one on u along f as if v did not depend on u.

    The direction is wrong where u acts through v. It is the naive method that the other methods must beat.
    """

    def __init__(self, problem: Problem, options: SolverOptions) -> None:
        self._problem, self._options = problem, options
        self._u, self._v = BoxedAdam(problem.u, options.lr_u), BoxedAdam(problem.v, options.lr_v)
        self.parts = {"u": self._u, "v": self._v}

    def step(self, batch: Batch) -> StepInfo:
        _minimize_lower(self._problem, self._options, self._v, batch)
        upper, lower = self._problem.upper(batch), self._problem.lower(batch)
        residual = grad([lower], self._problem.v.free)
        self._u.step(grad([upper], self._problem.u.free))
        return StepInfo(upper.item(), lower.item(), norm(residual))


class ReverseMode(PartsState):
    """RMD: T plain gradient steps on v, then back-propagation through them (Franceschi et al., ICML 2017).

    The gradient is exact for the v that T steps reach, which is not yet v*(u). All T iterates of v are stored, so
    memory grows with T. Back-propagation ignores the clipping of v: if a box on v binds, use one by change of variable.
    """

    def __init__(self, problem: Problem, options: SolverOptions) -> None:
        self._problem, self._options = problem, options
        self._u = BoxedAdam(problem.u, options.lr_u)
        self.parts = {"u": self._u}

    def step(self, batch: Batch) -> StepInfo:
        u, v = self._problem.u, self._problem.v
        if not self._options.warm_start:
            v.reset()
        path = [self._step_lower(batch) for _ in range(self._options.inner_steps)]
        end = [z.detach().clone() for z in v.free]
        upper, lower = self._problem.upper(batch), self._problem.lower(batch)
        residual = norm(grad([lower], v.free))
        found = grad([upper], [*u.free, *v.free])
        by_u, by_v = found[: len(u.free)], found[len(u.free) :]
        while path:
            v.assign(path.pop())
            by_u, by_v = self._backpropagate(batch, by_u, by_v)
        v.assign(end)
        self._u.step(by_u)
        return StepInfo(upper.item(), lower.item(), residual)

    def _step_lower(self, batch: Batch) -> list[Tensor]:
        """Take one step on v along g, and return the v before it."""
        v = self._problem.v
        before = [z.detach().clone() for z in v.free]
        gradient = self._problem.lower_gradient(batch)
        v.assign([z - self._options.lr_v * slope for z, slope in zip(v.free, gradient, strict=True)])
        v.clip()
        return before

    def _backpropagate(self, batch: Batch, by_u: list[Tensor], by_v: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Propagate the derivatives of f back through one step v = v - lr grad_v g."""
        u, v = self._problem.u.free, self._problem.v.free
        _, residual = self._problem.lower_and_residual(batch)
        found = grad(residual, [*u, *v], by_v)
        pairs = zip([*by_u, *by_v], found, strict=True)
        moved = [now - self._options.lr_v * change for now, change in pairs]
        return moved[: len(u)], moved[len(u) :]


class ApproxGrad(PartsState):
    """ApproxGrad: T steps of Adam on v, T + 1 on p for (grad2_vv g + sigma) p = grad_v f by least squares, one on u.

    The hypergradient is grad_u f - grad2_uv g p. Like v, p continues from the previous outer step. T + 1 is the number
    of the authors' comparison (github.com/hammlab/bilevel-penalty, bilevel_approxgrad_synthetic.py).
    """

    def __init__(self, problem: Problem, options: SolverOptions) -> None:
        self._problem, self._options = problem, options
        self._u, self._v = BoxedAdam(problem.u, options.lr_u), BoxedAdam(problem.v, options.lr_v)
        zeros = [torch.zeros_like(z) for z in problem.v.free]
        self._p = Variables(zeros, [Box()] * len(zeros))
        self._p_adam = BoxedAdam(self._p, options.linear_system_lr)
        self.parts = {"u": self._u, "v": self._v, "p": self._p, "p_mover": self._p_adam}

    def step(self, batch: Batch) -> StepInfo:
        problem, u = self._problem, self._problem.u.free
        _minimize_lower(problem, self._options, self._v, batch)
        upper = problem.upper(batch)
        found = grad([upper], [*u, *problem.v.free])
        lower, residual = problem.lower_and_residual(batch)
        self._solve(residual, found[len(u) :])
        through_v = grad(residual, u, [p.detach() for p in self._p.free])
        self._u.step([direct - indirect for direct, indirect in zip(found[: len(u)], through_v, strict=True)])
        return StepInfo(upper.item(), lower.item(), norm(residual))

    def _solve(self, residual: list[Tensor], target: list[Tensor]) -> None:
        """Take T + 1 steps on p along ||A p - target||^2 / 2 with A = H + sigma; its gradient is A (A p - target)."""
        for _ in range(self._options.inner_steps + 1):
            product = self._multiply(residual, [p.detach() for p in self._p.free])
            error = [found - want for found, want in zip(product, target, strict=True)]
            self._p_adam.step(self._multiply(residual, error))

    def _multiply(self, residual: list[Tensor], x: list[Tensor]) -> list[Tensor]:
        """Return (grad2_vv g + sigma) x."""
        found = grad(residual, self._problem.v.free, x, keep_graph=True)
        return [product + self._options.sigma * entry for product, entry in zip(found, x, strict=True)]


def _minimize_lower(problem: Problem, options: SolverOptions, adam: BoxedAdam, batch: Batch) -> None:
    """Take T steps of Adam on v along g."""
    if not options.warm_start:
        adam.reset()
    for _ in range(options.inner_steps):
        adam.step(problem.lower_gradient(batch))
