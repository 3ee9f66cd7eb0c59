"""The penalty method (Mehra and Hamm, ACML 2021, arXiv 1911.03432): no inverse Hessian, and no path that is kept."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from seer_nb.methods.bilevel.constraints import beside
from seer_nb.methods.bilevel.optimizers import Mover, Parts, Told
from seer_nb.methods.bilevel.problem import grad, norm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.optimizers import Pace
    from seer_nb.methods.bilevel.problem import Batch, Problem
    from seer_nb.methods.bilevel.schedule import PenaltySchedule


class Slopes(NamedTuple):
    """The penalty function's derivatives at a point."""

    upper: float
    lower: float
    residual: list[Tensor]
    """grad_v g."""
    excess: Tensor | None
    """H, if there are inequalities."""
    by: list[Tensor]
    """With regard to each of the tensors that were asked for."""


class Multipliers:
    """Of the augmented Lagrangian: nu for grad_v g = 0, and mu for h <= 0."""

    def __init__(self, v: Sequence[Tensor], start: float) -> None:
        self.nu = [torch.full_like(z, start) for z in v]
        self.mu: Tensor | float = max(0.0, start)

    def state_dict(self) -> dict[str, Any]:
        """Both."""
        return {"nu": self.nu, "mu": self.mu}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        mu = state["mu"]
        self.nu = beside(state["nu"], self.nu)
        self.mu = mu.to(self.nu[0].device) if isinstance(mu, torch.Tensor) else mu

    def update(self, slopes: Slopes, gamma: float) -> None:
        """Take over what the penalty pulls with now, so that gamma need not become infinite."""
        self.nu = [nu + gamma * r for nu, r in zip(self.nu, slopes.residual, strict=True)]
        if slopes.excess is not None:
            self.mu = (self.mu + gamma * slopes.excess).clamp(min=0)


def slopes(
    problem: Problem, batch: Batch, inputs: Sequence[Tensor], gamma: float, multipliers: Multipliers | None = None
) -> Slopes:
    """Derivatives of f + <nu, r> + (gamma / 2) ||r||^2 + (1 / 2 gamma) ||max(0, mu + gamma h)||^2 with r = grad_v g.

    The weights of r and h are numbers, so that one backward pass gives all: grad_v of the penalty is the Hessian-vector
    product of g with nu + gamma r. The slack s of h + s^2 = 0 is put in at its best: s^2 = max(0, -h - mu / gamma).
    """
    upper = problem.upper(batch)
    lower, residual = problem.residual(batch)
    excess = problem.excess()
    held = [r.detach() for r in residual]
    nu = multipliers.nu if multipliers else [torch.zeros_like(r) for r in held]
    outputs, weights = [upper, *residual], [torch.ones_like(upper)]
    weights += [n + gamma * r for n, r in zip(nu, held, strict=True)]
    if excess is not None:
        mu = multipliers.mu if multipliers else 0.0
        outputs.append(excess)
        weights.append((mu + gamma * excess.detach()).clamp(min=0))
    by = grad(outputs, inputs, weights)
    return Slopes(upper.item(), lower.item(), held, None if excess is None else excess.detach(), by)


class Penalty(Parts):
    """T steps on v down F + lambda g, one on u down F; then a stage further, if both gradients are small.

    Time and memory of an outer step: O(T) gradients and Hessian-vector products; one graph at a time, whatever T.
    """

    def __init__(self, problem: Problem, pace: Pace, schedule: PenaltySchedule) -> None:
        self.schedule = schedule
        self._problem, self._pace = problem, pace
        self._u, self._v = Mover(problem.u, pace.lr_u), Mover(problem.v, pace.lr_v)
        self._multipliers = Multipliers(problem.v.free, schedule.multiplier)
        self._waited = 0
        self.parts = {"u": self._u, "v": self._v, "multipliers": self._multipliers}

    def state_dict(self) -> dict[str, Any]:
        """Of its parts, and where the schedule stands."""
        return {**super().state_dict(), "schedule": asdict(self.schedule), "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        self.schedule, self._waited = replace(self.schedule, **state["schedule"]), state["waited"]

    def step(self, batch: Batch) -> Told:
        """One outer step."""
        problem, schedule, count = self._problem, self.schedule, len(self._problem.u.free)
        if not self._pace.warm_start:
            self._v.restart()
        for _ in range(self._pace.inner_steps):
            found = self._slopes(batch, problem.v.free)
            self._v.move(self._regularised(found.by, found.residual))
        found = self._slopes(batch, [*problem.u.free, *problem.v.free])
        by_u, by_v = found.by[:count], self._regularised(found.by[count:], found.residual)
        self._u.move(by_u)
        self._tighten(found, norm([*by_u, *by_v]))
        return Told(found.upper, found.lower, norm(found.residual), schedule)

    def _slopes(self, batch: Batch, inputs: Sequence[Tensor]) -> Slopes:
        return slopes(self._problem, batch, inputs, self.schedule.gamma, self._multipliers)

    def _regularised(self, by_v: Sequence[Tensor], residual: Sequence[Tensor]) -> list[Tensor]:
        """With lambda g added, whose slope is known already."""
        return [slope + self.schedule.regulariser * r for slope, r in zip(by_v, residual, strict=True)]

    def _tighten(self, found: Slopes, size: float) -> None:
        """Go a stage further, if it is time."""
        self._waited += 1
        schedule = self.schedule
        if size > schedule.eps and (schedule.patience is None or self._waited < schedule.patience):
            return
        self._waited = 0
        # Not out of impatience: far from a minimum of F the multipliers would take over what is no pull but distance.
        if schedule.augmented and size <= schedule.eps:
            self._multipliers.update(found, schedule.gamma)
        for mover in (self._u, self._v):
            mover.slow(schedule.lr_factor)
        self.schedule = schedule.tightened()
