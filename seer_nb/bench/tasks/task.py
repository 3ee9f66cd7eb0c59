"""The definition of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import seer_nb as seer

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Mode


DECAY = seer.loguniform(1e-6, 0.1)
MOMENTUM = seer.uniform(0.0, 0.99)


class Task(NamedTuple):
    """A training function with its search space, metric and data source."""

    name: str
    train: Callable[..., Any]
    """``train(config, run)``, which reports the metric and ``test_<metric>``."""
    space: dict[str, Any]
    metric: str
    mode: Mode
    max_epochs: int
    configurations: int
    """Default number of recorded configurations."""
    about: str
    """Description of the task and its metric, with units."""
    data: str
    """Source and licence of the data."""


def searched(lr: Any, batch: list[int]) -> dict[str, Any]:
    """Return the search space that all tasks share: optimizer, schedule and batch size."""
    return {
        "lr": lr,
        "optimizer": seer.choice(["sgd", "adamw"]),
        # Also AdamW's beta1.
        "momentum": MOMENTUM,
        "weight_decay": DECAY,
        "schedule": seer.choice(["constant", "cosine"]),
        "batch": seer.choice(batch),
    }
