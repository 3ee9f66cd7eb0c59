"""Importance weights for training data with noisy labels, learned from a few clean examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.bilevel.constraints import Box
from seer_nb.methods.bilevel.data import FunctionalModel, index_batches, read_labelled, train_adam, weight_decay_loss
from seer_nb.methods.bilevel.figures import plot_histogram
from seer_nb.methods.bilevel.minimize import make_loop, make_problem
from seer_nb.methods.bilevel.options import SolverOptions
from seer_nb.methods.bilevel.outer_loop import is_resumed, run_loop, start_stopwatch
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.bilevel.trace import TracedResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from seer_nb.methods.bilevel.data import Labelled
    from seer_nb.methods.bilevel.options import MethodName
    from seer_nb.methods.bilevel.trace import Point
    from seer_nb.worker.run import Run


SCHEDULE = PenaltySchedule(gamma=1e-2, regulariser=1e-2, eps=0.3, eps_factor=0.95, lr_factor=1.0)
CONFIRMED, DISPUTED = 0.6, 0.4
"""Initial weights of examples whose label a model of the clean data confirms, and of all others."""
SUSPECT = 0.5
"""An example is suspect if its weight is smaller."""


@dataclass(frozen=True, kw_only=True)
class Denoised(TracedResult):
    """The result of ``denoise``."""

    weights: Tensor
    """Trust in each training example, (n,), from 0 to 1."""
    labels: Tensor
    """Labels as given, (n,)."""
    model: nn.Module
    """Model with the parameters that belong to the weights."""

    @property
    def best(self) -> Point:
        """The last point: u is the weights, v the model's parameters."""
        return self.minimum.best

    @property
    def frame(self) -> pd.DataFrame:
        """One row per training example: example (its index), label, weight, suspect (weight below 0.5)."""
        import pandas as pd

        weight = self.weights.double().cpu().numpy()
        columns = {
            "example": range(len(weight)),
            "label": self.labels.cpu().numpy(),
            "weight": weight,
            "suspect": weight < SUSPECT,
        }
        return pd.DataFrame(columns)

    def _own_figures(self) -> Mapping[str, Figure]:
        return {"weights": plot_histogram("Trust in the examples", "weight", "examples", self.weights.tolist())}

    def __repr__(self) -> str:
        suspects = int((self.weights < SUSPECT).sum())
        found = f"{suspects} of {len(self.weights)} examples are suspect"
        return f"<Denoised: {found}; {self.minimum.reason}, {self._seed_and_duration}>"


def denoise(  # noqa: PLR0913 - the public options
    model: nn.Module,
    train: Any,
    val: Any,
    *,
    method: MethodName = "penalty",
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
    """Learn a weight for each training label, and a model of the weighted examples.

    Data denoising by importance learning (Mehra and Hamm, ACML 2021): lower is sum_i w_i CE_i / sum_i w_i on training
    examples plus weight decay, upper the cross entropy on clean examples; w = (tanh u + 1) / 2. The start is a model of
    the clean examples alone: where it confirms a label, the weight is 0.6, elsewhere 0.4.

    Args:
        model: Model that returns one score per class; not changed.
        train: Dataset of pairs (x, class), or a pair of tensors (n, ...), (n,); labels may be wrong.
        val: Clean examples, likewise; a hundred are enough.
        method: See ``minimize``, as for inner_steps, outer_steps, lr_u, lr_v and schedule.
        inner_steps: Steps on the parameters per step on the weights.
        outer_steps: Steps on the weights.
        batch_size: Examples of each level per step.
        lr_u: Learning rate of the weights.
        lr_v: Learning rate of the parameters.
        schedule: Schedule of the penalty. Default: one tuned on handwritten digits.
        weight_decay: Weight decay of the parameters in lower.
        start_steps: Steps on the clean examples alone.
        seed: Seed of the order of the data, and of draws by the model, such as dropout.
        run: The run of a study's training function; see ``minimize``. It reports "upper", "lower" and "residual".

    Returns:
        Weights, model and trace.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError, CheckpointError: As for ``minimize``.

    Example:
        >>> found = denoise(model, (x, noisy_labels), (clean_x, clean_y))
        >>> found.frame.sort_values("weight").head()
    """
    elapsed_s = start_stopwatch(run)
    options = SolverOptions(
        method=method, inner_steps=inner_steps, outer_steps=outer_steps, lr_u=lr_u, lr_v=lr_v, schedule=schedule
    ).with_default_schedule(SCHEDULE)
    net, noisy, clean = FunctionalModel(model), read_labelled(train, "train"), read_labelled(val, "val")
    size, seed = check_integer(batch_size, "batch_size"), check_integer(seed, "seed", 0)
    weight_decay = check_number(weight_decay, "weight_decay", at_least=0.0)
    start_steps = 0 if is_resumed(run) else check_integer(start_steps, "start_steps", 0)

    def upper(_: list[Tensor], v: list[Tensor], places: Tensor) -> Tensor:
        return cross_entropy(net(v, clean.x[places]), clean.y[places])

    def lower(u: list[Tensor], v: list[Tensor], places: Tensor) -> Tensor:
        weight = u[0][places]
        losses = cross_entropy(net(v, noisy.x[places]), noisy.y[places], reduction="none")
        return (weight * losses).sum() / weight.sum() + weight_decay_loss(v, weight_decay)

    def clean_loss(v: list[Tensor], places: Tensor) -> Tensor:
        return upper([], v, places) + weight_decay_loss(v, weight_decay)

    start = train_adam(clean_loss, net.start, len(clean.y), steps=start_steps, lr=options.lr_v, size=size, seed=seed)
    weights = _initial_weights(net, start, noisy, size)
    problem = make_problem(upper, lower, [weights], start, u_box=Box(0.0, 1.0, "change"), model=net)
    loop = make_loop(problem, options, index_batches(len(clean.y), len(noisy.y), size, seed), seed=seed)
    run_loop(loop, run)
    minimum = loop.minimum(seed)
    return Denoised(
        weights=minimum.u[0],
        labels=noisy.y,
        model=net.with_parameters(minimum.v),
        minimum=minimum,
        seed=seed,
        wall_s=elapsed_s(),
    )


def _initial_weights(net: FunctionalModel, parameters: list[Tensor], noisy: Labelled, size: int) -> Tensor:
    confirmed = net.predict(parameters, noisy.x, size).argmax(-1) == noisy.y
    return torch.where(confirmed, CONFIRMED, DISPUTED).to(parameters[0].dtype)
