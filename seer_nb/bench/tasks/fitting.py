"""The training loop of all tasks. It imports torch, so import this module within functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.utils.data import TensorDataset

    from seer_nb.worker.run import Run

    Measure = Callable[[Tensor, Tensor], float]


CAP = 10.0
"""Upper bound of losses; a random guess is below 3 in all tasks."""


class Parts(NamedTuple):
    """Training, validation and test data of a task; policies never use the test data."""

    train: TensorDataset
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def fit(run: Run, network: nn.Module, parts: Parts, loss: Callable[[Tensor, Tensor], Tensor], measure: Measure) -> None:
    """Train until the run stops; report `measure` of validation and test data after each epoch."""
    config = run.config
    optimizer = _optimizer(network, config)
    schedule = _schedule(optimizer, config["schedule"], run.max_epochs)
    network, optimizer, schedule = run.prepare(network, optimizer, schedule)
    loader = run.loader(parts.train, batch_size=config["batch"])
    for _ in run.epochs():
        network.train()
        for x, y in loader:
            optimizer.zero_grad(set_to_none=True)
            loss(network(x), y).backward()
            if "clip" in config:
                clip_grad_norm_(network.parameters(), config["clip"])
            optimizer.step()
        schedule.step()
        network.eval()
        valid, test = (_measured(network, measure, *data) for data in (parts.valid, parts.test))
        name = measure.__name__
        run.report(**{name: valid, f"test_{name}": test})


def loss(outputs: Tensor, labels: Tensor) -> float:
    """Return the mean negative log likelihood of the true classes in nats, at most `CAP`."""
    return min(CAP, cross_entropy(outputs, labels).item())


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Return the share of correctly classified samples."""
    return (outputs.argmax(1) == labels).float().mean().item()


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """Return the root mean square error in the targets' unit, at most `CAP`."""
    return min(CAP, (outputs - targets).square().mean().sqrt().item())


def _measured(network: nn.Module, measure: Measure, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        outputs = network(x)
        # Non-finite outputs mean divergence. The cap would hide them, and argmax works even on NaN.
        return measure(outputs, y) if bool(outputs.isfinite().all()) else math.nan


def _optimizer(network: nn.Module, config: dict[str, Any]) -> torch.optim.Optimizer:
    lr, momentum, decay = config["lr"], config["momentum"], config["weight_decay"]
    if config["optimizer"] == "sgd":
        return torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    return torch.optim.AdamW(network.parameters(), lr=lr, betas=(momentum, 0.999), weight_decay=decay)


def _schedule(optimizer: torch.optim.Optimizer, name: str, epochs: int) -> torch.optim.lr_scheduler.LRScheduler:
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
