"""The task of a sweep: fits any of its cells, in this process or as a study's training function."""

from __future__ import annotations

import inspect
import math
from copy import deepcopy
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Self

from seer_nb._utils.randomness import derive_seed, seed_all
from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer
from seer_nb.methods.sweep.cell import Fit, FunctionEstimator, fit_cell
from seer_nb.methods.sweep.data import check_seed, read_samples, split, split_sizes
from seer_nb.methods.sweep.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from seer_nb.core import Config
    from seer_nb.methods.sweep.cell import Estimator
    from seer_nb.methods.sweep.data import Samples
    from seer_nb.methods.sweep.grid import Cell
    from seer_nb.worker.run import Run


METRIC = "validation_rmse"
"""Metric that a study of a sweep minimises: the mean over a cell's repeats."""
TRAIN_RATIOS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Default train ratios."""
_FIT_FIELDS = ("validation", "rmse", "ct_s", "converged")
_TARGET_FIELDS = ("units", "standard")


class SweepTask:
    """Everything that defines a sweep, except where and when it runs.

    The result of a cell depends only on these arguments: it is the same in any process and any order.

    Args:
        estimator: A scikit-learn regressor, or a training function.
        grid: The cells.
        samples: All samples.
        repeats: Repeats per cell, each with its own split and random draws.
        validation: Share of the training part that compares configurations.
        max_epochs: Epochs of a training function.
        seed: Seed of all random draws.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value.
    """

    __name__ = "sweep"

    def __init__(  # noqa: PLR0913 - the definition of a sweep
        self,
        estimator: Any,
        grid: Grid,
        samples: Samples,
        *,
        repeats: int,
        validation: float,
        max_epochs: int,
        seed: int,
    ) -> None:
        _check_estimator(estimator, grid)
        for ratio in grid.ratios:
            split_sizes(len(samples), ratio, validation)
        self.estimator, self.grid, self.samples = estimator, grid, samples
        self.repeats = check_integer(repeats, "repeats")
        self.validation = validation
        self.max_epochs = check_integer(max_epochs, "max_epochs")
        self.seed = check_seed(seed)

    @classmethod
    def read(  # noqa: PLR0913 - the definition of a sweep
        cls,
        estimator: Any,
        grid: Mapping[str, Any],
        x: Any,
        y: Any,
        *,
        train_ratios: Iterable[float] = TRAIN_RATIOS,
        repeats: int = 3,
        validation: float = 0.25,
        max_epochs: int = 100,
        seed: int = 0,
    ) -> Self:
        """Check the arguments of a user, and create the task; see ``sweep``."""
        return cls(
            estimator,
            Grid(grid, train_ratios),
            read_samples(x, y),
            repeats=repeats,
            validation=validation,
            max_epochs=max_epochs,
            seed=seed,
        )

    def __repr__(self) -> str:
        return f"<sweep of {len(self.grid)} cells>"

    def __call__(self, config: Config, run: Run) -> None:
        """Fit one cell, as a study's training function."""
        run.report(**to_metrics(self.fit(self.grid.cell(config)), self.samples.targets))

    def fit(self, cell: Cell) -> tuple[Fit, ...]:
        """Fit all repeats of a cell.

        Raises:
            Exception: Any exception of the estimator.
        """
        return tuple(self._fit_repeat(cell, repeat) for repeat in range(1, self.repeats + 1))

    def _fit_repeat(self, cell: Cell, repeat: int) -> Fit:
        places = split(len(self.samples), cell.train_ratio, repeat=repeat, validation=self.validation, seed=self.seed)
        return fit_cell(self._estimator_factory(cell.config, derive_seed(self.seed, repeat)), self.samples, places)

    def _estimator_factory(self, config: Config, seed: int) -> Callable[[], Estimator]:
        if _is_estimator(self.estimator):
            return lambda: _make_estimator(self.estimator, config, seed)
        # Import before the first fit: seeds and the thread limit reach only libraries that are already loaded.
        import torch  # noqa: F401 - imported for its generators and threads

        return lambda: FunctionEstimator(self.estimator, config, self.max_epochs, seed)


def to_metrics(fits: Sequence[Fit], targets: Iterable[str]) -> dict[str, float]:
    """Return the metrics that report a cell: three summaries, then the measurements of each repeat."""
    found = {
        METRIC: mean(fit.validation for fit in fits),
        "rmse": mean(fit.rmse for fit in fits),
        "ct_s": median(fit.ct_s for fit in fits),
    }
    names = tuple(targets)
    for repeat, fit in enumerate(fits, 1):
        found |= {_fit_key(name, repeat): getattr(fit, name) for name in _FIT_FIELDS}
        for kind in _TARGET_FIELDS:
            values = zip(names, getattr(fit, kind), strict=True)
            found |= {_target_key(kind, repeat, target): value for target, value in values}
    return found


def from_metrics(reported: Mapping[str, float | None], targets: Iterable[str], repeats: int) -> tuple[Fit, ...]:
    """Return the fits of a report; the inverse of ``to_metrics``."""
    names = tuple(targets)

    def read(name: str) -> float:
        value = reported[name]
        return math.nan if value is None else value

    def read_fit(repeat: int) -> Fit:
        numbers = {name: read(_fit_key(name, repeat)) for name in _FIT_FIELDS}
        units, standard = (tuple(read(_target_key(kind, repeat, name)) for name in names) for kind in _TARGET_FIELDS)
        return Fit(**numbers, units=units, standard=standard)

    return tuple(read_fit(repeat) for repeat in range(1, repeats + 1))


def _fit_key(name: str, repeat: int) -> str:
    return f"{name}:{repeat}"


def _target_key(kind: str, repeat: int, target: str) -> str:
    return f"{kind}:{repeat}:{target}"


def _make_estimator(estimator: Any, config: Config, seed: int) -> Estimator:
    """Return a new estimator with these hyperparameters; every random_state that is None is set from the seed."""
    from sklearn.base import clone

    # Some estimators draw from the global generators.
    seed_all(seed)
    made: Estimator = clone(estimator).set_params(**deepcopy(config))
    unseeded = [
        name
        for name, value in sorted(made.get_params().items())  # type: ignore[attr-defined]
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    ]
    made.set_params(**dict.fromkeys(unseeded, seed % 2**32))  # type: ignore[attr-defined]
    return made


def _is_estimator(estimator: Any) -> bool:
    return all(callable(getattr(estimator, name, None)) for name in ("fit", "predict", "get_params", "set_params"))


def _check_estimator(estimator: Any, grid: Grid) -> None:
    expected = "expected a scikit-learn regressor such as MLPRegressor(), or a training function of (config, run)"
    if isinstance(estimator, type) or not (_is_estimator(estimator) or callable(estimator)):
        raise TypeError(f"estimator={short_repr(estimator)}: neither an estimator nor a function; {expected}")
    if _is_estimator(estimator):
        known = estimator.get_params()
        for name in grid.names:
            if name not in known:
                names = ", ".join(map(repr, sorted(known)))
                raise ValueError(
                    f"grid: {short_repr(estimator)} has no hyperparameter {name!r}; expected one of {names}"
                )
        return
    try:
        inspect.signature(estimator).bind("config", "run")
    except (TypeError, ValueError):
        raise TypeError(f"estimator={short_repr(estimator)}: not callable as train(config, run); {expected}") from None
