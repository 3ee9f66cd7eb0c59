"""Which configuration to try next, by a model of what the earlier ones have shown.

A forest of extremely randomised trees (Geurts et al., 2006) is fitted to the logarithm of each trial's rank, by its
latest value; the candidate of the best bound, mean less spread, is proposed. Ranks, not values: whether a
configuration is tenth or hundredth matters, not by how much it diverged. All choices were measured on real curves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from numpy.typing import NDArray

    from seer_nb.core import Config, Mode, Trial
    from seer_nb.search_space import Space

    Vector = NDArray[np.float64]


TREES = 30
SPREAD = 1.0
"""How many standard deviations between the trees a candidate is given credit for."""
LEAST = 8
"""Trials that must have reported before anything is proposed."""
GROWTH = 1.3
"""The forest is fitted anew when there are so many times as many reports."""
CANDIDATES = 1000
"""Random configurations of which the best is proposed."""
PROPOSALS = 1
"""Tells the random stream of candidates from that of random configurations, which is numbered by trial."""
WIDE = 30.0
"""A positive hyperparameter whose greatest value is so many times its least is on a logarithmic scale."""


class Features:
    """Configurations as vectors: numbers, on a logarithmic scale where their values are; a column for each option.

    Args:
        configs: Of which at least the ranges are typical.
        log: Names of hyperparameters on a logarithmic scale; None: judged from the configurations.
    """

    def __init__(self, configs: Sequence[Config], log: Iterable[str] | None = None) -> None:
        self._parts: list[tuple[str, Callable[[Any], list[float]]]] = []
        for name in dict.fromkeys(name for config in configs for name in config):
            values = [config[name] for config in configs if name in config]
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
                on_log = _is_wide(values) if log is None else name in set(log)
                self._parts.append((name, _logarithm if on_log else _number))
            else:
                options = list(dict.fromkeys(map(repr, values)))
                self._parts.append((name, _one_hot(options)))

    def __call__(self, configs: Sequence[Config]) -> Vector:
        """Configurations x columns; nan for what is missing becomes -1."""
        rows = [[x for name, encode in self._parts for x in encode(config.get(name))] for config in configs]
        # The forest reads single precision, and takes nothing that is infinite there.
        most = float(np.finfo(np.float32).max)
        held: Vector = np.clip(np.asarray(rows, dtype=float), -most, most).astype(np.float32).astype(float)
        return held


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) > WIDE * min(values)


def _number(value: Any) -> list[float]:
    return [-1.0 if value is None else float(value)]


def _logarithm(value: Any) -> list[float]:
    return [math.log(value) if value is not None and value > 0 else -100.0]


def _one_hot(options: list[str]) -> Callable[[Any], list[float]]:
    return lambda value: [float(repr(value) == option) for option in options]


class Proposer:
    """Picks candidates; the forest is fitted anew only when it has something to learn.

    Args:
        mode: "max" when more is better, or "min".
        seed: Of the forest.
    """

    def __init__(self, mode: Mode, seed: int) -> None:
        self._mode: Mode = mode
        self._seed = seed
        self._reports = 0
        self._fits = 0

    def stale(self, trials: Sequence[Trial]) -> bool:
        """Whether there is more to learn from than at the last fit; then ``rank`` again."""
        return sum(len(trial.curve) for trial in trials) >= GROWTH * max(1, self._reports)

    def rank(self, known: Vector, trials: Sequence[Trial], candidates: Vector) -> list[int] | None:
        """Candidates in order, best first; None as long as there is too little to learn from.

        Args:
            known: The features of ``trials``, a row each.
            trials: Those that have begun.
            candidates: Features, a row each.
        """
        targets = log_ranks(trials, self._mode)
        told = np.isfinite(targets)
        if told.sum() < LEAST:
            return None
        self._reports = sum(len(trial.curve) for trial in trials)
        self._fits += 1
        means, spreads = _predict(known[told], targets[told], candidates, self._seed + self._fits)
        return [int(row) for row in np.argsort(means - SPREAD * spreads, kind="stable")]


class SpaceProposer:
    """Proposes configurations of a space: the best of many random ones, as a forest sees it.

    Args:
        space: What is searched.
        mode: "max" when more is better, or "min".
        seed: Of candidates and forests.
    """

    def __init__(self, space: Space, mode: Mode, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._proposer = Proposer(mode, seed)
        self._log = [name for name, domain in space.domains.items() if getattr(domain, "log", False)]
        self._ranking: list[Config] = []
        """As at the last fit, the best last."""
        self._fits = 0

    def propose(self, trials: Sequence[Trial], taken: Container[tuple[Any, ...]]) -> Config | None:
        """A configuration that is not taken; None as long as too little is known, or when none is left.

        Args:
            trials: Those that have begun.
            taken: The keys of configurations that were drawn.
        """
        if not self._ranking or self._proposer.stale(trials):
            self._ranking = self._ranked(trials, taken)
        while self._ranking:
            config = self._ranking.pop()
            if self._space.key(config) not in taken:
                return config
        return None

    def _ranked(self, trials: Sequence[Trial], taken: Container[tuple[Any, ...]]) -> list[Config]:
        rng = np.random.default_rng([self._seed, PROPOSALS, self._fits])
        self._fits += 1
        drawn = (self._space.sample(rng) for _ in range(CANDIDATES))
        candidates = {self._space.key(config): config for config in drawn}
        left = [config for key, config in candidates.items() if key not in taken]
        if not left:
            return []
        known = [self._searched(trial.config) for trial in trials]
        asked = [self._searched(config) for config in left]
        features = Features(asked + known, log=self._log)
        order = self._proposer.rank(features(known), trials, features(asked)) if known else None
        return [] if order is None else [left[place] for place in reversed(order)]

    def _searched(self, config: Config) -> Config:
        return {name: config[name] for name in self._space.domains}


def log_ranks(trials: Sequence[Trial], mode: Mode) -> Vector:
    """ln(1 + rank) by latest value, the best being 0; what diverged is last; nan without a report."""
    sign = -1.0 if mode == "max" else 1.0
    values = np.array([_latest(trial, sign) for trial in trials])
    told = ~np.isnan(values)
    order = np.argsort(values[told], kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    targets = np.full(len(values), np.nan)
    targets[told] = np.log1p(ranks)
    return targets


def _latest(trial: Trial, sign: float) -> float:
    if not trial.curve:
        return math.inf if trial.state == "failed" else math.nan
    value = trial.curve[-1].value
    return math.inf if value is None else sign * value


def _predict(known: Vector, targets: Vector, candidates: Vector, seed: int) -> tuple[Vector, Vector]:
    """Mean and standard deviation over the trees."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(n_estimators=TREES, min_samples_leaf=1, random_state=seed % 2**32)
    forest.fit(known, targets)
    asked = candidates.astype(np.float32)
    each = np.stack([tree.tree_.predict(asked)[:, 0] for tree in forest.estimators_])
    return each.mean(axis=0), each.std(axis=0)


IMPORTANCE_TREES = 100
REPEATS = 5
"""Shuffles of each hyperparameter."""
IMPORTANCE_TRIALS = 8
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
    if len(told) < IMPORTANCE_TRIALS:
        raise ValueError(f"{len(told)} trials have reported; at least {IMPORTANCE_TRIALS} are needed")
    configs = [config for config, _ in told]
    wanted = np.array([target for _, target in told])
    encode = Features(configs)
    forest = ExtraTreesRegressor(n_estimators=IMPORTANCE_TREES, min_samples_leaf=2, random_state=seed)
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
