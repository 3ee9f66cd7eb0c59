"""The loss of accuracy of a logistic regression if a share of its training data is the worst possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.bilevel.constraints import Box
from seer_nb.methods.bilevel.data import Labelled, accuracy, fit_lbfgs, flip_labels, read_labelled, weight_decay_loss
from seer_nb.methods.bilevel.figures import plot_lines
from seer_nb.methods.bilevel.minimize import make_loop, make_problem
from seer_nb.methods.bilevel.options import SolverOptions
from seer_nb.methods.bilevel.outer_loop import LoopGroup, is_resumed, run_loop, start_stopwatch
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor

    from seer_nb.methods.bilevel.options import MethodName
    from seer_nb.methods.bilevel.outer_loop import OuterLoop
    from seer_nb.methods.bilevel.trace import Minimum
    from seer_nb.worker.run import Run


SCHEDULE = PenaltySchedule(gamma=10.0, regulariser=100.0, eps=1.0, lr_factor=1.0, patience=10)


class Harm(NamedTuple):
    """Accuracies of the regression, trained with and without a number of added points."""

    points: int
    """Number of added points."""
    share: float
    """Added points per clean training point."""
    accuracy_clean: float
    """Accuracy without added points."""
    accuracy_flipped: float
    """Accuracy with ordinary points that have a wrong label."""
    accuracy_worst: float
    """Accuracy with points moved, within the bounds, to where they harm most."""


@dataclass(frozen=True)
class Robustness(MethodResult):
    """The result of ``robustness``; its tables and exports are measurements, and hold no harmful points."""

    harms: tuple[Harm, ...]
    """Accuracies, one entry per share."""
    minima: tuple[Minimum, ...]
    """Searches for the worst points, one per share."""

    @property
    def best(self) -> Harm:
        """The greatest harm found."""
        return min(self.harms, key=lambda harm: harm.accuracy_worst)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per share: points, share, accuracy_clean, accuracy_flipped, accuracy_worst."""
        import pandas as pd

        return pd.DataFrame(list(self.harms), columns=list(Harm._fields))

    def curves(self) -> pd.DataFrame:
        """Return one row per outer step of each share: points, and the columns of ``Minimum.frame``."""
        import pandas as pd

        pairs = zip(self.harms, self.minima, strict=True)
        return pd.concat([found.frame.assign(points=harm.points) for harm, found in pairs], ignore_index=True)

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures: "accuracy" (with clean, flipped and worst points, by their share)."""
        shares = [100 * harm.share for harm in self.harms]
        lines = {
            "clean data": (shares, [harm.accuracy_clean for harm in self.harms]),
            "wrong labels added": (shares, [harm.accuracy_flipped for harm in self.harms]),
            "worst points found": (shares, [harm.accuracy_worst for harm in self.harms]),
        }
        return {"accuracy": plot_lines("Harm by bad data", "accuracy", lines, log=False, x_title="added points (%)")}


def robustness(  # noqa: PLR0913 - the public options
    train: Any,
    val: Any,
    test: Any,
    *,
    shares: Sequence[float] = (0.01, 0.03, 0.06),
    bounds: tuple[float, float] = (0.0, 1.0),
    method: MethodName = "penalty",
    inner_steps: int = 10,
    outer_steps: int = 200,
    lr_u: float = 5e-2,
    lr_v: float = 1e-2,
    schedule: PenaltySchedule | None = None,
    weight_decay: float = 1e-2,
    seed: int = 0,
    run: Run | None = None,
) -> Robustness:
    """Measure how much a few added training points can lower the accuracy of a logistic regression.

    Untargeted: upper is minus the cross entropy on validation examples, lower the training loss with the added points,
    whose inputs are u and whose labels are wrong (Mehra and Hamm, ACML 2021). The reported accuracies are those of a
    regression retrained by L-BFGS, on test examples that the search never used. A search finds a lower bound of the
    possible harm.

    Args:
        train: Dataset of pairs (x, class), or a pair of tensors (n, d), (n,).
        val: Examples on which the search measures harm, likewise.
        test: Examples on which the reported accuracies are measured, likewise.
        shares: Numbers of added points over n, each above 0 and at most 1.
        bounds: Lower and upper bound of all inputs.
        method: See ``minimize``, as for inner_steps, outer_steps, lr_u, lr_v and schedule.
        inner_steps: Steps on the regression per step on the points.
        outer_steps: Steps on the points.
        lr_u: Learning rate of the points.
        lr_v: Learning rate of the regression.
        schedule: Schedule of the penalty. Default: one for this problem.
        weight_decay: Weight decay of the regression, above 0.
        seed: Seed of the choice of the points and of their labels.
        run: The run of a study's training function; see ``minimize``. Each epoch takes its part of the steps for every
            share, and reports "upper", "lower" and "residual": their means over the shares.

    Returns:
        The accuracies, one row per share, and the traces.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError, CheckpointError: As for ``minimize``.

    Example:
        >>> robustness((x, y), (val_x, val_y), (test_x, test_y), shares=(0.03,)).frame
    """
    elapsed_s = start_stopwatch(run)
    options = SolverOptions(
        method=method, inner_steps=inner_steps, outer_steps=outer_steps, lr_u=lr_u, lr_v=lr_v, schedule=schedule
    ).with_default_schedule(SCHEDULE)
    clean, val, test = (
        _flatten(read_labelled(data, name)) for name, data in (("train", train), ("val", val), ("test", test))
    )
    box = Box(*bounds)
    counts = [_count_points(share, len(clean.y)) for share in _check_shares(shares)]
    regression = _Regression(clean, val, test, check_number(weight_decay, "weight_decay", greater_than=0.0))
    added = [regression.flipped(count, check_integer(seed, "seed", 0)) for count in counts]

    def search(points: Labelled) -> OuterLoop:
        start = regression.zeros() if is_resumed(run) else regression.fitted(points)
        problem = make_problem(
            regression.upper,
            lambda u, v: regression.lower(Labelled(u[0], points.y), v),
            [points.x],
            start,
            u_box=box,
        )
        return make_loop(problem, options)

    loops = LoopGroup([search(points) for points in added])
    run_loop(loops, run)
    minima = loops.minima(seed)
    worst = [Labelled(found.u[0], points.y) for found, points in zip(minima, added, strict=True)]
    return Robustness(regression.harms(added, worst), minima, seed=seed, wall_s=elapsed_s())


class _Regression:
    """A logistic regression of several classes, as a function of points added to its training data."""

    def __init__(self, train: Labelled, val: Labelled, test: Labelled, weight_decay: float) -> None:
        self._train, self._val, self._test, self._weight_decay = train, val, test, weight_decay
        self._classes = int(torch.cat([train.y, val.y, test.y]).max()) + 1

    def upper(self, _: list[Tensor], v: list[Tensor]) -> Tensor:
        return -cross_entropy(self._outputs(v, self._val.x), self._val.y)

    def lower(self, added: Labelled, v: list[Tensor]) -> Tensor:
        x, y = torch.cat([self._train.x, added.x]), torch.cat([self._train.y, added.y])
        return cross_entropy(self._outputs(v, x), y) + weight_decay_loss(v, self._weight_decay)

    def fitted(self, added: Labelled) -> list[Tensor]:
        """Return parameters trained with the added points."""
        return fit_lbfgs(lambda v: self.lower(added, v), self.zeros())

    def zeros(self) -> list[Tensor]:
        """Return untrained parameters."""
        return [self._train.x.new_zeros(self._classes, self._train.x.shape[1]), self._train.x.new_zeros(self._classes)]

    def harms(self, flipped: Sequence[Labelled], worst: Sequence[Labelled]) -> tuple[Harm, ...]:
        """Return the accuracies with ordinary points of wrong labels, and with the same points after the search."""
        n, clean = len(self._train.y), self.accuracy(Labelled(self._train.x[:0], self._train.y[:0]))
        return tuple(
            Harm(len(before.y), len(before.y) / n, clean, self.accuracy(before), self.accuracy(after))
            for before, after in zip(flipped, worst, strict=True)
        )

    def accuracy(self, added: Labelled) -> float:
        """Return the test accuracy after training with the added points."""
        return accuracy(self._outputs(self.fitted(added), self._test.x), self._test.y)

    def flipped(self, count: int, seed: int) -> Labelled:
        """Return training points with labels of other classes."""
        drawn = torch.Generator().manual_seed(seed)
        places = torch.randperm(len(self._train.y), generator=drawn)[:count]
        wrong, _ = flip_labels(self._train.y, 1.0, seed)
        return Labelled(self._train.x[places], wrong[places])

    @staticmethod
    def _outputs(v: Sequence[Tensor], x: Tensor) -> Tensor:
        weight, bias = v
        return x @ weight.T + bias


def _flatten(data: Labelled) -> Labelled:
    return Labelled(data.x.flatten(1), data.y)


def _check_shares(shares: Any) -> list[float]:
    if isinstance(shares, str) or not isinstance(shares, Sequence) or not shares:
        raise TypeError(f"shares={short_repr(shares)}: not a list; expected shares such as (0.01, 0.03)")
    return [check_number(share, "shares", greater_than=0.0, at_most=1.0) for share in shares]


def _count_points(share: float, n: int) -> int:
    count = round(share * n)
    if not count:
        raise ValueError(f"shares={short_repr(share)}: adds no point to {n}; expected at least {1 / n:g}")
    return count
