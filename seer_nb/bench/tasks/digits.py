"""Tasks on few handwritten digits, for an MLP and a CNN."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import seer_nb as seer
from seer_nb.bench.tasks.task import Task, searched
from seer_nb.ui.cli import demo

if TYPE_CHECKING:
    from torch import Tensor

    from seer_nb.bench.tasks.fitting import Parts
    from seer_nb.core import Config
    from seer_nb.worker.run import Run


N_TRAIN = 600
"""Training digits, out of the demo's 1257; the others are the test set."""
NOISE, SHIFT = 0.35, 1
"""Noise and shift in pixels of the CNN's validation and test images; pixel values are in [0, 1]."""
DATA = (
    "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI (CC BY 4.0), "
    "as shipped with scikit-learn (BSD-3-Clause)"
)


@functools.cache
def flat() -> Parts:
    """Return 600, 540 and 657 digits of 64 pixels."""
    from torch.utils.data import TensorDataset

    from seer_nb.bench.tasks.fitting import Parts

    known, validation = demo.data()
    x, y = known.tensors
    x_valid, y_valid = validation.tensors
    return Parts(TensorDataset(x[:N_TRAIN], y[:N_TRAIN]), (x_valid, y_valid), (x[N_TRAIN:], y[N_TRAIN:]))


@functools.cache
def harder() -> Parts:
    """Return clean training images, and several shifted and noisy copies for validation and test."""
    from torch.utils.data import TensorDataset

    from seer_nb.bench.tasks.fitting import Parts

    train, valid, test = flat()
    x, y = train.tensors
    return Parts(TensorDataset(_images(x), y), _copies(*valid, count=4, seed=1), _copies(*test, count=2, seed=2))


def train_mlp(config: Config, run: Run) -> None:
    """Report the log loss."""
    from torch.nn import CrossEntropyLoss

    from seer_nb.bench.tasks import fitting

    network = demo.mlp(64, 10, width=config["width"], depth=config["depth"], dropout=config["dropout"])
    fitting.fit(run, network, flat(), CrossEntropyLoss(label_smoothing=config["smoothing"]), fitting.loss)


def train_cnn(config: Config, run: Run) -> None:
    """Report the share of disturbed digits that are read right."""
    from torch.nn import CrossEntropyLoss

    from seer_nb.bench.tasks import fitting, networks

    loss = CrossEntropyLoss(label_smoothing=config["smoothing"])
    fitting.fit(run, networks.cnn(config), harder(), loss, fitting.accuracy)


def _images(x: Tensor) -> Tensor:
    return x.view(-1, 1, 8, 8)


def _copies(x: Tensor, y: Tensor, *, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return several copies of each digit with different noise; more copies give a finer accuracy."""
    import torch

    from seer_nb.bench.tasks.networks import disturbed

    generator = torch.Generator().manual_seed(seed)
    return disturbed(_images(x).repeat(count, 1, 1, 1), NOISE, SHIFT, generator), y.repeat(count)


MLP = Task(
    name="digits_mlp",
    train=train_mlp,
    space={
        **searched(seer.loguniform(1e-5, 30.0), [8, 16, 32, 64, 128, 256]),
        "smoothing": seer.uniform(0.0, 0.3),
        "dropout": seer.uniform(0.0, 0.7),
        "width": seer.lograndint(4, 256),
        "depth": seer.randint(1, 4),
    },
    metric="loss",
    mode="min",
    max_epochs=27,
    configurations=800,
    about="an MLP learns digits from 600 of them; loss: mean validation log loss in nats, capped at 10",
    data=DATA,
)

CNN = Task(
    name="digits_cnn",
    train=train_cnn,
    space={
        **searched(seer.loguniform(1e-5, 30.0), [8, 16, 32, 64, 128]),
        "smoothing": seer.uniform(0.0, 0.3),
        "dropout": seer.uniform(0.0, 0.7),
        "channels": seer.lograndint(2, 32),
        "blocks": seer.randint(1, 3),
        "kernel": seer.choice([3, 5]),
        "pool": seer.choice(["max", "mean"]),
        "norm": seer.choice(["none", "batch"]),
        "noise": seer.uniform(0.0, 0.8),
        "shift": seer.choice([0, 1, 2]),
    },
    metric="accuracy",
    mode="max",
    max_epochs=27,
    configurations=300,
    about=(
        "a CNN learns digits from 600 clean ones, augmented by its own noise and shift; accuracy: share of 2160 moved, "
        "noisy validation images that are read right"
    ),
    data=DATA,
)
