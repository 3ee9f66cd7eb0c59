"""Which hyperparameters matter: how much worse a forest foretells the trials' ranks without knowing one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seer_nb.proposals import Features, log_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core.model import Mode, Trial

TREES = 100
REPEATS = 5
"""Shuffles of each hyperparameter."""
LEAST = 8
"""Trials without which nothing can be said."""


def importances(trials: Sequence[Trial], mode: Mode, seed: int = 0) -> dict[str, float]:
    """Share of each hyperparameter in what is known of the ranks, the most important first; they add up to 1.

    Permutation importance (Breiman 2001) of a forest of extremely randomised trees, fitted to the logarithm of the
    trials' ranks by their latest values: all trials count, not only those that were fully trained.

    Args:
        trials: Those that have begun.
        mode: "max" when more is better, or "min".
        seed: Of the forest and the shuffles.

    Raises:
        ValueError: Fewer than eight trials have reported.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    targets = log_ranks(trials, mode)
    told = [(trial.config, target) for trial, target in zip(trials, targets, strict=True) if np.isfinite(target)]
    if len(told) < LEAST:
        raise ValueError(f"{len(told)} trials have reported; at least {LEAST} are needed")
    configs = [config for config, _ in told]
    wanted = np.array([target for _, target in told])
    encode = Features(configs)
    forest = ExtraTreesRegressor(n_estimators=TREES, min_samples_leaf=2, random_state=seed)
    forest.fit(encode(configs), wanted)
    rng = np.random.default_rng(seed)

    def loss(shown: list[dict[str, object]]) -> float:
        return float(np.mean((forest.predict(encode(shown)) - wanted) ** 2))

    base = loss(configs)
    found = {}
    for name in dict.fromkeys(name for config in configs for name in config):
        worse = [loss(_shuffled(configs, name, rng)) - base for _ in range(REPEATS)]
        found[name] = max(0.0, float(np.mean(worse)))
    total = sum(found.values()) or 1.0
    return {name: value / total for name, value in sorted(found.items(), key=lambda each: -each[1])}


def _shuffled(configs: list[dict[str, object]], name: str, rng: np.random.Generator) -> list[dict[str, object]]:
    order = rng.permutation(len(configs))
    return [{**config, name: configs[place].get(name)} for config, place in zip(configs, order, strict=True)]
