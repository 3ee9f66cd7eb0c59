"""Importance weights for training data with noisy labels, learned from a few examples that are clean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.bilevel.constraints import Box
from seer_nb.methods.bilevel.data import Net, decay, index_batches, labelled, train
from seer_nb.methods.bilevel.figures import histogram_plot
from seer_nb.methods.bilevel.minimize import minimize
from seer_nb.methods.bilevel.outer_loop import goes_on, stopwatch
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from seer_nb.methods.bilevel.data import Labelled
    from seer_nb.methods.bilevel.minimize import Name
    from seer_nb.methods.bilevel.trace import Minimum, Point
    from seer_nb.worker.run import Run


SCHEDULE = PenaltySchedule(gamma=1e-2, regulariser=1e-2, eps=0.3, eps_factor=0.95, lr_factor=1.0)
AGREED, DISPUTED = 0.6, 0.4
"""Weights in the beginning: of examples whose label a model of the clean data confirms, and of the others."""
HALF = 0.5


@dataclass(frozen=True)
class Denoised(MethodResult):
    """The result of ``denoise``."""

    weights: Tensor
    """(n,), from 0 to 1: how much each training example is to be trusted."""
    labels: Tensor
    """(n,), as they were given."""
    model: nn.Module
    """With the parameters that go with the weights."""
    minimum: Minimum

    @property
    def best(self) -> Point:
        """Where the run ended: u is the weights, v the model's parameters."""
        return self.minimum.best

    @property
    def frame(self) -> pd.DataFrame:
        """A row a training example: example (its place), label, weight, suspect (weight under a half)."""
        import pandas as pd

        weight = self.weights.double().cpu().numpy()
        columns = {
            "example": range(len(weight)),
            "label": self.labels.cpu().numpy(),
            "weight": weight,
            "suspect": weight < HALF,
        }
        return pd.DataFrame(columns)

    def curves(self) -> pd.DataFrame:
        """A row an outer step; the columns of ``Minimum.frame``."""
        return self.minimum.frame

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Those of ``Minimum``, and "weights": how they are distributed."""
        drawn = histogram_plot("How far examples are trusted", "weight", {"examples": self.weights.tolist()})
        return {**self.minimum.figures, "weights": drawn}

    def __repr__(self) -> str:
        suspects = int((self.weights < HALF).sum())
        return (
            f"<Denoised: {suspects} of {len(self.weights)} examples are suspect; {self.minimum.reason}, {self._made}>"
        )


def denoise(  # noqa: PLR0913 - what the method can be told
    model: nn.Module,
    train: Any,
    val: Any,
    *,
    method: Name = "penalty",
    inner_steps: int = 10,
    outer_steps: int = 200,
    batch_size: int = 200,
    lr_u: float = 0.1,
    lr_v: float = 3e-3,
    schedule: PenaltySchedule | None = None,
    weight_decay: float = 1e-3,
    start_steps: int = 300,
    seed: int = 0,
    run: Run | None = None,
) -> Denoised:
    """Learn how far each training label can be trusted, and a model that trusts them so.

    Data denoising by importance learning (Mehra and Hamm, ACML 2021): lower is sum_i w_i CE_i / sum_i w_i on training
    examples plus weight decay, upper the cross entropy on clean ones; w = (tanh u + 1) / 2. It begins with a model of
    the clean examples alone: where that confirms a label the weight is 0.6, elsewhere 0.4.

    Args:
        model: Gives a score a class; not changed.
        train: A dataset of pairs (x, class), or a pair of tensors (n, ...), (n,); labels may be wrong.
        val: The same, clean. A hundred examples do.
        method: See ``minimize``; so are inner_steps, outer_steps, lr_u, lr_v and schedule.
        inner_steps: Steps on the parameters for each on the weights.
        outer_steps: Steps on the weights.
        batch_size: Examples of each level in a step.
        lr_u: Of the weights.
        lr_v: Of the parameters.
        schedule: Of the penalty; by default one that was tried on digits.
        weight_decay: Of the parameters, in lower.
        start_steps: Steps on the clean examples alone.
        seed: Of the order of the data.
        run: Within a study's training function, its run; see ``minimize``. It reports "upper", "lower" and "residual".

    Returns:
        Weights, model and trace.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError, CheckpointError: As for ``minimize``.
    """
    watch = stopwatch(run)
    net, noisy, clean = Net(model), labelled(train, "train"), labelled(val, "val")
    size, seed = check_integer(batch_size, "batch_size"), check_integer(seed, "seed", 0)
    weight_decay = check_number(weight_decay, "weight_decay", least=0.0)
    start_steps = 0 if goes_on(run) else check_integer(start_steps, "start_steps", 0)
    begin = _of_clean(net, clean, start_steps, lr_v=lr_v, size=size, weight_decay=weight_decay, seed=seed)

    def upper(_: list[Tensor], v: list[Tensor], places: Tensor) -> Tensor:
        return cross_entropy(net(v, clean.x[places]), clean.y[places])

    def lower(u: list[Tensor], v: list[Tensor], places: Tensor) -> Tensor:
        weight = u[0][places]
        losses = cross_entropy(net(v, noisy.x[places]), noisy.y[places], reduction="none")
        return (weight * losses).sum() / weight.sum() + decay(v, weight_decay)

    found = minimize(
        upper,
        lower,
        [_trust(net, begin, noisy)],
        begin,
        method=method,
        inner_steps=inner_steps,
        outer_steps=outer_steps,
        lr_u=lr_u,
        lr_v=lr_v,
        schedule=(schedule or SCHEDULE) if method == "penalty" else schedule,
        batches=index_batches(len(clean.y), len(noisy.y), size, seed),
        u_box=Box(0.0, 1.0, "change"),
        run=run,
    )
    minimum = replace(found, seed=seed)
    return Denoised(found.u[0], noisy.y, net.loaded(found.v), minimum, seed=seed, wall_s=watch())


def _of_clean(  # noqa: PLR0913 - what training needs
    net: Net, clean: Labelled, steps: int, *, lr_v: float, size: int, weight_decay: float, seed: int
) -> list[Tensor]:
    """Parameters trained on the clean examples alone."""

    def loss(v: list[Tensor], places: Tensor) -> Tensor:
        return cross_entropy(net(v, clean.x[places]), clean.y[places]) + decay(v, weight_decay)

    return train(loss, net.start, len(clean.y), steps=steps, lr=lr_v, size=size, seed=seed)


def _trust(net: Net, begin: list[Tensor], noisy: Labelled) -> Tensor:
    """Weights to begin with."""
    with torch.no_grad():
        agreed = net(begin, noisy.x).argmax(-1) == noisy.y
    return torch.where(agreed, AGREED, DISPUTED).to(begin[0].dtype)
