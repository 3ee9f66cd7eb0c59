"""What is done for each cell of a sweep, here or by a worker: a training function for a study."""

from __future__ import annotations

import inspect
import math
from copy import deepcopy
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Self

from seer_nb._utils.randomness import derive_seed, seed_all
from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer
from seer_nb.methods.sweep import data
from seer_nb.methods.sweep.cell import Fit, Trained, fit
from seer_nb.methods.sweep.data import seed_of, sizes_of, split
from seer_nb.methods.sweep.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from seer_nb.core import Config
    from seer_nb.methods.sweep.cell import Model
    from seer_nb.methods.sweep.data import Table
    from seer_nb.methods.sweep.grid import Cell
    from seer_nb.worker.run import Run


METRIC = "validation_rmse"
"""What a study of a sweep minimises: the mean over a cell's repeats."""
_OF_FITS = ("validation", "rmse", "ct_s", "converged")
_OF_TARGETS = ("units", "standard")


def metrics(fits: Sequence[Fit], targets: Iterable[str]) -> dict[str, float]:
    """As one report: three numbers to look at, then those of each repeat."""
    found = {
        METRIC: mean(fit.validation for fit in fits),
        "rmse": mean(fit.rmse for fit in fits),
        "ct_s": median(fit.ct_s for fit in fits),
    }
    names = tuple(targets)
    for repeat, done in enumerate(fits, 1):
        found |= {_of_fit(name, repeat): getattr(done, name) for name in _OF_FITS}
        for kind in _OF_TARGETS:
            values = zip(names, getattr(done, kind), strict=True)
            found |= {_of_target(kind, repeat, target): value for target, value in values}
    return found


def fits(reported: Mapping[str, float | None], targets: Iterable[str], repeats: int) -> tuple[Fit, ...]:
    """The fits of a report."""
    names = tuple(targets)

    def read(name: str) -> float:
        value = reported[name]
        return math.nan if value is None else value

    def read_fit(repeat: int) -> Fit:
        numbers = {name: read(_of_fit(name, repeat)) for name in _OF_FITS}
        units, standard = (tuple(read(_of_target(kind, repeat, name)) for name in names) for kind in _OF_TARGETS)
        return Fit(**numbers, units=units, standard=standard)

    return tuple(read_fit(repeat) for repeat in range(1, repeats + 1))


def _of_fit(name: str, repeat: int) -> str:
    return f"{name}:{repeat}"


def _of_target(kind: str, repeat: int, target: str) -> str:
    return f"{kind}:{repeat}:{target}"


RATIOS = (0.5, 0.6, 0.7, 0.8, 0.9)


class Task:
    """All that a sweep is, but for where and when.

    What comes of a cell depends on nothing but the arguments here, so it is the same whoever does it, and after whom.

    Args:
        estimator: A scikit-learn regressor, or a training function.
        grid: The cells.
        samples: All of them.
        repeats: Of each cell, each with another split and other draws.
        validation: Share of the training part that chooses.
        max_epochs: For a training function.
        seed: Of all that is drawn.

    Raises:
        TypeError, ValueError: For what cannot be.
    """

    __name__ = "sweep"

    def __init__(  # noqa: PLR0913 - what a sweep is made of
        self,
        estimator: Any,
        grid: Grid,
        samples: Table,
        *,
        repeats: int,
        validation: float,
        max_epochs: int,
        seed: int,
    ) -> None:
        _check_estimator(estimator, grid)
        for ratio in grid.ratios:
            sizes_of(len(samples), ratio, validation)
        self.estimator, self.grid, self.table = estimator, grid, samples
        self.repeats = check_integer(repeats, "repeats")
        self.validation = validation
        self.max_epochs = check_integer(max_epochs, "max_epochs")
        self.seed = seed_of(seed)

    @classmethod
    def read(  # noqa: PLR0913 - what a sweep is made of
        cls,
        estimator: Any,
        grid: Mapping[str, Any],
        x: Any,
        y: Any,
        *,
        train_ratios: Iterable[float] = RATIOS,
        repeats: int = 3,
        validation: float = 0.25,
        max_epochs: int = 100,
        seed: int = 0,
    ) -> Self:
        """Check what a user has given; see ``sweep``."""
        return cls(
            estimator,
            Grid(grid, train_ratios),
            data.read(x, y),
            repeats=repeats,
            validation=validation,
            max_epochs=max_epochs,
            seed=seed,
        )

    def __repr__(self) -> str:
        return f"<sweep of {len(self.grid)} cells>"

    def __call__(self, config: Config, run: Run) -> None:
        """Train one cell, as a study's function."""
        run.report(**metrics(self.fits(self.grid.cell(config)), self.table.targets))

    def fits(self, cell: Cell) -> tuple[Fit, ...]:
        """All repeats of a cell.

        Raises:
            Exception: Whatever the estimator raises.
        """
        return tuple(self._fit(cell, repeat) for repeat in range(1, self.repeats + 1))

    def _fit(self, cell: Cell, repeat: int) -> Fit:
        places = split(len(self.table), cell.train_ratio, repeat=repeat, validation=self.validation, seed=self.seed)
        return fit(self._maker(cell.config, derive_seed(self.seed, repeat)), self.table, places)

    def _maker(self, config: Config, seed: int) -> Callable[[], Model]:
        if _is_estimator(self.estimator):
            return lambda: _estimator(self.estimator, config, seed)
        # Before the first fit: what is imported later is neither seeded nor kept to one thread in it.
        import torch  # noqa: F401

        return lambda: Trained(self.estimator, config, self.max_epochs, seed)


def _estimator(estimator: Any, config: Config, seed: int) -> Model:
    """A new one with these hyperparameters; whatever draws and was given no seed gets ours."""
    from sklearn.base import clone

    # For an estimator that draws from the global generators.
    seed_all(seed)
    made: Model = clone(estimator).set_params(**deepcopy(config))
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
    hint = "give a scikit-learn regressor such as MLPRegressor(), or a training function of (config, run)"
    if isinstance(estimator, type) or not (_is_estimator(estimator) or callable(estimator)):
        raise TypeError(f"estimator={short_repr(estimator)} is neither: {hint}")
    if _is_estimator(estimator):
        known = estimator.get_params()
        for name in grid.names:
            if name not in known:
                words = ", ".join(map(repr, sorted(known)))
                raise ValueError(
                    f"grid has the name {name!r}, which {short_repr(estimator)} does not know: it has {words}"
                )
        return
    try:
        inspect.signature(estimator).bind("config", "run")
    except (TypeError, ValueError):
        raise TypeError(f"estimator={short_repr(estimator)} cannot be called as train(config, run): {hint}") from None
