"""What the four methods have in common: a step of the outer level, what it is told by, and Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
