"""Hyperparameters by gradients: those that a training loss is differentiable in, also hundreds at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy, log_softmax

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.bilevel.constraints import Box
from seer_nb.methods.bilevel.data import Net, index_batches, labelled
from seer_nb.methods.bilevel.data import train as trained
from seer_nb.methods.bilevel.figures import bars_plot
from seer_nb.methods.bilevel.minimize import minimize
from seer_nb.methods.bilevel.outer_loop import goes_on, stopwatch
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from seer_nb.methods.bilevel.minimize import Name
    from seer_nb.methods.bilevel.trace import Minimum
    from seer_nb.worker.run import Run


SCHEDULE = PenaltySchedule(gamma=1e2, lr_factor=1.0, patience=5)
"""In some directions the training loss is curved by the weight decay alone. gamma times the square of that has to keep
v from following the validation data there: so gamma is large."""


class Known(NamedTuple):
    """A hyperparameter that can be tuned by gradients."""

    start: float
    low: float
    high: float
    each: str
    """What has a value of its own: "parameter" (each tensor of the model), "class", or "model" (one for all)."""
    log: bool
    """Whether steps are taken on its logarithm."""

    @property
    def box(self) -> Box:
        """Of what is moved."""
        return Box(self.moved(self.low), self.moved(self.high))

    def moved(self, value: float) -> float:
        """What is moved for a value."""
        return math.log(value) if self.log else value


KNOWN = {
    "weight_decay": Known(0.1, 1e-5, 10.0, "parameter", log=True),
    "class_weight": Known(1.0, 0.1, 10.0, "class", log=True),
    "label_smoothing": Known(0.05, 0.0, 0.5, "model", log=False),
}


class Best(NamedTuple):
    """The best hyperparameters, by models that were trained anew every tenth step."""

    step: int
    value: float
    """Cross entropy of such a model on all of the validation data."""
    config: dict[str, dict[str, float]]
    """Values by hyperparameter, and by what has one of its own."""


@dataclass(frozen=True)
class Tuned(MethodResult):
    """The result of ``tune``."""

    model: nn.Module
    """Trained anew with the best hyperparameters, on the training examples alone: v itself has seen the others."""
    best: Best
    minimum: Minimum

    @property
    def frame(self) -> pd.DataFrame:
        """A row a value: hyperparameter, of (the parameter, the class, or "model"), value."""
        import pandas as pd

        rows = [(name, of, value) for name, values in self.best.config.items() for of, value in values.items()]
        return pd.DataFrame(rows, columns=["hyperparameter", "of", "value"])

    def curves(self) -> pd.DataFrame:
        """A row an outer step; the columns of ``Minimum.frame``; value is that of models trained anew."""
        return self.minimum.frame

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Those of ``Minimum``, and one for each hyperparameter."""
        drawn = {name: bars_plot(name, "of", name, values) for name, values in self.best.config.items()}
        return {**self.minimum.figures, **drawn}


def tune(  # noqa: PLR0913 - what the method can be told
    model: nn.Module,
    train: Any,
    val: Any,
    *,
    hyperparameters: Sequence[str] | Mapping[str, float] = ("weight_decay",),
    method: Name = "penalty",
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
    """Tune hyperparameters of the training loss down the validation loss's hypergradient.

    Lower is the cross entropy on training examples with the class weights and the label smoothing, plus
    sum_p (weight_decay_p / 2) ||p||^2 over the model's parameters p; upper is the cross entropy on validation examples.
    Begin with a weight decay that is too strong rather than too weak: where g is nearly flat its solution says little.
    For what is not differentiable, such as a width or a learning rate, use a ``Study``.

    Args:
        model: Gives a score a class; not changed.
        train: A dataset of pairs (x, class), or a pair of tensors (n, ...), (n,).
        val: The same; other examples.
        hyperparameters: Names, or names with the values to begin with: "weight_decay" (one for each tensor of
            parameters, from 1e-5 to 10), "class_weight" (one a class, from 0.1 to 10), "label_smoothing" (0 to 0.5).
        method: See ``minimize``; so are inner_steps, outer_steps, lr_u, lr_v and schedule.
        inner_steps: Steps on the parameters for each on the hyperparameters.
        outer_steps: Steps on the hyperparameters.
        batch_size: Examples of each level in a step.
        lr_u: Of the hyperparameters (of the logarithm of the first two).
        lr_v: Of the parameters.
        schedule: Of the penalty.
        train_steps: Steps of training anew: before the first step, after every tenth to judge it, in the end.
        seed: Of the order of the data.
        run: Within a study's training function, its run; see ``minimize``. It reports "upper", "lower", "residual" and
            "value", the cross entropy on all of the validation data of a model that was trained anew.

    Returns:
        The hyperparameters, the model and the trace.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError, CheckpointError: As for ``minimize``.
    """
    watch = stopwatch(run)
    net, training, validation = Net(model), labelled(train, "train"), labelled(val, "val")
    starts = _starts(hyperparameters)
    classes = int(torch.cat([training.y, validation.y]).max()) + 1
    of = {name: _owners(KNOWN[name].each, net, classes) for name in starts}

    def values(u: list[Tensor]) -> dict[str, Tensor]:
        pairs = zip(starts, u, strict=True)
        return {name: moved.exp() if KNOWN[name].log else moved for name, moved in pairs}

    def upper(_: list[Tensor], v: list[Tensor], places: Tensor) -> Tensor:
        return cross_entropy(net(v, validation.x[places]), validation.y[places])

    def lower(u: list[Tensor], v: list[Tensor], places: Tensor) -> Tensor:
        return training_loss(net(v, training.x[places]), training.y[places], v, values(u))

    def fitted(u: list[Tensor]) -> list[Tensor]:
        config = {name: tensor.detach() for name, tensor in values(u).items()}
        return trained(
            lambda v, places: training_loss(net(v, training.x[places]), training.y[places], v, config),
            net.start,
            len(training.y),
            steps=check_integer(train_steps, "train_steps"),
            lr=check_number(lr_v, "lr_v", above=0.0),
            size=check_integer(batch_size, "batch_size"),
            seed=check_integer(seed, "seed", 0),
        )

    @torch.no_grad()
    def judged(v: list[Tensor]) -> float:
        return cross_entropy(net(v, validation.x), validation.y).item()

    begin = [net.start[0].new_full((len(of[name]),), KNOWN[name].moved(start)) for name, start in starts.items()]
    # Parameters that are not yet trained would lead the hyperparameters astray.
    begin_v = net.start if goes_on(run) else fitted(begin)
    found = minimize(
        upper,
        lower,
        begin,
        begin_v,
        method=method,
        inner_steps=inner_steps,
        outer_steps=outer_steps,
        lr_u=lr_u,
        lr_v=lr_v,
        schedule=(schedule or SCHEDULE) if method == "penalty" else schedule,
        batches=index_batches(len(validation.y), len(training.y), batch_size, seed),
        monitor=lambda u, _: judged(fitted(u)),
        u_box=[KNOWN[name].box for name in starts],
        run=run,
    )
    v = fitted(found.u)
    config = {name: dict(zip(of[name], tensor.tolist(), strict=True)) for name, tensor in values(found.u).items()}
    best, minimum = Best(found.best.step, judged(v), config), replace(found, seed=seed)
    return Tuned(net.loaded(v), best, minimum, seed=seed, wall_s=watch())


def training_loss(outputs: Tensor, y: Tensor, parameters: Sequence[Tensor], config: Mapping[str, Tensor]) -> Tensor:
    """The cross entropy with class weights and label smoothing, plus weight decay; what is not in config is off."""
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


def _starts(given: Any) -> dict[str, float]:
    """Values to begin with."""
    allowed = ", ".join(f'"{name}"' for name in KNOWN)
    if isinstance(given, str) or not isinstance(given, Sequence | Mapping):
        raise TypeError(f"hyperparameters={short_repr(given)} is no list: give names out of {allowed}")
    if not given or not all(isinstance(name, str) and name in KNOWN for name in given):
        raise ValueError(f"hyperparameters={short_repr(given)} are not known: give names out of {allowed}")
    starts = given if isinstance(given, Mapping) else {name: KNOWN[name].start for name in given}
    for name, start in starts.items():
        check_number(start, f"hyperparameters[{name!r}]", least=KNOWN[name].low, most=KNOWN[name].high)
    return {name: float(start) for name, start in starts.items()}


def _owners(each: str, net: Net, classes: int) -> list[str]:
    """What has a value of its own."""
    return {"parameter": net.names, "class": [str(number) for number in range(classes)], "model": ["model"]}[each]
