"""The study of ``seer-nb demo``: an MLP on scikit-learn's handwritten digits."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import seer_nb as seer

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import TensorDataset

    from seer_nb.core import Config
    from seer_nb.providers.base import Provider
    from seer_nb.worker.run import Run


MAX_EPOCHS = 27
POLL_S = 0.1
SLOW_BOOT_S = 5.0
"""Seconds without a worker after which the command prints what it waits for."""


def space() -> dict[str, Any]:
    """Return the search space of six hyperparameters."""
    return {
        "lr": seer.loguniform(3e-3, 1.0),
        "momentum": seer.uniform(0.5, 0.95),
        "width": seer.choice([32, 64, 128, 256]),
        "dropout": seer.uniform(0.0, 0.5),
        "weight_decay": seer.loguniform(1e-6, 1e-2),
        "batch": seer.choice([16, 32, 64, 128]),
    }


@functools.cache
def data() -> tuple[TensorDataset, TensorDataset]:
    """Return 1257 training digits and 540 validation digits of 8 x 8 pixels, read once per worker."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch.utils.data import TensorDataset

    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split((pixels / 16).astype(np.float32), labels, test_size=0.3, random_state=0, stratify=labels)
    x_train, x_valid, y_train, y_valid = map(torch.as_tensor, parts)
    return TensorDataset(x_train, y_train), TensorDataset(x_valid, y_valid)


def build(config: Config) -> nn.Module:
    """Build the network of one configuration."""
    return mlp(64, 10, width=config["width"], depth=2, dropout=config["dropout"])


def mlp(inputs: int, outputs: int, *, width: int, depth: int, dropout: float) -> nn.Sequential:
    """Build a multilayer perceptron with ReLU and dropout.

    Args:
        inputs: Number of input features.
        outputs: Number of outputs.
        width: Number of units of each hidden layer.
        depth: Number of hidden layers; 0 makes a linear model.
        dropout: Dropout probability.
    """
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def train(config: Config, run: Run) -> None:
    """Train one configuration, and report its accuracy on the validation digits."""
    import torch
    from torch.nn.functional import cross_entropy

    digits, validation = data()
    model = build(config)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"], weight_decay=config["weight_decay"]
    )
    model, optimizer = run.prepare(model, optimizer)
    loader = run.loader(digits, batch_size=config["batch"])
    x_valid, y_valid = (tensor.to(run.device) for tensor in validation.tensors)
    for _ in run.epochs():
        model.train()
        for x, y in loader:
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(x.to(run.device)), y.to(run.device)).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(x_valid).argmax(1) == y_valid).float().mean().item()
        run.report(accuracy=accuracy)


def study(  # noqa: PLR0913 - the options of the command
    *, name: str | None, deadline: str, budget: str, provider: Provider, policy: str, store: str | None = None
) -> seer.Study:
    """Create the demo's study without starting it; the arguments are those of ``seer.Study``."""
    return seer.Study(
        train,
        space(),
        metric="accuracy",
        mode="max",
        max_epochs=MAX_EPOCHS,
        deadline=deadline,
        budget=budget,
        provider=provider,
        policy=policy,
        store=store,
        name=name,
    )


def start_clock(study: seer.Study) -> None:
    """Count the deadline from the first worker that can train; returns when there is one, or when the study has ended.

    A computer that imports torch for the first time, or is busy, may take longer for that than the demo for all trials.
    Machines are billed from their rental all the same.
    """
    limit_s = study.settings.deadline_s
    explained = False
    while study.status == "running":
        state = study.state
        ready_s = min((m.ready_s for m in state.machines.values() if m.workers and m.ready_s is not None), default=None)
        if ready_s is not None:
            study.change_limits(None, ready_s + limit_s)
            return
        if state.deadline_s - study.now_s < limit_s / 2:
            study.change_limits(None, study.now_s + limit_s)
        if study.now_s > SLOW_BOOT_S and not explained:
            print("waiting for a worker, which imports torch; the deadline counts from then", flush=True)
            explained = True
        time.sleep(POLL_S)
