"""The training loop of all tasks. Imports torch: import it within functions."""

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
"""Losses beyond it tell nothing: chance is below 3 in all tasks."""


class Parts(NamedTuple):
    """A task's data: to train, to validate after each epoch, and to test, which no policy may see."""

    train: TensorDataset
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def fit(run: Run, network: nn.Module, parts: Parts, loss: Callable[[Tensor, Tensor], Tensor], measure: Measure) -> None:
    """Train until the run says stop; report `measure` of validation and test data after each epoch."""
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
    """Mean negative log likelihood of the true classes, in nats."""
    return min(CAP, cross_entropy(outputs, labels).item())


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Share of the samples whose class is found."""
    return (outputs.argmax(1) == labels).float().mean().item()


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """Root mean square error, in the targets' unit."""
    return min(CAP, (outputs - targets).square().mean().sqrt().item())


def _measured(network: nn.Module, measure: Measure, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        outputs = network(x)
        # A number that is merely huge is capped; else a network that overflows would count as a bad one, not as
        # diverged, and argmax would still find classes in NaN.
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
