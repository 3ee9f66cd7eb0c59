"""What the four methods have in common: a step of the outer level, what it is told by, and Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from seer_nb.methods.bilevel.constraints import Box, Variables
from seer_nb.methods.bilevel.problem import grad, norm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.problem import Batch, Problem
    from seer_nb.methods.bilevel.schedule import PenaltySchedule


@dataclass(frozen=True)
class Pace:
    """How many inner steps an outer step has, and how long steps are."""

    inner_steps: int
    lr_u: float
    lr_v: float
    lr_p: float
    """Of ApproxGrad's linear system."""
    sigma: float
    """Added to the diagonal of its matrix."""
    warm_start: bool
    """Whether v goes on from where the last outer step left it."""


class Told(NamedTuple):
    """What an outer step saw, at its last v and before u was moved."""

    upper: float
    lower: float
    residual: float
    """||grad_v g||."""
    schedule: PenaltySchedule | None = None
    """In force at that step."""


class Part(Protocol):
    """Something whose state can be kept: plain values and tensors."""

    def state_dict(self) -> dict[str, Any]:
        """All that later steps depend on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Method(Part, Protocol):
    """Moves u once and v ``inner_steps`` times."""

    def step(self, batch: Batch) -> Told:
        """One outer step."""


class Parts:
    """A method's state is that of its parts; u and v are kept by whoever made them."""

    parts: Mapping[str, Part]

    def state_dict(self) -> dict[str, Any]:
        """Of each part by its name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


class Mover:
    """Adam on variables that stay in their boxes."""

    def __init__(self, variables: Variables, lr: float) -> None:
        self._variables = variables
        self._adam = torch.optim.Adam(variables.free, lr=lr)

    def move(self, gradients: Sequence[Tensor]) -> None:
        """One step down."""
        for z, gradient in zip(self._variables.free, gradients, strict=True):
            z.grad = gradient
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self._variables.clip()

    def slow(self, factor: float) -> None:
        """Shorten all later steps."""
        for group in self._adam.param_groups:
            group["lr"] *= factor

    def state_dict(self) -> dict[str, Any]:
        """The moments, and the learning rate as it is now."""
        return dict(self._adam.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._adam.load_state_dict(dict(state))

    def restart(self) -> None:
        """Back to the start, and forget the moments."""
        self._variables.reset()
        self._adam.state.clear()


class Descent(Parts):
    """GD: T steps of Adam on v down g, one on u down f as if v did not depend on u.

    The direction is wrong wherever u acts through v alone: it is the naive method that others have to beat.
    """

    def __init__(self, problem: Problem, pace: Pace) -> None:
        self._problem, self._pace = problem, pace
        self._u, self._v = Mover(problem.u, pace.lr_u), Mover(problem.v, pace.lr_v)
        self.parts = {"u": self._u, "v": self._v}

    def step(self, batch: Batch) -> Told:
        """One outer step."""
        descend(self._problem, self._pace, self._v, batch)
        upper, lower = self._problem.upper(batch), self._problem.lower(batch)
        residual = grad([lower], self._problem.v.free)
        self._u.move(grad([upper], self._problem.u.free))
        return Told(upper.item(), lower.item(), norm(residual))


class Reverse(Parts):
    """RMD: T plain gradient steps on v, then back through them (Franceschi et al., ICML 2017).

    Exact for the v that T steps reach, which is not yet v*(u). All T steps of v are kept: memory grows with T.
    The way back takes no notice of where v was clipped: for a box on v that binds use one by change of variable.
    """

    def __init__(self, problem: Problem, pace: Pace) -> None:
        self._problem, self._pace = problem, pace
        self._u = Mover(problem.u, pace.lr_u)
        self.parts = {"u": self._u}

    def step(self, batch: Batch) -> Told:
        """One outer step."""
        u, v = self._problem.u, self._problem.v
        if not self._pace.warm_start:
            v.reset()
        path = [self._down(batch) for _ in range(self._pace.inner_steps)]
        end = [z.detach().clone() for z in v.free]
        upper, lower = self._problem.upper(batch), self._problem.lower(batch)
        residual = norm(grad([lower], v.free))
        found = grad([upper], [*u.free, *v.free])
        by_u, alpha = found[: len(u.free)], found[len(u.free) :]
        while path:
            v.put(path.pop())
            by_u, alpha = self._back(batch, by_u, alpha)
        v.put(end)
        self._u.move(by_u)
        return Told(upper.item(), lower.item(), residual)

    def _down(self, batch: Batch) -> list[Tensor]:
        """One step down g; the point that it began at."""
        v = self._problem.v
        before = [z.detach().clone() for z in v.free]
        v.put([z - self._pace.lr_v * slope for z, slope in zip(v.free, self._problem.slope(batch), strict=True)])
        v.clip()
        return before

    def _back(self, batch: Batch, by_u: list[Tensor], alpha: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What a step of v = v - lr grad_v g does to the derivatives of what comes after it."""
        u, v = self._problem.u.free, self._problem.v.free
        _, residual = self._problem.residual(batch)
        found = grad(residual, [*u, *v], alpha)
        pairs = zip([*by_u, *alpha], found, strict=True)
        moved = [now - self._pace.lr_v * change for now, change in pairs]
        return moved[: len(u)], moved[len(u) :]


class Approx(Parts):
    """ApproxGrad: T steps of Adam on v, T on p for (grad2_vv g + sigma) p = grad_v f by least squares, one on u.

    The hypergradient is grad_u f - grad2_uv g p. p goes on from the outer step before, as v does.
    """

    def __init__(self, problem: Problem, pace: Pace) -> None:
        self._problem, self._pace = problem, pace
        self._u, self._v = Mover(problem.u, pace.lr_u), Mover(problem.v, pace.lr_v)
        zeros = [torch.zeros_like(z) for z in problem.v.free]
        self._p = Variables(zeros, [Box()] * len(zeros))
        self._p_mover = Mover(self._p, pace.lr_p)
        self.parts = {"u": self._u, "v": self._v, "p": self._p, "p_mover": self._p_mover}

    def step(self, batch: Batch) -> Told:
        """One outer step."""
        problem, u = self._problem, self._problem.u.free
        descend(problem, self._pace, self._v, batch)
        upper = problem.upper(batch)
        found = grad([upper], [*u, *problem.v.free])
        lower, residual = problem.residual(batch)
        self._solve(residual, found[len(u) :])
        through_v = grad(residual, u, [p.detach() for p in self._p.free])
        self._u.move([direct - slope for direct, slope in zip(found[: len(u)], through_v, strict=True)])
        return Told(upper.item(), lower.item(), norm(residual))

    def _solve(self, residual: list[Tensor], wanted: list[Tensor]) -> None:
        """T steps down ||(H + sigma) p - wanted||^2 / 2; its slope is (H + sigma) times what is left."""
        for _ in range(self._pace.inner_steps):
            product = self._times(residual, [p.detach() for p in self._p.free])
            left = [found - want for found, want in zip(product, wanted, strict=True)]
            self._p_mover.move(self._times(residual, left))

    def _times(self, residual: list[Tensor], x: list[Tensor]) -> list[Tensor]:
        """(grad2_vv g + sigma) x."""
        found = grad(residual, self._problem.v.free, x, keep=True)
        return [product + self._pace.sigma * entry for product, entry in zip(found, x, strict=True)]


def descend(problem: Problem, pace: Pace, mover: Mover, batch: Batch) -> None:
    """T steps of Adam on v down g."""
    if not pace.warm_start:
        mover.restart()
    for _ in range(pace.inner_steps):
        mover.move(problem.slope(batch))
