"""The penalty method (Mehra and Hamm, ACML 2021, arXiv 1911.03432): no inverse Hessian, and no stored iterates."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from seer_nb.methods.bilevel.constraints import to_devices_of
from seer_nb.methods.bilevel.optimizers import BoxedAdam, PartsState, StepInfo
from seer_nb.methods.bilevel.problem import grad, norm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.options import SolverOptions
    from seer_nb.methods.bilevel.problem import Batch, Problem
    from seer_nb.methods.bilevel.schedule import PenaltySchedule


class PenaltyMethod(PartsState):
    """T steps on v along F + lambda g, then one on u along F; the next stage once both gradients are small.

    F is the penalty function of ``evaluate_penalty``. An outer step takes O(T) gradients and Hessian-vector products,
    and holds one graph at a time, whatever T is.

    The test of a stage is the paper's: the norm of both gradients is at most eps, at the u before its step. The
    authors' code (github.com/hammlab/bilevel-penalty, bilevel_penalty_aug_lag.py) differs. It evaluates both gradients
    again after the step on u, compares the sum of their norms' fourth powers with eps^2, and adds the already grown
    gamma times that residual to nu. Measured on synthetic examples 1, 2 and 3, T = 1: the mean distance from the
    solution over 5 starts was 0.156, 0.750 and 0.086 by that rule, and 0.104, 0.083 and 0.057 by this one (600 outer
    steps, both learning rates 0.1, gamma = eps = 1, lambda = 10). With the authors' step sizes and 40 000 outer steps,
    hardly a stage ends, and both rules give the same distances to within 0.04.
    """

    def __init__(self, problem: Problem, options: SolverOptions, schedule: PenaltySchedule) -> None:
        self.schedule = schedule
        self._problem, self._options = problem, options
        self._u, self._v = BoxedAdam(problem.u, options.lr_u), BoxedAdam(problem.v, options.lr_v)
        self._multipliers = Multipliers(problem.v.free, schedule.multiplier)
        self._steps_in_stage = 0
        self.parts = {"u": self._u, "v": self._v, "multipliers": self._multipliers}

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts and of the schedule."""
        return {**super().state_dict(), "schedule": asdict(self.schedule), "waited": self._steps_in_stage}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.schedule, self._steps_in_stage = replace(self.schedule, **state["schedule"]), state["waited"]

    def step(self, batch: Batch) -> StepInfo:
        problem, schedule, count = self._problem, self.schedule, len(self._problem.u.free)
        if not self._options.warm_start:
            self._v.reset()
        for _ in range(self._options.inner_steps):
            found = self._evaluate(batch, problem.v.free)
            self._v.step(self._regularised(found.gradients, found.residual))
        found = self._evaluate(batch, [*problem.u.free, *problem.v.free])
        by_u, by_v = found.gradients[:count], self._regularised(found.gradients[count:], found.residual)
        self._u.step(by_u)
        self._tighten(found, norm([*by_u, *by_v]))
        return StepInfo(found.upper, found.lower, norm(found.residual), schedule)

    def _evaluate(self, batch: Batch, inputs: Sequence[Tensor]) -> PenaltyEvaluation:
        return evaluate_penalty(self._problem, batch, inputs, self.schedule.gamma, self._multipliers)

    def _regularised(self, by_v: Sequence[Tensor], residual: Sequence[Tensor]) -> list[Tensor]:
        """Add the gradient of lambda g, which is lambda times the known residual."""
        return [slope + self.schedule.regulariser * r for slope, r in zip(by_v, residual, strict=True)]

    def _tighten(self, found: PenaltyEvaluation, gradient_norm: float) -> None:
        """Begin the next stage if the gradients are small, or if patience has run out."""
        self._steps_in_stage += 1
        schedule = self.schedule
        if gradient_norm > schedule.eps and (schedule.patience is None or self._steps_in_stage < schedule.patience):
            return
        self._steps_in_stage = 0
        # Not when patience ran out: far from a minimum of F, the residual is a distance to it, not a constraint force.
        if schedule.augmented and gradient_norm <= schedule.eps:
            self._multipliers.update(found, schedule.gamma)
        for adam in (self._u, self._v):
            adam.scale_lr(schedule.lr_factor)
        self.schedule = schedule.tightened()


class PenaltyEvaluation(NamedTuple):
    """The penalty function's terms and derivatives at a point."""

    upper: float
    """f."""
    lower: float
    """g."""
    residual: list[Tensor]
    """grad_v g."""
    inequality: Tensor | None
    """h; None without inequalities."""
    gradients: list[Tensor]
    """Derivatives with respect to each of the requested tensors."""


class Multipliers:
    """Multipliers of the augmented Lagrangian: nu for grad_v g = 0, and mu for h <= 0."""

    def __init__(self, v: Sequence[Tensor], start: float) -> None:
        self.nu = [torch.full_like(z, start) for z in v]
        self.mu: Tensor | float = max(0.0, start)

    def state_dict(self) -> dict[str, Any]:
        return {"nu": self.nu, "mu": self.mu}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        mu = state["mu"]
        self.nu = to_devices_of(self.nu, state["nu"])
        self.mu = mu.to(self.nu[0].device) if isinstance(mu, torch.Tensor) else mu

    def update(self, found: PenaltyEvaluation, gamma: float) -> None:
        """Add the penalty's current force to the multipliers, so that gamma need not become infinite."""
        self.nu = [nu + gamma * r for nu, r in zip(self.nu, found.residual, strict=True)]
        if found.inequality is not None:
            self.mu = (self.mu + gamma * found.inequality).clamp(min=0)


def evaluate_penalty(
    problem: Problem, batch: Batch, inputs: Sequence[Tensor], gamma: float, multipliers: Multipliers | None = None
) -> PenaltyEvaluation:
    """Differentiate F = f + <nu, r> + (gamma / 2) ||r||^2 + (1 / 2 gamma) ||max(0, mu + gamma h)||^2 with r = grad_v g.

    The weights of r and h are constants, so one backward pass gives all derivatives: that of the penalty is the
    Hessian-vector product of g with nu + gamma r. The slack s of h + s^2 = 0 is replaced by its optimum, s^2 = max(0,
    -h - mu / gamma).

    Args:
        problem: The two levels, at the current variables.
        batch: The minibatches of both levels.
        inputs: Tensors to differentiate with respect to.
        gamma: Weight of the penalty.
        multipliers: nu and mu; None: zero.
    """
    upper = problem.upper(batch)
    lower, residual = problem.lower_and_residual(batch)
    inequality = problem.inequality()
    held = [r.detach() for r in residual]
    nu = multipliers.nu if multipliers else [torch.zeros_like(r) for r in held]
    outputs, weights = [upper, *residual], [torch.ones_like(upper)]
    weights += [n + gamma * r for n, r in zip(nu, held, strict=True)]
    if inequality is not None:
        mu = multipliers.mu if multipliers else 0.0
        outputs.append(inequality)
        weights.append((mu + gamma * inequality.detach()).clamp(min=0))
    gradients = grad(outputs, inputs, weights)
    return PenaltyEvaluation(
        upper.item(), lower.item(), held, None if inequality is None else inequality.detach(), gradients
    )
