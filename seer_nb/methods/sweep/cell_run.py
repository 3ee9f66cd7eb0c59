"""What a training function holds within a sweep: the part of ``Run`` that one fit needs, and its samples."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from seer_nb.runner import gpu
from seer_nb.runner import metrics as m
from seer_nb.runner.seeding import derive, seed_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.utils.data import DataLoader

    from seer_nb.core.model import Config
    from seer_nb.methods.sweep.table import Numbers

T = TypeVar("T")


class CellRun:
    """A training function's view of one fit of a sweep.

    It has what ``seer_nb.training.Run`` has, as far as that makes sense for one fit by one worker. A study's function
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

        order = torch.Generator().manual_seed(derive(self.seed, 0))
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
        self.reports.append(m.finite(metrics))

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
