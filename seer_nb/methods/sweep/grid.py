"""The cells of a sweep: every configuration of a grid at every train ratio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb._utils.text import short_repr
from seer_nb.methods.sweep.data import check_fraction
from seer_nb.search_space.domains import Option, is_storable

if TYPE_CHECKING:
    from seer_nb.core import Config


TRAIN_RATIO = "train_ratio"
"""Name of the train ratio among the hyperparameters of a study."""
_EXPECTED = 'expected a dict such as {"hidden_layer_sizes": [(8,), (32, 32)], "activation": ["relu", "tanh"]}'


class Cell(NamedTuple):
    """One configuration at one train ratio."""

    number: int
    """Row of the cell, from 0; train ratio by train ratio."""
    train_ratio: float
    config: Config
    labels: tuple[Option, ...]
    """The configuration's values as tables and studies hold them: plain values, and the repr of others."""


class Grid:
    """The grid of hyperparameter values and train ratios.

    Args:
        values: Name to a list of values; an empty grid has one configuration, the estimator's own.
        ratios: Shares of training samples, each between 0 and 1.

    Raises:
        TypeError: The values are not a dict, or a value is not a list.
        ValueError: Something is empty, duplicate, or out of bounds.
    """

    def __init__(self, values: Mapping[str, Any], ratios: Iterable[float]) -> None:
        if not isinstance(values, Mapping):
            raise TypeError(f"grid={short_repr(values)}: not a dict; {_EXPECTED}")
        self.values = {_check_name(name): _read_values(name, given) for name, given in values.items()}
        self.labels = {name: _make_labels(name, given) for name, given in self.values.items()}
        self.ratios = _read_ratios(ratios)
        self.cells = tuple(self._make_cells())

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the hyperparameters."""
        return tuple(self.values)

    def space(self) -> dict[str, Any]:
        """Return the grid as a study's search space."""
        from seer_nb.search_space.domains import choice

        return {TRAIN_RATIO: choice(self.ratios), **{name: choice(labels) for name, labels in self.labels.items()}}

    def cell(self, config: Config) -> Cell:
        """Return the cell of a configuration that a study has drawn from ``space()``."""
        found = self.ratios.index(config[TRAIN_RATIO])
        for name, labels in self.labels.items():
            found = found * len(labels) + labels.index(config[name])
        return self.cells[found]

    def _make_cells(self) -> Iterable[Cell]:
        places = [range(len(given)) for given in self.values.values()]
        for number, (ratio, at) in enumerate(product(self.ratios, list(product(*places)))):
            config = {name: given[place] for (name, given), place in zip(self.values.items(), at, strict=True)}
            labels = tuple(given[place] for given, place in zip(self.labels.values(), at, strict=True))
            yield Cell(number, ratio, config, labels)


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or not is_storable(name):
        raise ValueError(f"grid: name {short_repr(name)}; expected the names of hyperparameters as text")
    if name == TRAIN_RATIO:
        raise ValueError(f"grid: name {TRAIN_RATIO!r}; expected train ratios as the argument {TRAIN_RATIO}s")
    return name


def _read_values(name: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"grid[{name!r}]={short_repr(given)}: not a list of values; {_EXPECTED}")
    found = tuple(value.item() if isinstance(value, np.generic) else value for value in given)
    if not found:
        raise ValueError(f"grid[{name!r}]={short_repr(given)}: empty; expected at least one value")
    return found


def _make_labels(name: str, given: tuple[Any, ...]) -> tuple[Option, ...]:
    labels: list[Option] = []
    for value in given:
        plain = value is None or isinstance(value, bool | int | float | str)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"grid[{name!r}]: value {short_repr(value)}; expected finite numbers")
        label: Option = value if plain and is_storable(value) else repr(value)
        # 1, 1.0 and True are equal: a study cannot distinguish them.
        if label in labels:
            raise ValueError(f"grid[{name!r}]: value {short_repr(value)} is duplicate; expected each value once")
        labels.append(label)
    return tuple(labels)


def _read_ratios(given: Any) -> tuple[float, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"train_ratios={short_repr(given)}: not a list of numbers; expected one such as (0.6, 0.8)")
    found = tuple(check_fraction(ratio, f"train_ratios[{place}]") for place, ratio in enumerate(given))
    if not found or len(set(found)) < len(found):
        raise ValueError(
            f"train_ratios={short_repr(given)}: empty or duplicate; expected at least one ratio, and each once"
        )
    return found
