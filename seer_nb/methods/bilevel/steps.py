"""What the four methods have in common: a step of the outer level, what it is told by, and Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from seer_nb.methods.bilevel.box import Variables
    from seer_nb.methods.bilevel.problem import Batch
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


class Method(Protocol):
    """Moves u once and v ``inner_steps`` times."""

    def step(self, batch: Batch) -> Told:
        """One outer step."""


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

    def restart(self) -> None:
        """Back to the start, and forget the moments."""
        self._variables.reset()
        self._adam.state.clear()
