"""Hyperparameter tuning by gradients, for hyperparameters in which the training loss is differentiable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy, log_softmax

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.bilevel.constraints import Box
from seer_nb.methods.bilevel.data import FunctionalModel, index_batches, read_labelled, train_adam
from seer_nb.methods.bilevel.figures import plot_bars
from seer_nb.methods.bilevel.minimize import make_loop, make_problem
from seer_nb.methods.bilevel.options import SolverOptions
from seer_nb.methods.bilevel.outer_loop import Monitor, is_resumed, run_loop, start_stopwatch
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.bilevel.trace import TracedResult

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from seer_nb.methods.bilevel.options import MethodName
    from seer_nb.worker.run import Run


SCHEDULE = PenaltySchedule(gamma=1e2, lr_factor=1.0, patience=5)
"""Default schedule. In some directions the training loss is curved by the weight decay alone. There gamma times the
square of that curvature must keep v from fitting the validation data, so gamma is large."""
MONITOR_EVERY = 10
"""Outer steps between two models that are trained from scratch to measure the hyperparameters."""


class Hyperparameter(NamedTuple):
    """A hyperparameter that gradients can tune."""

    start: float
    low: float
    high: float
    owner: str
    """What has its own value: "parameter" (each tensor of the model), "class", or "model" (one for all)."""
    log: bool
    """Whether steps are taken on the logarithm."""

    @property
    def box(self) -> Box:
        """The bounds of the optimised variable."""
        return Box(self.to_variable(self.low), self.to_variable(self.high))

    def to_variable(self, value: float) -> float:
        """Return the optimised variable that stands for a value."""
        return math.log(value) if self.log else value

    def to_value(self, variable: Tensor) -> Tensor:
        """Return the values of an optimised variable."""
        return variable.exp() if self.log else variable


HYPERPARAMETERS = {
    "weight_decay": Hyperparameter(0.1, 1e-5, 10.0, "parameter", log=True),
    "class_weight": Hyperparameter(1.0, 0.1, 10.0, "class", log=True),
    "label_smoothing": Hyperparameter(0.05, 0.0, 0.5, "model", log=False),
}


class Best(NamedTuple):
    """The best hyperparameters, measured by models trained from scratch every tenth step."""

    step: int
    """Outer step, from 1."""
    value: float
    """Cross entropy of such a model on all validation data."""
    config: dict[str, dict[str, float]]
    """Values by hyperparameter, then by owner of a value."""


@dataclass(frozen=True, kw_only=True)
class Tuned(TracedResult):
    """The result of ``tune``."""

    model: nn.Module
    """Model trained from scratch with the best hyperparameters on training examples only; v has used the others too."""
    best: Best

    @property
    def frame(self) -> pd.DataFrame:
        """One row per value: hyperparameter, of (the parameter, the class, or "model"), value."""
        import pandas as pd

        rows = [(name, of, value) for name, values in self.best.config.items() for of, value in values.items()]
        return pd.DataFrame(rows, columns=["hyperparameter", "of", "value"])

    def _own_figures(self) -> Mapping[str, Figure]:
        return {name: plot_bars(name, "of", name, values) for name, values in self.best.config.items()}


def tune(  # noqa: PLR0913 - the public options
    model: nn.Module,
    train: Any,
    val: Any,
    *,
    hyperparameters: Sequence[str] | Mapping[str, float] = ("weight_decay",),
    method: MethodName = "penalty",
    inner_steps: int = 10,
    outer_steps: int = 100,
    batch_size: int = 200,
    lr_u: float = 0.1,
    lr_v: float = 1e-2,
    schedule: PenaltySchedule | None = None,
    train_steps: int = 500,
    seed: int = 0,
    run: Run | None = None,
) -> Tuned:
    """Tune hyperparameters of the training loss by the hypergradient of the validation loss.

    Lower is the cross entropy on training examples with the class weights and the label smoothing, plus
    sum_p (weight_decay_p / 2) ||p||^2 over the model's parameters p. Upper is the cross entropy on validation examples.
    Start with a weight decay that is too strong rather than too weak: a nearly flat g hardly determines its solution.
    Use a ``Study`` for what is not differentiable, such as a width or a learning rate.

    Args:
        model: Model that returns one score per class; not changed.
        train: Dataset of pairs (x, class), or a pair of tensors (n, ...), (n,).
        val: Other examples, likewise.
        hyperparameters: Names, or names with their start values: "weight_decay" (one per parameter tensor, 1e-5 to 10),
            "class_weight" (one per class, 0.1 to 10), "label_smoothing" (one, 0 to 0.5).
        method: See ``minimize``, as for inner_steps, outer_steps, lr_u, lr_v and schedule.
        inner_steps: Steps on the parameters per step on the hyperparameters.
        outer_steps: Steps on the hyperparameters.
        batch_size: Examples of each level per step.
        lr_u: Learning rate of the hyperparameters (of the logarithm of the first two).
        lr_v: Learning rate of the parameters.
        schedule: Schedule of the penalty. Default: one for this problem.
        train_steps: Steps of each training from scratch: before the first step, every tenth step, and at the end.
        seed: Seed of the order of the data, and of draws by the model, such as dropout.
        run: The run of a study's training function; see ``minimize``. It reports "upper", "lower", "residual" and
            "value", the cross entropy on all validation data of a model trained from scratch.

    Returns:
        The hyperparameters, the model and the trace, whose "value" is that of the models trained from scratch.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError, CheckpointError: As for ``minimize``.

    Example:
        >>> found = tune(model, (x, y), (val_x, val_y), hyperparameters={"weight_decay": 0.1})
        >>> found.best.config["weight_decay"], found.best.value
    """
    elapsed_s = start_stopwatch(run)
    options = SolverOptions(
        method=method, inner_steps=inner_steps, outer_steps=outer_steps, lr_u=lr_u, lr_v=lr_v, schedule=schedule
    ).with_default_schedule(SCHEDULE)
    net, training, validation = FunctionalModel(model), read_labelled(train, "train"), read_labelled(val, "val")
    starts = _read_starts(hyperparameters)
    tuned = {name: HYPERPARAMETERS[name] for name in starts}
    classes = int(torch.cat([training.y, validation.y]).max()) + 1
    owners = {name: _owners(each.owner, net, classes) for name, each in tuned.items()}
    training_options = _training_options(train_steps, batch_size, seed)

    def values(u: list[Tensor]) -> dict[str, Tensor]:
        return {name: each.to_value(variable) for (name, each), variable in zip(tuned.items(), u, strict=True)}

    def loss(net: FunctionalModel, v: list[Tensor], places: Tensor, config: Mapping[str, Tensor]) -> Tensor:
        return training_loss(net(v, training.x[places]), training.y[places], v, config)

    def upper(_: list[Tensor], v: list[Tensor], places: Tensor) -> Tensor:
        return cross_entropy(net(v, validation.x[places]), validation.y[places])

    def fitted(u: list[Tensor]) -> tuple[FunctionalModel, list[Tensor]]:
        config = {name: tensor.detach() for name, tensor in values(u).items()}
        fresh, count = FunctionalModel(model), len(training.y)
        return fresh, train_adam(
            lambda v, places: loss(fresh, v, places, config), fresh.start, count, lr=options.lr_v, **training_options
        )

    def validation_loss(trained: FunctionalModel, v: list[Tensor]) -> float:
        return cross_entropy(trained.predict(v, validation.x, training_options["size"]), validation.y).item()

    start_u = [
        net.start[0].new_full((len(owners[name]),), each.to_variable(starts[name])) for name, each in tuned.items()
    ]
    # Untrained parameters would mislead the hyperparameters.
    net, start_v = (net, net.start) if is_resumed(run) else fitted(start_u)
    problem = make_problem(
        upper,
        lambda u, v, places: loss(net, v, places, values(u)),
        start_u,
        start_v,
        u_box=[each.box for each in tuned.values()],
        model=net,
    )
    batches = index_batches(len(validation.y), len(training.y), batch_size, seed)
    monitor = Monitor(lambda u, _: validation_loss(*fitted(u)), MONITOR_EVERY)
    loop = make_loop(problem, options, batches, monitor, seed)
    run_loop(loop, run)
    minimum = loop.minimum(seed)
    trained, v = fitted(minimum.u)
    config = {name: dict(zip(owners[name], found.tolist(), strict=True)) for name, found in values(minimum.u).items()}
    return Tuned(
        model=trained.with_parameters(v),
        best=Best(minimum.best.step, validation_loss(trained, v), config),
        minimum=minimum,
        seed=seed,
        wall_s=elapsed_s(),
    )


def training_loss(outputs: Tensor, y: Tensor, parameters: Sequence[Tensor], config: Mapping[str, Tensor]) -> Tensor:
    """Return the cross entropy with class weights and label smoothing, plus weight decay.

    Args:
        outputs: Scores, (n, classes).
        y: Classes, (n,).
        parameters: Parameters of the model, for the weight decay.
        config: Hyperparameters by name; a hyperparameter that is missing is not applied.
    """
    logs = log_softmax(outputs, dim=-1)
    losses = -logs.gather(-1, y[:, None])[:, 0]
    if "label_smoothing" in config:
        losses = losses - config["label_smoothing"] * (losses + logs.mean(-1))
    weight = config["class_weight"][y] if "class_weight" in config else torch.ones_like(losses)
    loss = (weight * losses).sum() / weight.sum()
    if "weight_decay" in config:
        squares = torch.stack([parameter.square().sum() for parameter in parameters])
        loss = loss + (config["weight_decay"] * squares).sum() / 2
    return loss


def _training_options(train_steps: int, batch_size: int, seed: int) -> dict[str, int]:
    return {
        "steps": check_integer(train_steps, "train_steps"),
        "size": check_integer(batch_size, "batch_size"),
        "seed": check_integer(seed, "seed", 0),
    }


def _read_starts(given: Any) -> dict[str, float]:
    """Return the start values by name."""
    known = HYPERPARAMETERS
    allowed = ", ".join(f'"{name}"' for name in known)
    if isinstance(given, str) or not isinstance(given, Sequence | Mapping):
        raise TypeError(f"hyperparameters={short_repr(given)}: not a list; expected names out of {allowed}")
    if not given or not all(isinstance(name, str) and name in known for name in given):
        raise ValueError(
            f"hyperparameters={short_repr(given)}: empty or unknown names; expected names out of {allowed}"
        )
    starts = given if isinstance(given, Mapping) else {name: known[name].start for name in given}
    for name, start in starts.items():
        check_number(start, f"hyperparameters[{name!r}]", at_least=known[name].low, at_most=known[name].high)
    return {name: float(start) for name, start in starts.items()}


def _owners(kind: str, net: FunctionalModel, classes: int) -> list[str]:
    """Return the names of everything that has its own value."""
    return {"parameter": net.names, "class": [str(number) for number in range(classes)], "model": ["model"]}[kind]
