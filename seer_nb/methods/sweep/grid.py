"""The cells of a sweep: every configuration of a grid at every train ratio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb.methods.sweep.data import fraction
from seer_nb.search_space.domains import Option, is_storable

if TYPE_CHECKING:
    from seer_nb.core import Config


RATIO = "train_ratio"
"""Its name among the hyperparameters of a study."""
_HINT = 'give a dict such as {"hidden_layer_sizes": [(8,), (32, 32)], "activation": ["relu", "tanh"]}'


class Cell(NamedTuple):
    """One configuration at one train ratio."""

    number: int
    """From 0, ratio by ratio."""
    train_ratio: float
    config: Config
    labels: tuple[Option, ...]
    """The values of the configuration as tables and studies hold them: what is not plain by its repr."""


class Grid:
    """Values of hyperparameters, and the train ratios.

    Args:
        values: Name to a list of values; without any there is one configuration, the estimator as it is.
        ratios: Shares of the samples that are trained on, each between 0 and 1.

    Raises:
        TypeError: It is no dict, or values are no list.
        ValueError: Something is empty, twice there, or out of bounds.
    """

    def __init__(self, values: Mapping[str, Any], ratios: Iterable[float]) -> None:
        if not isinstance(values, Mapping):
            raise TypeError(f"grid={short_repr(values)} is not a dict: {_HINT}")
        self.values = {_name(name): _values(name, given) for name, given in values.items()}
        self.labels = {name: _labels(name, given) for name, given in self.values.items()}
        self.ratios = _ratios(ratios)
        self.cells = tuple(self._cells())

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the hyperparameters."""
        return tuple(self.values)

    def space(self) -> dict[str, Any]:
        """The same as a study's search space."""
        from seer_nb.search_space.domains import choice

        return {RATIO: choice(self.ratios), **{name: choice(labels) for name, labels in self.labels.items()}}

    def cell(self, config: Config) -> Cell:
        """The cell of a configuration that a study has drawn from the space."""
        found = self.ratios.index(config[RATIO])
        for name, labels in self.labels.items():
            found = found * len(labels) + labels.index(config[name])
        return self.cells[found]

    def _cells(self) -> Iterable[Cell]:
        places = [range(len(given)) for given in self.values.values()]
        for number, (ratio, at) in enumerate(product(self.ratios, list(product(*places)))):
            config = {name: given[place] for (name, given), place in zip(self.values.items(), at, strict=True)}
            labels = tuple(given[place] for given, place in zip(self.labels.values(), at, strict=True))
            yield Cell(number, ratio, config, labels)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or not is_storable(name):
        raise ValueError(f"grid has the name {short_repr(name)}: give hyperparameters' names as text")
    if name == RATIO:
        raise ValueError(f"grid has the name {RATIO!r}: give train ratios as {RATIO}s=")
    return name


def _values(name: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"grid[{name!r}]={short_repr(given)} is not a list of values: {_HINT}")
    found = tuple(value.item() if isinstance(value, np.generic) else value for value in given)
    if not found:
        raise ValueError(f"grid[{name!r}]={short_repr(given)} is empty: give at least one value")
    return found


def _labels(name: str, given: tuple[Any, ...]) -> tuple[Option, ...]:
    labels: list[Option] = []
    for value in given:
        plain = value is None or isinstance(value, bool | int | float | str)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"grid[{name!r}] has the value {short_repr(value)}: give finite numbers")
        label: Option = value if plain and is_storable(value) else repr(value)
        # 1, 1.0 and True are equal: a study could not tell them apart.
        if label in labels:
            raise ValueError(f"grid[{name!r}] has the value {short_repr(value)} twice: give each value once")
        labels.append(label)
    return tuple(labels)


def _ratios(given: Any) -> tuple[float, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"train_ratios={short_repr(given)} is not a list of numbers: give one such as (0.6, 0.8)")
    found = tuple(fraction(ratio, f"train_ratios[{place}]") for place, ratio in enumerate(given))
    if not found or len(set(found)) < len(found):
        raise ValueError(f"train_ratios={short_repr(given)} must hold at least one ratio, and each once")
    return found
