"""What a task is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import seer_nb as seer

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core import Mode


DECAY = seer.loguniform(1e-6, 0.1)
MOMENTUM = seer.uniform(0.0, 0.99)


class Task(NamedTuple):
    """A training function with all that a study of it needs, and where its data come from."""

    name: str
    train: Callable[..., Any]
    """``train(config, run)``, as a user would write it; it reports metric and ``test_<metric>``."""
    space: dict[str, Any]
    metric: str
    mode: Mode
    max_epochs: int
    configurations: int
    """As many are recorded unless told otherwise."""
    about: str
    """What is learnt, what the metric is and its unit."""
    data: str
    """Source and licence."""


def searched(lr: Any, batch: list[int]) -> dict[str, Any]:
    """The hyperparameters that all tasks have, of the optimizer and its data."""
    return {
        "lr": lr,
        "optimizer": seer.choice(["sgd", "adamw"]),
        # AdamW's beta1, too.
        "momentum": MOMENTUM,
        "weight_decay": DECAY,
        "schedule": seer.choice(["constant", "cosine"]),
        "batch": seer.choice(batch),
    }
