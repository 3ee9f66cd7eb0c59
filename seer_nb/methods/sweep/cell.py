"""What a training function holds within a sweep: the part of ``Run`` that one fit needs, and its samples."""

from __future__ import annotations

import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from seer_nb._utils.randomness import derive_seed, seed_all
from seer_nb.methods.threads import one_thread
from seer_nb.worker import gpu
from seer_nb.worker import metrics as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.utils.data import DataLoader

    from seer_nb.core import Config
    from seer_nb.methods.sweep.data import Numbers, Places, Split, Table


T = TypeVar("T")


class CellRun:
    """A training function's view of one fit of a sweep.

    It has what ``seer_nb.worker.run.Run`` has, as far as that makes sense for one fit by one worker. A study's function
    becomes a sweep's by two changes: it takes its samples from ``run.x`` and ``run.y``, and returns its model.
    """

    rank = 0
    world_size = 1

    def __init__(self, x: Numbers, y: Numbers, config: Config, max_epochs: int, seed: int) -> None:
        self.x = x
        """(samples, inputs) to train on, float64, standardised."""
        self.y = y if y.ndim > 1 else y[:, None]
        """(samples, targets), float64, standardised."""
        self.config = config
        self.max_epochs = max_epochs
        self.seed = seed
        self.epoch = 1
        """The epoch in progress, from 1."""
        self.reports: list[dict[str, float | None]] = []
        self.state: dict[str, Any] = {}
        self.saved: bytes | None = None

    @property
    def device(self) -> torch.device:
        """This worker's GPU, or the CPU when it has none."""
        return gpu.device()

    def epochs(self) -> Iterator[int]:
        """1 to max_epochs; global generators are seeded anew for each."""
        for epoch in range(1, self.max_epochs + 1):
            self.epoch = epoch
            seed_all(self.seed, epoch)
            yield epoch

    def prepare(self, *objects: Any, find_unused_parameters: bool = False) -> Any:  # noqa: ARG002 - of `Run`
        """The objects themselves, modules moved to ``device``."""
        ready = [each.to(self.device) if hasattr(each, "parameters") else each for each in objects]
        return ready[0] if len(ready) == 1 else tuple(ready)

    def loader(
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        scale_batch: bool = False,  # noqa: ARG002 - of `Run`; there is one worker
        **more: Any,
    ) -> DataLoader[Any]:
        """A DataLoader whose order comes from the seed."""
        import torch
        from torch.utils.data import DataLoader

        order = torch.Generator().manual_seed(derive_seed(self.seed, 0))
        return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, generator=order, **more)

    def mean(self, value: float, n: float = 1.0) -> float:  # noqa: ARG002 - of `Run`
        """The value: there is one worker."""
        return value

    def report(self, **metrics: Any) -> None:
        """Note metrics of an epoch; the sweep judges the returned model by itself.

        Raises:
            RuntimeError: All epochs were reported before.
        """
        if len(self.reports) >= self.max_epochs:
            raise RuntimeError(f"run.report() was called after max_epochs={self.max_epochs}: loop over run.epochs()")
        self.reports.append(m.as_finite_floats(metrics))

    def save(self, state: bytes) -> None:
        """Keep bytes, until the function returns: a cell is trained in one piece."""
        self.saved = state


class Trained:
    """A training function as an estimator.

    Args:
        function: ``function(config, run)`` trains on ``run.x`` and ``run.y`` and returns a model: something with
            ``predict``, a torch module, or another function of (samples, inputs); it gives (samples, targets).
        config: For it.
        max_epochs: Of ``run.epochs()``.
        seed: Of all that is drawn.
    """

    def __init__(self, function: Callable[..., Any], config: Config, max_epochs: int, seed: int) -> None:
        self._function, self._config, self._max_epochs, self._seed = function, config, max_epochs, seed
        self._predict: Callable[[Numbers], Any] | None = None

    def fit(self, x: Numbers, y: Numbers) -> None:
        """Call the function."""
        seed_all(self._seed)
        run = CellRun(x, y, dict(self._config), self._max_epochs, self._seed)
        self._predict = _predictor(self._function(dict(self._config), run))

    def predict(self, x: Numbers) -> Numbers:
        """Ask its model."""
        assert self._predict is not None
        return _array(self._predict(x))


def _predictor(model: Any) -> Callable[[Numbers], Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return lambda x: _ask(model, x)
    predict = getattr(model, "predict", model)
    if not callable(predict):
        raise TypeError(
            f"the training function returned {model!r}: it must return its model, a torch module or what can predict"
        )
    found: Callable[[Numbers], Any] = predict
    return found


def _ask(model: Any, x: Numbers) -> Any:
    import torch

    like = next(model.parameters(), torch.zeros(0))
    model.eval()
    with torch.no_grad():
        return model(torch.as_tensor(x, dtype=like.dtype, device=like.device))


def _array(predicted: Any) -> Numbers:
    if hasattr(predicted, "detach"):
        predicted = predicted.detach().cpu().numpy()
    return np.asarray(predicted, dtype=np.float64)


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
