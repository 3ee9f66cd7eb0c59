"""Few-shot learning: a representation that all tasks share, and a linear head for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.bilevel.data import Net, accuracy, decay, fit
from seer_nb.methods.bilevel.figures import histogram_plot
from seer_nb.methods.bilevel.minimize import minimize
from seer_nb.methods.bilevel.outer_loop import goes_on, stopwatch
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import nn

    from seer_nb.methods.bilevel.data import Labelled
    from seer_nb.methods.bilevel.minimize import Name
    from seer_nb.methods.bilevel.trace import Minimum, Point
    from seer_nb.worker.run import Run


SCHEDULE = PenaltySchedule(gamma=0.1, regulariser=10.0, lr_factor=1.0, patience=5)


class Tasks(NamedTuple):
    """Tasks of one shape; labels count from 0 within each task."""

    support_x: Tensor
    """(tasks, s, ...): of these a head is learned."""
    support_y: Tensor
    """(tasks, s)."""
    query_x: Tensor
    """(tasks, q, ...): by these the representation is judged."""
    query_y: Tensor
    """(tasks, q)."""


@dataclass(frozen=True)
class Represented(MethodResult):
    """The result of ``represent``."""

    body: nn.Module
    """Gives the features."""
    weight_decay: float
    accuracies: tuple[float, ...]
    """Of each training task on its queries, with a head fitted to its support."""
    minimum: Minimum

    @property
    def best(self) -> Point:
        """Where the run ended: u is the body's parameters, v the training tasks' heads."""
        return self.minimum.best

    @property
    def frame(self) -> pd.DataFrame:
        """A row a training task: task, accuracy."""
        import pandas as pd

        return pd.DataFrame({"task": range(len(self.accuracies)), "accuracy": self.accuracies})

    def curves(self) -> pd.DataFrame:
        """A row an outer step; the columns of ``Minimum.frame``."""
        return self.minimum.frame

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Those of ``Minimum``, and "tasks": accuracies of the training tasks."""
        drawn = histogram_plot("Training tasks", "accuracy", {"tasks": list(self.accuracies)})
        return {**self.minimum.figures, "tasks": drawn}

    def accuracy(self, tasks: Tasks) -> list[float]:
        """Of each of other tasks on its queries, with a head fitted to its support: the body stays as it is."""
        return adapted(self.body, tasks, self.weight_decay)


def make_tasks(  # noqa: PLR0913 - what a task is made of
    data: Labelled, classes: Sequence[int], *, count: int, ways: int, shots: int, queries: int, seed: int = 0
) -> Tasks:
    """Draw tasks: some of the classes each, some examples of each class to learn of, others to be judged by.

    Args:
        data: Examples with their classes.
        classes: That tasks are made of.
        count: Tasks.
        ways: Classes a task.
        shots: Examples a class to learn of.
        queries: Examples a class to be judged by.
        seed: Of the draws.

    Raises:
        ValueError: There are too few classes, or too few examples of one.
    """
    if not 1 < check_integer(ways, "ways") <= len(classes):
        raise ValueError(f"ways={short_repr(ways)} does not go with {len(classes)} classes: give from 2 to so many")
    places = {number: torch.nonzero(data.y == number)[:, 0] for number in classes}
    few = min(places, key=lambda number: len(places[number]))
    each = check_integer(shots, "shots") + check_integer(queries, "queries")
    if len(places[few]) < each:
        raise ValueError(f"class {few} has {len(places[few])} examples: shots + queries = {each} are needed")
    drawn = torch.Generator().manual_seed(check_integer(seed, "seed", 0))
    names = torch.tensor(list(classes))
    picked = []
    for _ in range(check_integer(count, "count")):
        chosen = names[torch.randperm(len(names), generator=drawn)[:ways]].tolist()
        picked.append(torch.stack([places[n][torch.randperm(len(places[n]), generator=drawn)[:each]] for n in chosen]))
    place = torch.stack(picked)
    y = torch.arange(ways, device=place.device)[:, None]
    parts = (place[:, :, :shots].flatten(1), place[:, :, shots:].flatten(1))
    labels = [y.expand(ways, number).reshape(-1).expand(count, -1) for number in (shots, queries)]
    return Tasks(data.x[parts[0]], labels[0], data.x[parts[1]], labels[1])


def represent(  # noqa: PLR0913 - what the method can be told
    body: nn.Module,
    tasks: Tasks,
    *,
    method: Name = "penalty",
    inner_steps: int = 10,
    outer_steps: int = 100,
    lr_u: float = 1e-2,
    lr_v: float = 1e-2,
    schedule: PenaltySchedule | None = None,
    weight_decay: float = 0.1,
    run: Run | None = None,
) -> Represented:
    """Learn features on which a linear head that has seen a few examples does well on others.

    Upper is the cross entropy on all queries, lower that on each task's support plus weight decay of its head (Mehra
    and Hamm, ACML 2021; Franceschi et al., ICML 2018). u are the body's parameters, v the heads.

    Args:
        body: Gives (n, d) features for (n, ...) inputs; not changed.
        tasks: To learn from, such as ``make_tasks`` draws.
        method: See ``minimize``; so are inner_steps, outer_steps, lr_u, lr_v and schedule.
        inner_steps: Steps on the heads for each on the body.
        outer_steps: Steps on the body.
        lr_u: Of the body.
        lr_v: Of the heads.
        schedule: Of the penalty.
        weight_decay: Of the heads; without it a head that separates its few examples grows without end.
        run: Within a study's training function, its run; see ``minimize``. It reports "upper", "lower" and "residual".

    Returns:
        The body, and the trace.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError, CheckpointError: As for ``minimize``.
    """
    watch = stopwatch(run)
    net, tasks = Net(body), _checked(tasks)
    weight_decay = check_number(weight_decay, "weight_decay", above=0.0)
    with torch.no_grad():
        features = _features(net, net.start, tasks.support_x).shape[-1]
    count, ways = len(tasks.support_y), int(tasks.support_y.max()) + 1

    def upper(u: list[Tensor], v: list[Tensor]) -> Tensor:
        return _loss(_features(net, u, tasks.query_x), tasks.query_y, v)

    def lower(u: list[Tensor], v: list[Tensor]) -> Tensor:
        # The sum over tasks: each head's problem is then the same, however many there are.
        return count * _loss(_features(net, u, tasks.support_x), tasks.support_y, v) + decay(v, weight_decay)

    zeros = [net.start[0].new_zeros(count, ways, features), net.start[0].new_zeros(count, ways)]
    found = minimize(
        upper,
        lower,
        net.start,
        # Heads that are not yet fitted would lead the body astray.
        zeros if goes_on(run) else fit(lambda v: lower(net.start, v), zeros),
        method=method,
        inner_steps=inner_steps,
        outer_steps=outer_steps,
        lr_u=lr_u,
        lr_v=lr_v,
        schedule=(schedule or SCHEDULE) if method == "penalty" else schedule,
        run=run,
    )
    learned = net.loaded(found.u)
    accuracies = tuple(adapted(learned, tasks, weight_decay))
    return Represented(learned, weight_decay, accuracies, found, seed=found.seed, wall_s=watch())


def adapted(body: nn.Module, tasks: Tasks, weight_decay: float = 0.1) -> list[float]:
    """Accuracy of each task on its queries, with a linear head fitted to its support on the features of a body."""
    tasks, net = _checked(tasks), Net(body)
    with torch.no_grad():
        support, query = (_features(net, net.start, x) for x in (tasks.support_x, tasks.query_x))
    count, ways = len(tasks.support_y), int(tasks.support_y.max()) + 1

    def loss(v: list[Tensor]) -> Tensor:
        return count * _loss(support, tasks.support_y, v) + decay(v, weight_decay)

    heads = fit(loss, [support.new_zeros(count, ways, support.shape[-1]), support.new_zeros(count, ways)])
    outputs = _outputs(query, heads)
    return [accuracy(scores, y) for scores, y in zip(outputs, tasks.query_y, strict=True)]


def _features(net: Net, parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """(tasks, n, d) of (tasks, n, ...)."""
    found = net(parameters, x.flatten(0, 1))
    if found.dim() != 2:  # noqa: PLR2004 - examples by features
        raise ValueError(f"body gave the shape {tuple(found.shape)}: it must give (examples, features)")
    return found.reshape(*x.shape[:2], -1)


def _outputs(features: Tensor, heads: Sequence[Tensor]) -> Tensor:
    """(tasks, n, ways)."""
    weight, bias = heads
    return torch.einsum("tnd,twd->tnw", features, weight) + bias[:, None, :]


def _loss(features: Tensor, y: Tensor, heads: Sequence[Tensor]) -> Tensor:
    return cross_entropy(_outputs(features, heads).flatten(0, 1), y.reshape(-1))


def _checked(tasks: Any) -> Tasks:
    if not isinstance(tasks, tuple | list) or len(tasks) != 4 or not all(isinstance(part, Tensor) for part in tasks):  # noqa: PLR2004
        raise TypeError(f"tasks is of the type {type(tasks).__name__}: give bilevel.Tasks of four tensors")
    found = Tasks(*tasks)
    for x, y in ((found.support_x, found.support_y), (found.query_x, found.query_y)):
        if y.dim() != 2 or x.shape[:2] != y.shape:  # noqa: PLR2004 - tasks by examples
            raise ValueError(
                f"tasks have x of {tuple(x.shape)} and y of {tuple(y.shape)}: give (tasks, n, ...), (tasks, n)"
            )
    return found
