"""The solver options that ``minimize`` and its applications share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_choice, check_integer, check_number
from seer_nb.methods.bilevel.schedule import PenaltySchedule

MethodName: TypeAlias = Literal["penalty", "rmd", "approx", "gd"]


@dataclass(frozen=True, kw_only=True)
class SolverOptions:
    """The method, its numbers of steps, and its step sizes; checked once, when created.

    Args:
        method: See ``minimize``, as for all other arguments.
        inner_steps: Steps on v per outer step.
        outer_steps: Steps on u.
        lr_u: Learning rate for u.
        lr_v: Learning rate for v.
        schedule: Schedule of the penalty; only for "penalty".
        warm_start: Whether v continues from the previous outer step.
        lr_p: Learning rate for ApproxGrad's linear system; None: ``lr_v``.
        sigma: Number added to the diagonal of ApproxGrad's matrix.

    Raises:
        TypeError: An option has a wrong type.
        ValueError: An option is out of bounds, or does not belong to the method.
    """

    method: MethodName
    inner_steps: int
    outer_steps: int
    lr_u: float
    lr_v: float
    schedule: PenaltySchedule | None = None
    warm_start: bool = True
    lr_p: float | None = None
    sigma: float = 1e-10

    def __post_init__(self) -> None:
        check_choice(self.method, "method", get_args(MethodName))
        self.check_penalty_only("schedule", self.schedule)
        if self.schedule is not None and not isinstance(self.schedule, PenaltySchedule):
            raise TypeError(f"schedule={short_repr(self.schedule)}: not a schedule; expected a bilevel.PenaltySchedule")
        checked = {
            "inner_steps": check_integer(self.inner_steps, "inner_steps"),
            "outer_steps": check_integer(self.outer_steps, "outer_steps"),
            "lr_u": check_number(self.lr_u, "lr_u", greater_than=0.0),
            "lr_v": check_number(self.lr_v, "lr_v", greater_than=0.0),
            "sigma": check_number(self.sigma, "sigma", at_least=0.0),
        }
        if self.lr_p is not None:
            checked["lr_p"] = check_number(self.lr_p, "lr_p", greater_than=0.0)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def linear_system_lr(self) -> float:
        """Learning rate for ApproxGrad's linear system."""
        return self.lr_v if self.lr_p is None else self.lr_p

    def check_penalty_only(self, name: str, value: Any) -> None:
        """Refuse an argument that only the penalty method takes.

        Raises:
            ValueError: The argument is given, and the method is another one.
        """
        if value is not None and self.method != "penalty":
            raise ValueError(
                f'{name}={short_repr(value)}: not allowed with method="{self.method}"; expected method="penalty"'
            )

    def with_default_schedule(self, schedule: PenaltySchedule) -> SolverOptions:
        """Return these options with a schedule, if the penalty method has none yet."""
        if self.method != "penalty" or self.schedule is not None:
            return self
        return replace(self, schedule=schedule)
