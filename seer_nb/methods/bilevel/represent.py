"""Few-shot learning: a representation that all tasks share, and one linear head per task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.bilevel.data import FunctionalModel, accuracy, fit_lbfgs, seeded, weight_decay_loss
from seer_nb.methods.bilevel.figures import plot_histogram
from seer_nb.methods.bilevel.minimize import make_loop, make_problem
from seer_nb.methods.bilevel.options import SolverOptions
from seer_nb.methods.bilevel.outer_loop import is_resumed, run_loop, start_stopwatch
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.bilevel.trace import TracedResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import nn

    from seer_nb.methods.bilevel.data import Labelled
    from seer_nb.methods.bilevel.options import MethodName
    from seer_nb.methods.bilevel.trace import Point
    from seer_nb.worker.run import Run


SCHEDULE = PenaltySchedule(gamma=0.1, regulariser=10.0, lr_factor=1.0, patience=5)


class Tasks(NamedTuple):
    """Tasks of one shape; labels count from 0 within each task."""

    support_x: Tensor
    """Inputs that a head is fitted to, (tasks, s, ...)."""
    support_y: Tensor
    """Their labels, (tasks, s)."""
    query_x: Tensor
    """Inputs that measure the representation, (tasks, q, ...)."""
    query_y: Tensor
    """Their labels, (tasks, q)."""


@dataclass(frozen=True, kw_only=True)
class Represented(TracedResult):
    """The result of ``represent``."""

    body: nn.Module
    """Model that returns the features."""
    weight_decay: float
    """Weight decay of the heads."""
    accuracies: tuple[float, ...]
    """Accuracy of each training task on its queries, with a head fitted to its support."""

    @property
    def best(self) -> Point:
        """The last point: u is the body's parameters, v the training tasks' heads."""
        return self.minimum.best

    @property
    def frame(self) -> pd.DataFrame:
        """One row per training task: task, accuracy."""
        import pandas as pd

        return pd.DataFrame({"task": range(len(self.accuracies)), "accuracy": self.accuracies})

    def _own_figures(self) -> Mapping[str, Figure]:
        return {"tasks": plot_histogram("Training tasks", "accuracy", "tasks", list(self.accuracies))}

    def accuracy(self, tasks: Tasks) -> list[float]:
        """Return the accuracy of each of other tasks on its queries, with a head fitted to its support."""
        return adapted(self.body, tasks, self.weight_decay)


def make_tasks(  # noqa: PLR0913 - the sizes of a task
    data: Labelled, classes: Sequence[int], *, count: int, ways: int, shots: int, queries: int, seed: int = 0
) -> Tasks:
    """Draw tasks: each has some of the classes, and some support and query examples of each of its classes.

    Args:
        data: Examples with their classes.
        classes: Classes to draw from.
        count: Number of tasks.
        ways: Classes per task, from 2.
        shots: Support examples per class.
        queries: Query examples per class.
        seed: Seed of the draws.

    Returns:
        ``count`` tasks with ways * shots support and ways * queries query examples each.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: There are too few classes, or too few examples of one.

    Example:
        >>> tasks = make_tasks(Labelled(x, y), range(10), count=20, ways=5, shots=2, queries=10)
    """
    if not 1 < check_integer(ways, "ways") <= len(classes):
        raise ValueError(
            f"ways={short_repr(ways)}: out of bounds for {len(classes)} classes; expected 2 to {len(classes)}"
        )
    places = {number: torch.nonzero(data.y == number)[:, 0] for number in classes}
    few = min(places, key=lambda number: len(places[number]))
    each = check_integer(shots, "shots") + check_integer(queries, "queries")
    if len(places[few]) < each:
        raise ValueError(f"class {few}: {len(places[few])} examples; expected at least shots + queries = {each}")
    drawn = torch.Generator().manual_seed(check_integer(seed, "seed", 0))
    numbers = torch.tensor(list(classes))
    picked = []
    for _ in range(check_integer(count, "count")):
        chosen = numbers[torch.randperm(len(numbers), generator=drawn)[:ways]].tolist()
        picked.append(torch.stack([places[n][torch.randperm(len(places[n]), generator=drawn)[:each]] for n in chosen]))
    place = torch.stack(picked)
    y = torch.arange(ways, device=place.device)[:, None]
    parts = (place[:, :, :shots].flatten(1), place[:, :, shots:].flatten(1))
    labels = [y.expand(ways, number).reshape(-1).expand(count, -1) for number in (shots, queries)]
    return Tasks(data.x[parts[0]], labels[0], data.x[parts[1]], labels[1])


def represent(  # noqa: PLR0913 - the public options
    body: nn.Module,
    tasks: Tasks,
    *,
    method: MethodName = "penalty",
    inner_steps: int = 10,
    outer_steps: int = 100,
    lr_u: float = 1e-2,
    lr_v: float = 1e-2,
    schedule: PenaltySchedule | None = None,
    weight_decay: float = 0.1,
    seed: int = 0,
    run: Run | None = None,
) -> Represented:
    """Learn features on which a linear head, fitted to a few examples, classifies other examples well.

    Upper is the cross entropy on all queries, lower that on each task's support plus weight decay of its head (Mehra
    and Hamm, ACML 2021; Franceschi et al., ICML 2018). u are the body's parameters, v the heads.

    Args:
        body: Model that returns features (n, d) for inputs (n, ...); not changed.
        tasks: Training tasks, such as those of ``make_tasks``.
        method: See ``minimize``, as for inner_steps, outer_steps, lr_u, lr_v and schedule.
        inner_steps: Steps on the heads per step on the body.
        outer_steps: Steps on the body.
        lr_u: Learning rate of the body.
        lr_v: Learning rate of the heads.
        schedule: Schedule of the penalty. Default: one for this problem.
        weight_decay: Weight decay of the heads, above 0; without it a head that separates its few examples grows
            without bound.
        seed: Seed of draws by the body, such as dropout.
        run: The run of a study's training function; see ``minimize``. It reports "upper", "lower" and "residual".

    Returns:
        The body and the trace.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError, CheckpointError: As for ``minimize``.

    Example:
        >>> found = represent(torch.nn.Linear(64, 16), tasks)
        >>> found.accuracy(new_tasks)
    """
    elapsed_s = start_stopwatch(run)
    options = SolverOptions(
        method=method, inner_steps=inner_steps, outer_steps=outer_steps, lr_u=lr_u, lr_v=lr_v, schedule=schedule
    ).with_default_schedule(SCHEDULE)
    net, tasks = FunctionalModel(body), _check_tasks(tasks)
    weight_decay = check_number(weight_decay, "weight_decay", greater_than=0.0)
    seed = check_integer(seed, "seed", 0)
    features = _predict_features(body, tasks.support_x[:1]).shape[-1]
    count, ways = _task_sizes(tasks)

    def upper(u: list[Tensor], v: list[Tensor]) -> Tensor:
        return _loss(_features(net, u, tasks.query_x), tasks.query_y, v)

    def lower(u: list[Tensor], v: list[Tensor]) -> Tensor:
        # The sum over tasks keeps each head's problem the same for any number of tasks.
        return count * _loss(_features(net, u, tasks.support_x), tasks.support_y, v) + weight_decay_loss(
            v, weight_decay
        )

    zeros = [net.start[0].new_zeros(count, ways, features), net.start[0].new_zeros(count, ways)]
    # Untrained heads would mislead the body.
    with seeded(zeros, seed, 0):
        heads = zeros if is_resumed(run) else fit_lbfgs(lambda v: lower(net.start, v), zeros)
    loop = make_loop(make_problem(upper, lower, net.start, heads, model=net), options, seed=seed)
    run_loop(loop, run)
    minimum = loop.minimum(seed)
    learned = net.with_parameters(minimum.u)
    return Represented(
        body=learned,
        weight_decay=weight_decay,
        accuracies=tuple(adapted(learned, tasks, weight_decay)),
        minimum=minimum,
        seed=seed,
        wall_s=elapsed_s(),
    )


def adapted(body: nn.Module, tasks: Tasks, weight_decay: float = 0.1) -> list[float]:
    """Return the accuracy of each task on its queries, with a linear head fitted to the features of its support.

    Args:
        body: Model that returns features (n, d) for inputs (n, ...).
        tasks: Tasks to fit heads to.
        weight_decay: Weight decay of the heads.

    Raises:
        TypeError, ValueError: The tasks or the body are wrong.

    Example:
        >>> sum(adapted(body, new_tasks)) / len(new_tasks.query_y)
    """
    tasks = _check_tasks(tasks)
    support, query = (_predict_features(body, x) for x in (tasks.support_x, tasks.query_x))
    count, ways = _task_sizes(tasks)

    def loss(v: list[Tensor]) -> Tensor:
        return count * _loss(support, tasks.support_y, v) + weight_decay_loss(v, weight_decay)

    heads = fit_lbfgs(loss, [support.new_zeros(count, ways, support.shape[-1]), support.new_zeros(count, ways)])
    outputs = _outputs(query, heads)
    return [accuracy(scores, y) for scores, y in zip(outputs, tasks.query_y, strict=True)]


def _task_sizes(tasks: Tasks) -> tuple[int, int]:
    """Return the number of tasks and the classes per task."""
    return len(tasks.support_y), int(tasks.support_y.max()) + 1


def _features(net: FunctionalModel, parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return features (tasks, n, d) of inputs (tasks, n, ...)."""
    return net(parameters, x.flatten(0, 1)).reshape(*x.shape[:2], -1)


def _predict_features(body: nn.Module, x: Tensor) -> Tensor:
    """Return features (tasks, n, d) of inputs (tasks, n, ...) in evaluation mode, one task at a time to save memory."""
    net = FunctionalModel(body)
    found = net.predict(net.start, x.flatten(0, 1), x.shape[1])
    if found.dim() != 2:  # noqa: PLR2004 - examples by features
        raise ValueError(f"body returned the shape {tuple(found.shape)}; expected (examples, features)")
    return found.reshape(*x.shape[:2], -1)


def _outputs(features: Tensor, heads: Sequence[Tensor]) -> Tensor:
    """Return scores (tasks, n, ways)."""
    weight, bias = heads
    return torch.einsum("tnd,twd->tnw", features, weight) + bias[:, None, :]


def _loss(features: Tensor, y: Tensor, heads: Sequence[Tensor]) -> Tensor:
    return cross_entropy(_outputs(features, heads).flatten(0, 1), y.reshape(-1))


def _check_tasks(tasks: Any) -> Tasks:
    if not isinstance(tasks, tuple | list) or len(tasks) != 4 or not all(isinstance(part, Tensor) for part in tasks):  # noqa: PLR2004
        raise TypeError(f"tasks: type {type(tasks).__name__}; expected bilevel.Tasks of four tensors")
    found = Tasks(*tasks)
    for x, y in ((found.support_x, found.support_y), (found.query_x, found.query_y)):
        if y.dim() != 2 or x.shape[:2] != y.shape:  # noqa: PLR2004 - tasks by examples
            raise ValueError(
                f"tasks: x of shape {tuple(x.shape)}, y of shape {tuple(y.shape)}; expected (tasks, n, ...), (tasks, n)"
            )
    return found
