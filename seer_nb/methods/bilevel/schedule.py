"""How the penalty grows while its weights in the beginning fade."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seer_nb._utils.validation import check_integer, check_number


@dataclass(frozen=True)
class PenaltySchedule:
    """Settings of the penalty method; also its state, which ``tightened`` carries on.

    Mehra and Hamm (ACML 2021, arXiv 1911.03432) write gamma_k, lambda_k and eps_k. Whenever the squared gradients of
    the penalty function sum up to less than eps^2, gamma grows, lambda and eps shrink, and so do the learning rates.

    Args:
        gamma: Weight of the penalty (gamma / 2) ||grad_v g||^2.
        regulariser: lambda, the weight of g itself, which prefers minima of g to its other stationary points.
        eps: How small the gradient has to be.
        multiplier: Initial value of all multipliers nu of the augmented Lagrangian.
        gamma_factor: Growth of gamma, 1 or more.
        regulariser_factor: Decay of lambda, at most 1.
        eps_factor: Decay of eps, at most 1.
        lr_factor: Decay of both learning rates, at most 1.
        gamma_most: Where the growth of gamma ends; beyond, rounding takes over.
        patience: Tighten after so many outer steps at the latest; None waits for eps. Minibatches keep the gradient
            from ever becoming small, so that there it is needed.
        augmented: Whether nu is used.
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
            check_number(getattr(self, name), name, above=0.0)
        check_number(self.regulariser, "regulariser", least=0.0)
        check_number(self.multiplier, "multiplier")
        check_number(self.gamma_factor, "gamma_factor", least=1.0)
        for name in ("regulariser_factor", "eps_factor", "lr_factor"):
            check_number(getattr(self, name), name, above=0.0, most=1.0)
        if self.patience is not None:
            check_integer(self.patience, "patience")

    def tightened(self) -> PenaltySchedule:
        """The next stage."""
        return replace(
            self,
            gamma=max(self.gamma, min(self.gamma * self.gamma_factor, self.gamma_most)),
            # A float that has decayed to zero is none that eps may be.
            regulariser=self.regulariser * self.regulariser_factor,
            eps=max(self.eps * self.eps_factor, 1e-300),
        )
