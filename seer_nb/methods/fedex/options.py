"""The configurations that FedEx chooses from: a list, or all of a grid with a distribution for each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seer_nb.core.units import show

if TYPE_CHECKING:
    from seer_nb.core.model import Config

_HINT = 'give a list of dicts, such as [{"lr": 0.1}, {"lr": 1.0}], or a dict of lists, such as {"lr": [0.1, 1.0]}'


class Options:
    """What there is to choose: on each axis one of its options.

    Args:
        configs: A list of configurations: one axis. Or a dict of hyperparameter to list of values, a product grid: an
            axis for each, in the order of their names.

    Raises:
        TypeError: It is neither.
        ValueError: There is nothing to choose from.
    """

    def __init__(self, configs: Sequence[Config] | Mapping[str, Sequence[Any]]) -> None:
        self._list: list[dict[str, Any]] = []
        self._grid: dict[str, list[Any]] = {}
        if isinstance(configs, Mapping):
            self._grid = {name: _values(name, configs[name]) for name in sorted(configs)}
        elif isinstance(configs, list | tuple):
            self._list = [_config(place, config) for place, config in enumerate(configs)]
        else:
            raise TypeError(f"configs={show(configs)} is neither a list nor a dict: {_HINT}")
        if not self._grid and not self._list:
            raise ValueError(f"configs={show(configs)} is empty: {_HINT}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Options of each axis."""
        return tuple(map(len, self._grid.values())) if self._grid else (len(self._list),)

    @property
    def is_grid(self) -> bool:
        """Whether a dict of lists was given."""
        return bool(self._grid)

    @property
    def names(self) -> tuple[str, ...]:
        """Of each axis; of a list, "config"."""
        return tuple(self._grid) if self._grid else ("config",)

    def at(self, places: Sequence[int]) -> Config:
        """The configuration at a place of each axis."""
        if self._grid:
            pairs = zip(self._grid.items(), places, strict=True)
            return {name: values[place] for (name, values), place in pairs}
        return dict(self._list[places[0]])

    def label(self, axis: int, place: int) -> str:
        """An option in a few words."""
        if self._grid:
            name = self.names[axis]
            return f"{name}={_short(self._grid[name][place])}"
        config = self._list[place]
        # What is the same in all of them tells nothing.
        told = {name: value for name, value in config.items() if any(x.get(name) != value for x in self._list)}
        return ", ".join(f"{name}={_short(value)}" for name, value in (told or config).items())


def _config(place: int, config: Any) -> dict[str, Any]:
    if not isinstance(config, Mapping):
        raise TypeError(f"configs[{place}]={show(config)} is not a dict: {_HINT}")
    return dict(config)


def _values(name: Any, values: Any) -> list[Any]:
    if not isinstance(name, str):
        raise TypeError(f"configs has the name {show(name)}: give names as str")
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"configs[{name!r}]={show(values)} is not a list: {_HINT}")
    if not values:
        raise ValueError(f"configs[{name!r}]={show(values)} is empty: give at least one value")
    return list(values)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
