"""The schedule by which the penalty's weight grows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seer_nb._utils.validation import check_integer, check_number


@dataclass(frozen=True)
class PenaltySchedule:
    """Settings of the penalty method, and the values in force at one stage of it.

    Mehra and Hamm (ACML 2021, arXiv 1911.03432) write gamma_k, lambda_k and eps_k. The next stage begins when the
    gradient of the penalty function is at most eps. Then gamma grows, and lambda, eps and both learning rates shrink.

    Args:
        gamma: Weight of the penalty (gamma / 2) ||grad_v g||^2.
        regulariser: lambda, the weight of g itself, which prefers minima of g to its other stationary points.
        eps: Norm of the gradient at which the next stage begins.
        multiplier: Initial value of all multipliers nu of the augmented Lagrangian.
        gamma_factor: Growth of gamma per stage, at least 1.
        regulariser_factor: Decay of lambda per stage, at most 1.
        eps_factor: Decay of eps per stage, at most 1.
        lr_factor: Decay of both learning rates per stage, at most 1.
        gamma_most: Largest gamma; rounding errors dominate beyond it.
        patience: Largest number of outer steps per stage; None waits for eps. Minibatches need it, because their noise
            keeps the gradient above eps.
        augmented: Whether the multipliers nu are updated.

    Raises:
        TypeError, ValueError: A setting has a wrong type or is out of bounds.

    Example:
        >>> schedule = PenaltySchedule(gamma=10.0, patience=5)
        >>> bilevel.minimize(upper, lower, [u], [v], schedule=schedule)
    """

    gamma: float = 1.0
    regulariser: float = 1.0
    eps: float = 1.0
    multiplier: float = 0.0
    gamma_factor: float = 1.1
    regulariser_factor: float = 0.9
    eps_factor: float = 0.9
    lr_factor: float = 0.9
    gamma_most: float = 1e6
    patience: int | None = None
    augmented: bool = True

    def __post_init__(self) -> None:
        for name in ("gamma", "eps", "gamma_most"):
            check_number(getattr(self, name), name, greater_than=0.0)
        check_number(self.regulariser, "regulariser", at_least=0.0)
        check_number(self.multiplier, "multiplier")
        check_number(self.gamma_factor, "gamma_factor", at_least=1.0)
        for name in ("regulariser_factor", "eps_factor", "lr_factor"):
            check_number(getattr(self, name), name, greater_than=0.0, at_most=1.0)
        if self.patience is not None:
            check_integer(self.patience, "patience")

    def tightened(self) -> PenaltySchedule:
        """Return the schedule of the next stage."""
        return replace(
            self,
            gamma=max(self.gamma, min(self.gamma * self.gamma_factor, self.gamma_most)),
            regulariser=self.regulariser * self.regulariser_factor,
            # Repeated decay would underflow to zero, which eps must not be.
            eps=max(self.eps * self.eps_factor, 1e-300),
        )
