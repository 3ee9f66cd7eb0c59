"""One fit, and what it is worth: scaled by what was trained on, timed, judged by other samples."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from seer_nb.methods.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seer_nb.methods.sweep.split import Places, Split
    from seer_nb.methods.sweep.table import Numbers, Table


class Model(Protocol):
    """What is fitted: a scikit-learn estimator, or what is made to look like one."""

    def fit(self, x: Numbers, y: Numbers) -> Any:
        """Train."""

    def predict(self, x: Numbers) -> Any:
        """Predict."""


class Fit(NamedTuple):
    """What one repeat of a cell has shown."""

    validation: float
    """RMSE over all standardised targets, of a model fitted without the validation samples, on these."""
    rmse: float
    """RMSE over all standardised targets, of a model fitted on the whole training part, on the test samples."""
    ct_s: float
    """Wall-clock seconds that fitting that model took, with one thread; waiting for a worker is not in it."""
    converged: float
    """1, or 0 if scikit-learn has warned that one of the two fits did not converge."""
    units: tuple[float, ...]
    """RMSE of each target in its own unit, on the test samples."""
    standard: tuple[float, ...]
    """The same in standard deviations of the training part."""


class Score(NamedTuple):
    """Of one model."""

    units: Numbers
    standard: Numbers
    seconds: float
    converged: bool

    @property
    def overall(self) -> float:
        """Over all targets: each counts alike, for they are standardised."""
        return float(np.sqrt(np.mean(self.standard**2)))


def fit(make: Callable[[], Model], table: Table, split: Split) -> Fit:
    """Fit twice: without the validation samples to be compared, and on the whole training part to be reported.

    Args:
        make: A new model each time.
        table: All samples.
        split: Which of them are what.

    Raises:
        ValueError: The model does not predict a finite number for each sample and target.
        Exception: Whatever the model raises.
    """
    with one_thread():
        chosen = _score(make(), table, split.fit, split.validation)
        found = _score(make(), table, split.train, split.test)
    return Fit(
        validation=chosen.overall,
        rmse=found.overall,
        ct_s=found.seconds,
        converged=float(chosen.converged and found.converged),
        units=tuple(found.units.tolist()),
        standard=tuple(found.standard.tolist()),
    )


def _score(model: Model, table: Table, seen: Places, unseen: Places) -> Score:
    from sklearn.metrics import root_mean_squared_error
    from sklearn.preprocessing import StandardScaler

    inputs, outputs = StandardScaler().fit(table.x[seen]), StandardScaler().fit(table.y[seen])
    x, y = inputs.transform(table.x[seen]), outputs.transform(table.y[seen])
    # Estimators of one target want it flat.
    y = y[:, 0] if y.shape[1] == 1 else y
    with _convergence() as unconverged:
        begun_s = time.perf_counter()
        model.fit(x, y)
        seconds = time.perf_counter() - begun_s
    expected = outputs.transform(table.y[unseen])
    predicted = _checked(model.predict(inputs.transform(table.x[unseen])), expected.shape)
    standard: Numbers = root_mean_squared_error(expected, predicted, multioutput="raw_values")
    return Score(standard * outputs.scale_, standard, seconds, not unconverged)


def _checked(predicted: Any, shape: tuple[int, ...]) -> Numbers:
    found = np.asarray(predicted, dtype=np.float64)
    if found.size != np.prod(shape) or found.shape[:1] != shape[:1]:
        raise ValueError(f"its predictions have the shape {found.shape}: they must have {shape}, (samples, targets)")
    if not np.isfinite(found).all():
        raise ValueError("its predictions are not all finite: training has diverged")
    return found.reshape(shape)


@contextmanager
def _convergence() -> Iterator[list[str]]:
    """Warnings of fits that did not converge, which are a column of the table; all others are passed on."""
    from sklearn.exceptions import ConvergenceWarning

    unconverged: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        yield unconverged
    for warning in said:
        if issubclass(warning.category, ConvergenceWarning):
            unconverged.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
