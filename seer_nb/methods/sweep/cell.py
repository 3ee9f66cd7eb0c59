"""The fits of one cell of a sweep, and the run that a training function receives for a fit."""

from __future__ import annotations

import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from seer_nb._utils.randomness import derive_seed, seed_all
from seer_nb.methods.threads import one_thread
from seer_nb.worker import gpu
from seer_nb.worker.metrics import as_finite_floats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.utils.data import DataLoader

    from seer_nb.core import Config
    from seer_nb.methods.sweep.data import FloatArray, IndexArray, Samples, Split


class Fit(NamedTuple):
    """The measurements of one repeat of a cell."""

    validation: float
    """RMSE over all standardised targets on the validation samples, of a model fitted without them."""
    rmse: float
    """RMSE over all standardised targets on the test samples, of a model fitted on the whole training part."""
    ct_s: float
    """Computational time: wall-clock seconds to fit that model with one thread, without waiting for a worker."""
    converged: float
    """1; or 0 if scikit-learn warned that one of the two fits did not converge."""
    units: tuple[float, ...]
    """Test RMSE of each target in its own unit."""
    standard: tuple[float, ...]
    """Test RMSE of each target in standard deviations of the training part."""


class CellRun:
    """The run of a training function within a sweep: the samples of one fit, and the part of ``Run`` that it needs.

    A training function of a study needs two changes for a sweep: it reads its samples from ``run.x`` and ``run.y``, and
    returns its model.

    Example:
        >>> def train(config, run):
        ...     return Ridge(alpha=config["alpha"]).fit(run.x, run.y)
    """

    rank = 0
    world_size = 1

    def __init__(self, x: FloatArray, y: FloatArray, config: Config, max_epochs: int, seed: int) -> None:
        self.x = x
        """Training inputs, (samples, inputs), float64, standardised."""
        self.y = y if y.ndim > 1 else y[:, None]
        """Training targets, (samples, targets), float64, standardised."""
        self.config = config
        self.max_epochs = max_epochs
        self.seed = seed
        self.epoch = 1
        """Current epoch, from 1."""
        self.reports: list[dict[str, float | None]] = []
        self.state: dict[str, Any] = {}
        self.saved: bytes | None = None

    @property
    def device(self) -> torch.device:
        """This worker's GPU, or the CPU if it has none."""
        return gpu.device()

    def epochs(self) -> Iterator[int]:
        """Yield the epochs from 1 to ``max_epochs``, and seed the global generators before each."""
        for epoch in range(1, self.max_epochs + 1):
            self.epoch = epoch
            seed_all(self.seed, epoch)
            yield epoch

    def prepare(self, *objects: Any, find_unused_parameters: bool = False) -> Any:  # noqa: ARG002 - the signature of `Run`
        """Return the objects, with modules moved to ``device``."""
        ready = [each.to(self.device) if hasattr(each, "parameters") else each for each in objects]
        return ready[0] if len(ready) == 1 else tuple(ready)

    def loader(
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        scale_batch: bool = False,  # noqa: ARG002 - the signature of `Run`
        **more: Any,
    ) -> DataLoader[Any]:
        """Return a DataLoader whose order depends on the seed.

        Args:
            dataset: Torch dataset.
            batch_size: Samples per batch.
            shuffle: Whether the order is random.
            scale_batch: Ignored, because there is one worker.
            **more: Further arguments of ``torch.utils.data.DataLoader``.
        """
        import torch
        from torch.utils.data import DataLoader

        order = torch.Generator().manual_seed(derive_seed(self.seed, 0))
        return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, generator=order, **more)

    def mean(self, value: float, n: float = 1.0) -> float:  # noqa: ARG002 - the signature of `Run`
        """Return the value unchanged, because there is one worker."""
        return value

    @property
    def should_stop(self) -> bool:
        """Whether all epochs were reported."""
        return len(self.reports) >= self.max_epochs

    def report(self, *, stop: str = "raise", **metrics: Any) -> None:  # noqa: ARG002 - the signature of `Run`
        """Record the metrics of an epoch in ``reports``; the sweep itself measures the returned model.

        Args:
            stop: Ignored; this method never ends training.
            **metrics: One number each.

        Raises:
            RuntimeError: All epochs were reported already.
        """
        if self.should_stop:
            raise RuntimeError(
                f"run.report() was called after max_epochs={self.max_epochs} reports; expected a loop over run.epochs()"
            )
        self.reports.append(as_finite_floats(metrics))

    def save(self, state: bytes) -> None:
        """Keep bytes until the function returns; a cell is never resumed."""
        self.saved = state


class Estimator(Protocol):
    """A scikit-learn estimator, or an object with the same two methods."""

    def fit(self, x: FloatArray, y: FloatArray) -> Any:
        """Train."""

    def predict(self, x: FloatArray) -> Any:
        """Predict."""


class FunctionEstimator:
    """An estimator that trains by a training function.

    Args:
        function: ``function(config, run)`` trains on ``run.x`` and ``run.y`` and returns a model: an object with
            ``predict``, a torch module, or a function of (samples, inputs). The model predicts (samples, targets).
        config: Configuration for the function.
        max_epochs: Number of epochs in ``run.epochs()``.
        seed: Seed of all random draws.
    """

    def __init__(self, function: Callable[..., Any], config: Config, max_epochs: int, seed: int) -> None:
        self._function, self._config, self._max_epochs, self._seed = function, config, max_epochs, seed
        self._predict: Callable[[FloatArray], Any] | None = None

    def fit(self, x: FloatArray, y: FloatArray) -> None:
        seed_all(self._seed)
        run = CellRun(x, y, dict(self._config), self._max_epochs, self._seed)
        self._predict = _predictor(self._function(dict(self._config), run))

    def predict(self, x: FloatArray) -> FloatArray:
        assert self._predict is not None
        return _to_numpy(self._predict(x))


def _predictor(model: Any) -> Callable[[FloatArray], Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return lambda x: _predict_module(model, x)
    predict = getattr(model, "predict", model)
    if not callable(predict):
        raise TypeError(
            f"the training function returned {model!r}; expected its model: a torch module, an object with predict, or "
            "a function"
        )
    found: Callable[[FloatArray], Any] = predict
    return found


def _predict_module(model: Any, x: FloatArray) -> Any:
    import torch

    like = next(model.parameters(), torch.zeros(0))
    model.eval()
    with torch.no_grad():
        return model(torch.as_tensor(x, dtype=like.dtype, device=like.device))


def _to_numpy(predicted: Any) -> FloatArray:
    if hasattr(predicted, "detach"):
        predicted = predicted.detach().cpu().numpy()
    return np.asarray(predicted, dtype=np.float64)


def fit_cell(make: Callable[[], Estimator], samples: Samples, split: Split) -> Fit:
    """Fit two models: one to compare configurations by validation samples, one to measure on test samples.

    Args:
        make: Creates a new estimator for each fit.
        samples: All samples.
        split: Indices of the fit, validation, training and test samples.

    Raises:
        ValueError: The model does not predict a finite number for each sample and target.
        Exception: Any exception of the estimator.
    """
    with one_thread():
        compared = _evaluate(make(), samples, split.fit, split.validation)
        reported = _evaluate(make(), samples, split.train, split.test)
    return Fit(
        validation=compared.overall,
        rmse=reported.overall,
        ct_s=reported.seconds,
        converged=float(compared.converged and reported.converged),
        units=tuple(reported.units.tolist()),
        standard=tuple(reported.standard.tolist()),
    )


class _Evaluation(NamedTuple):
    """RMSEs and time of one fitted model."""

    units: FloatArray
    standard: FloatArray
    seconds: float
    converged: bool

    @property
    def overall(self) -> float:
        """RMSE over all standardised targets, which weigh equally."""
        return float(np.sqrt(np.mean(self.standard**2)))


def _evaluate(model: Estimator, samples: Samples, seen: IndexArray, unseen: IndexArray) -> _Evaluation:
    """Standardise and fit by the seen samples, and measure on the unseen ones."""
    from sklearn.metrics import root_mean_squared_error
    from sklearn.preprocessing import StandardScaler

    inputs, outputs = StandardScaler().fit(samples.x[seen]), StandardScaler().fit(samples.y[seen])
    x, y = inputs.transform(samples.x[seen]), outputs.transform(samples.y[seen])
    # Estimators of a single target expect a flat array.
    y = y[:, 0] if y.shape[1] == 1 else y
    with _convergence_warnings() as unconverged:
        begun_s = time.perf_counter()
        model.fit(x, y)
        seconds = time.perf_counter() - begun_s
    expected = outputs.transform(samples.y[unseen])
    predicted = _check_predictions(model.predict(inputs.transform(samples.x[unseen])), expected.shape)
    standard: FloatArray = root_mean_squared_error(expected, predicted, multioutput="raw_values")
    return _Evaluation(standard * outputs.scale_, standard, seconds, not unconverged)


def _check_predictions(predicted: Any, shape: tuple[int, ...]) -> FloatArray:
    found = np.asarray(predicted, dtype=np.float64)
    if found.size != np.prod(shape) or found.shape[:1] != shape[:1]:
        raise ValueError(f"predictions of shape {found.shape}; expected (samples, targets) = {shape}")
    if not np.isfinite(found).all():
        raise ValueError("predictions are not all finite: training diverged")
    return found.reshape(shape)


@contextmanager
def _convergence_warnings() -> Iterator[list[str]]:
    """Collect the warnings of fits that did not converge, for the table; issue all other warnings again."""
    from sklearn.exceptions import ConvergenceWarning

    unconverged: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield unconverged
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            unconverged.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
