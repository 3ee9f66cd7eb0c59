"""Grid search: every configuration of a grid is trained fully, one worker each, on a cluster of fixed size."""

from __future__ import annotations

from typing import ClassVar

from seer_nb.policies.random_search import RandomSearch


class Grid(RandomSearch):
    """Random search on a grid: which configurations there are, and in which order, is the study's sampler's to say.

    To a policy the two differ in nothing but that a grid comes to an end: when the sampler has no further
    configuration and all are trained, the study is done. Give the study a grid sampler, such as Optuna's GridSampler,
    or a space of finitely many values.
    """

    name: ClassVar[str] = "grid search"
