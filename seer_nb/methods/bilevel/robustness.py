"""How much a logistic regression suffers if a share of its training data is as bad as can be: a check of defence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer, check_number
from seer_nb.methods.bilevel.constraints import Box
from seer_nb.methods.bilevel.data import Labelled, accuracy, decay, fit, flip_labels, labelled
from seer_nb.methods.bilevel.figures import lines_plot
from seer_nb.methods.bilevel.minimize import begin
from seer_nb.methods.bilevel.outer_loop import Loops, go, goes_on, stopwatch
from seer_nb.methods.bilevel.schedule import PenaltySchedule
from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor

    from seer_nb.methods.bilevel.minimize import Name
    from seer_nb.methods.bilevel.outer_loop import Loop
    from seer_nb.methods.bilevel.trace import Minimum
    from seer_nb.worker.run import Run


SCHEDULE = PenaltySchedule(gamma=10.0, regulariser=100.0, eps=1.0, lr_factor=1.0, patience=10)


class Harm(NamedTuple):
    """What a number of added points does to the accuracy of a regression that is trained anew with them."""

    points: int
    share: float
    """Of the clean training points."""
    accuracy_clean: float
    """Without them."""
    accuracy_flipped: float
    """They are ordinary points with a wrong label."""
    accuracy_worst: float
    """They were moved, within the bounds, to where they harm most."""


@dataclass(frozen=True)
class Robustness(MethodResult):
    """The result of ``robustness``. Its tables and exports hold no harmful points: it measures."""

    harms: tuple[Harm, ...]
    minima: tuple[Minimum, ...]

    @property
    def best(self) -> Harm:
        """The greatest harm that was found."""
        return min(self.harms, key=lambda harm: harm.accuracy_worst)

    @property
    def frame(self) -> pd.DataFrame:
        """A row a share: points, share, accuracy_clean, accuracy_flipped, accuracy_worst."""
        import pandas as pd

        return pd.DataFrame(list(self.harms), columns=list(Harm._fields))

    def curves(self) -> pd.DataFrame:
        """A row an outer step of a share: points, and the columns of ``Minimum.frame``."""
        import pandas as pd

        pairs = zip(self.harms, self.minima, strict=True)
        return pd.concat([found.frame.assign(points=harm.points) for harm, found in pairs], ignore_index=True)

    @property
    def figures(self) -> Mapping[str, Figure]:
        """By name: "accuracy", with clean, flipped and worst points, by their share."""
        shares = [100 * harm.share for harm in self.harms]
        lines = {
            "clean data": (shares, [harm.accuracy_clean for harm in self.harms]),
            "wrong labels added": (shares, [harm.accuracy_flipped for harm in self.harms]),
            "worst points found": (shares, [harm.accuracy_worst for harm in self.harms]),
        }
        return {"accuracy": lines_plot("Harm by bad data", "accuracy", lines, log=False, across="added points, %")}


def robustness(  # noqa: PLR0913 - what the method can be told
    train: Any,
    val: Any,
    test: Any,
    *,
    shares: Sequence[float] = (0.01, 0.03, 0.06),
    bounds: tuple[float, float] = (0.0, 1.0),
    method: Name = "penalty",
    inner_steps: int = 10,
    outer_steps: int = 200,
    lr_u: float = 5e-2,
    lr_v: float = 1e-2,
    schedule: PenaltySchedule | None = None,
    weight_decay: float = 1e-2,
    seed: int = 0,
    run: Run | None = None,
) -> Robustness:
    """Measure how far a few added training points can lower the accuracy of a logistic regression.

    Untargeted: upper is minus the cross entropy on validation examples, lower the training loss with the added points,
    whose inputs are u and whose labels are wrong (Mehra and Hamm, ACML 2021). What is reported was trained anew, with
    L-BFGS, and measured on test examples that the search never saw. A search finds a lower bound of the harm, not all.

    Args:
        train: A dataset of pairs (x, class), or a pair of tensors (n, d), (n,).
        val: The same: what the search sees of the harm.
        test: The same: what the harm is measured on.
        shares: How many points are added, over n; each from 0 to 1.
        bounds: Within which inputs lie.
        method: See ``minimize``; so are inner_steps, outer_steps, lr_u, lr_v and schedule.
        inner_steps: Steps on the regression for each on the points.
        outer_steps: Steps on the points.
        lr_u: Of the points.
        lr_v: Of the regression.
        schedule: Of the penalty.
        weight_decay: Of the regression.
        seed: Of which points are drawn, and of their labels.
        run: Within a study's training function, its run; see ``minimize``. Each epoch takes its part of the steps for
            every share, and reports "upper", "lower" and "residual": their means over the shares.

    Returns:
        A row a share.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError, CheckpointError: As for ``minimize``.
    """
    watch = stopwatch(run)
    parts = {name: _flat(labelled(data, name)) for name, data in (("train", train), ("val", val), ("test", test))}
    box = Box(*bounds)
    counts = [_count(share, len(parts["train"].y)) for share in _checked(shares)]
    regression = _Regression(
        parts["train"], parts["val"], parts["test"], check_number(weight_decay, "weight_decay", above=0.0)
    )
    added = [regression.flipped(count, check_integer(seed, "seed", 0)) for count in counts]

    def begun(points: Labelled) -> Loop:
        return begin(
            regression.upper,
            lambda u, v: regression.lower(Labelled(u[0], points.y), v),
            [points.x],
            regression.zeros() if goes_on(run) else regression.fitted(points),
            method=method,
            inner_steps=inner_steps,
            outer_steps=outer_steps,
            lr_u=lr_u,
            lr_v=lr_v,
            schedule=(schedule or SCHEDULE) if method == "penalty" else schedule,
            u_box=box,
        )

    loops = Loops([begun(points) for points in added])
    go(loops, run)
    minima = loops.minima(seed)
    worst = [Labelled(found.u[0], points.y) for found, points in zip(minima, added, strict=True)]
    harms = regression.harms(added, worst)
    return Robustness(harms, minima, seed=seed, wall_s=watch())


class _Regression:
    """A logistic regression of several classes, as a function of points added to its training data."""

    def __init__(self, train: Labelled, val: Labelled, test: Labelled, weight_decay: float) -> None:
        self._train, self._val, self._test, self._weight_decay = train, val, test, weight_decay
        self._classes = int(torch.cat([train.y, val.y, test.y]).max()) + 1

    def upper(self, _: list[Tensor], v: list[Tensor]) -> Tensor:
        return -cross_entropy(self._outputs(v, self._val.x), self._val.y)

    def lower(self, added: Labelled, v: list[Tensor]) -> Tensor:
        x, y = torch.cat([self._train.x, added.x]), torch.cat([self._train.y, added.y])
        return cross_entropy(self._outputs(v, x), y) + decay(v, self._weight_decay)

    def fitted(self, added: Labelled) -> list[Tensor]:
        """Trained anew."""
        return fit(lambda v: self.lower(added, v), self.zeros())

    def zeros(self) -> list[Tensor]:
        """Untrained."""
        return [self._train.x.new_zeros(self._classes, self._train.x.shape[1]), self._train.x.new_zeros(self._classes)]

    def harms(self, flipped: Sequence[Labelled], worst: Sequence[Labelled]) -> tuple[Harm, ...]:
        """Of points as they were, and as they have become."""
        n, clean = len(self._train.y), self.accuracy(Labelled(self._train.x[:0], self._train.y[:0]))
        return tuple(
            Harm(len(was.y), len(was.y) / n, clean, self.accuracy(was), self.accuracy(now))
            for was, now in zip(flipped, worst, strict=True)
        )

    def accuracy(self, added: Labelled) -> float:
        """On test examples, trained anew."""
        return accuracy(self._outputs(self.fitted(added), self._test.x), self._test.y)

    def flipped(self, count: int, seed: int) -> Labelled:
        """Points of the training data with labels of other classes."""
        drawn = torch.Generator().manual_seed(seed)
        places = torch.randperm(len(self._train.y), generator=drawn)[:count]
        wrong, _ = flip_labels(self._train.y, 1.0, seed)
        return Labelled(self._train.x[places], wrong[places])

    @staticmethod
    def _outputs(v: Sequence[Tensor], x: Tensor) -> Tensor:
        weight, bias = v
        return x @ weight.T + bias


def _flat(data: Labelled) -> Labelled:
    return Labelled(data.x.flatten(1), data.y)


def _checked(shares: Any) -> list[float]:
    if isinstance(shares, str) or not isinstance(shares, Sequence) or not shares:
        raise TypeError(f"shares={short_repr(shares)} is no list: give shares such as (0.01, 0.03)")
    return [check_number(share, "shares", above=0.0, most=1.0) for share in shares]


def _count(share: float, n: int) -> int:
    count = round(share * n)
    if not count:
        raise ValueError(f"shares={short_repr(share)} of {n} points is none: give at least {1 / n:g}")
    return count
