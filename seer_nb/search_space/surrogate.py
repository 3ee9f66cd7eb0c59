"""A surrogate model of the trials so far: proposals of configurations, and importances of hyperparameters.

A forest of extremely randomised trees (Geurts et al., 2006) is fitted to the logarithm of each trial's rank by its
latest value. The candidate with the best bound, mean minus spread, is proposed. Ranks replace values because it matters
whether a configuration is tenth or hundredth, not by how much it diverged. All choices were measured on real curves.
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
"""Trees of the forest that proposes."""
SPREAD_WEIGHT = 1.0
"""Standard deviations between the trees that are subtracted from a candidate's mean."""
MIN_TRIALS = 8
"""Least number of trials with a report before a configuration is proposed."""
REFIT_GROWTH = 1.3
"""Ratio of reports, now to last fit, from which on the forest is fitted again."""
CANDIDATES = 1000
"""Number of random configurations from which the best is proposed."""
CANDIDATE_STREAM = 1
"""Key of the random stream of candidates, which separates it from the streams of random search."""
LOG_SCALE_RATIO = 30.0
"""Ratio of a positive hyperparameter's greatest to its least value above which its scale is logarithmic."""
IMPORTANCE_TREES = 100
"""Trees of the forest for importances."""
IMPORTANCE_REPEATS = 5
"""Shuffles of each hyperparameter."""
IMPORTANCE_MIN_TRIALS = 8
"""Least number of trials with a report for importances."""


class Features:
    """Encodes configurations as vectors: a column per number, logarithmic where its scale is, and one per option.

    Args:
        configs: Configurations with typical ranges.
        log: Names of hyperparameters on a logarithmic scale; None: decided by the ranges in ``configs``.

    Example:
        >>> from seer_nb.search_space.surrogate import Features
        >>> configs = [{"depth": 2, "act": "relu"}, {"depth": 3, "act": "tanh"}]
        >>> Features(configs)(configs).tolist()
        [[2.0, 1.0, 0.0], [3.0, 0.0, 1.0]]
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
        """Return an array of shape (configurations, columns); a missing number is -1, or -100 on a log scale."""
        rows = [[x for name, encode in self._parts for x in encode(config.get(name))] for config in configs]
        # The forest computes in single precision and refuses infinite values.
        most = float(np.finfo(np.float32).max)
        held: Vector = np.clip(np.asarray(rows, dtype=float), -most, most).astype(np.float32).astype(float)
        return held


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) > LOG_SCALE_RATIO * min(values)


def _number(value: Any) -> list[float]:
    return [-1.0 if value is None else float(value)]


def _logarithm(value: Any) -> list[float]:
    return [math.log(value) if value is not None and value > 0 else -100.0]


def _one_hot(options: list[str]) -> Callable[[Any], list[float]]:
    return lambda value: [float(repr(value) == option) for option in options]


class Proposer:
    """Ranks candidates by a forest, which is fitted again only when there are enough new reports.

    Args:
        mode: "max" or "min".
        seed: Seed of the forest.
    """

    def __init__(self, mode: Mode, seed: int) -> None:
        self._mode: Mode = mode
        self._seed = seed
        self._reports = 0
        self._fits = 0

    def stale(self, trials: Sequence[Trial]) -> bool:
        """Return whether there are enough new reports since the last fit to call ``rank`` again."""
        return sum(len(trial.curve) for trial in trials) >= REFIT_GROWTH * max(1, self._reports)

    def rank(self, known: Vector, trials: Sequence[Trial], candidates: Vector) -> list[int] | None:
        """Return the rows of the candidates, best first; None while too few trials have reported.

        Args:
            known: Features of ``trials``, one row per trial.
            trials: Trials that have started.
            candidates: Features of the candidates, one row each.
        """
        targets = log_ranks(trials, self._mode)
        reported = np.isfinite(targets)
        if reported.sum() < MIN_TRIALS:
            return None
        self._reports = sum(len(trial.curve) for trial in trials)
        self._fits += 1
        means, spreads = _predict(known[reported], targets[reported], candidates, self._seed + self._fits)
        return [int(row) for row in np.argsort(means - SPREAD_WEIGHT * spreads, kind="stable")]


class SpaceProposer:
    """Proposes configurations of a space: the best of many random ones, ranked by a forest.

    Args:
        space: The search space.
        mode: "max" or "min".
        seed: Seed of candidates and forests.
    """

    def __init__(self, space: Space, mode: Mode, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._proposer = Proposer(mode, seed)
        self._log = [name for name, domain in space.domains.items() if getattr(domain, "log", False)]
        self._ranking: list[Config] = []
        """Candidates of the last fit, best last."""
        self._fits = 0

    def propose(self, trials: Sequence[Trial], taken: Container[tuple[Any, ...]]) -> Config | None:
        """Return a configuration that was not drawn; None while too few trials have reported, or when none is left.

        Args:
            trials: Trials that have started.
            taken: Keys of the configurations drawn.
        """
        if not self._ranking or self._proposer.stale(trials):
            self._ranking = self._ranked(trials, taken)
        while self._ranking:
            config = self._ranking.pop()
            if self._space.key(config) not in taken:
                return config
        return None

    def _ranked(self, trials: Sequence[Trial], taken: Container[tuple[Any, ...]]) -> list[Config]:
        rng = np.random.default_rng([self._seed, CANDIDATE_STREAM, self._fits])
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
    """Return ln(1 + rank) by latest value: 0 for the best, the greatest for diverged trials, NaN without a report."""
    sign = -1.0 if mode == "max" else 1.0
    values = np.array([_latest(trial, sign) for trial in trials])
    reported = ~np.isnan(values)
    order = np.argsort(values[reported], kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    targets = np.full(len(values), np.nan)
    targets[reported] = np.log1p(ranks)
    return targets


def _latest(trial: Trial, sign: float) -> float:
    if not trial.curve:
        return math.inf if trial.state == "failed" else math.nan
    value = trial.curve[-1].value
    return math.inf if value is None else sign * value


def _predict(known: Vector, targets: Vector, candidates: Vector, seed: int) -> tuple[Vector, Vector]:
    """Return mean and standard deviation over the trees."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(n_estimators=TREES, min_samples_leaf=1, random_state=seed % 2**32)
    forest.fit(known, targets)
    asked = candidates.astype(np.float32)
    each = np.stack([tree.tree_.predict(asked)[:, 0] for tree in forest.estimators_])
    return each.mean(axis=0), each.std(axis=0)


def importances(trials: Sequence[Trial], mode: Mode, seed: int = 0) -> dict[str, float]:
    """Return the importance of each hyperparameter for the trials' ranks, greatest first; the sum is 1.

    This is the permutation importance (Breiman 2001) of a forest of extremely randomised trees. The forest is fitted to
    the logarithm of the trials' ranks by their latest values, so that all trials count, not only fully trained ones.

    Args:
        trials: Trials; those without a report, such as trials that failed at once, do not count.
        mode: "max" or "min".
        seed: Seed of the forest and the shuffles.

    Raises:
        ValueError: Fewer than eight trials have reported.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    reported = [trial for trial in trials if trial.curve]
    if len(reported) < IMPORTANCE_MIN_TRIALS:
        raise ValueError(f"trials: {len(reported)} have reported; expected at least {IMPORTANCE_MIN_TRIALS}")
    configs = [trial.config for trial in reported]
    log_rank = log_ranks(reported, mode)
    encode = Features(configs)
    forest = ExtraTreesRegressor(n_estimators=IMPORTANCE_TREES, min_samples_leaf=2, random_state=seed)
    forest.fit(encode(configs), log_rank)
    rng = np.random.default_rng(seed)

    def loss(shown: list[dict[str, object]]) -> float:
        return float(np.mean((forest.predict(encode(shown)) - log_rank) ** 2))

    base = loss(configs)
    found = {}
    for name in dict.fromkeys(name for config in configs for name in config):
        worse = [loss(_shuffled(configs, name, rng)) - base for _ in range(IMPORTANCE_REPEATS)]
        found[name] = max(0.0, float(np.mean(worse)))
    total = sum(found.values()) or 1.0
    return {name: value / total for name, value in sorted(found.items(), key=lambda each: -each[1])}


def _shuffled(configs: list[dict[str, object]], name: str, rng: np.random.Generator) -> list[dict[str, object]]:
    order = rng.permutation(len(configs))
    return [{**config, name: configs[place].get(name)} for config, place in zip(configs, order, strict=True)]
