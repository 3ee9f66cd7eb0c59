"""The configurations that FedEx chooses from: a list, or all of a grid with a distribution for each hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import short_repr
from seer_nb.search_space.domains import Choice, Domain, Float, Integer, choice, loguniform, randint, uniform

if TYPE_CHECKING:
    import numpy as np

    from seer_nb.core import Config
    from seer_nb.search_space import Space


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
            raise TypeError(f"configs={short_repr(configs)} is neither a list nor a dict: {_HINT}")
        if not self._grid and not self._list:
            raise ValueError(f"configs={short_repr(configs)} is empty: {_HINT}")

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
        raise TypeError(f"configs[{place}]={short_repr(config)} is not a dict: {_HINT}")
    return dict(config)


def _values(name: Any, values: Any) -> list[Any]:
    if not isinstance(name, str):
        raise TypeError(f"configs has the name {short_repr(name)}: give names as str")
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"configs[{name!r}]={short_repr(values)} is not a list: {_HINT}")
    if not values:
        raise ValueError(f"configs[{name!r}]={short_repr(values)} is empty: give at least one value")
    return list(values)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def client_space() -> dict[str, Domain]:
    """The seven hyperparameters of a client, with their ranges (github mkhodak/FedEx, femnist.py and cifar.py)."""
    return {
        "lr": loguniform(1e-4, 1.0),
        "momentum": uniform(0.0, 1.0),
        "weight_decay": loguniform(1e-5, 1e-1),
        "epochs": randint(1, 5),
        "batch": choice([8, 16, 32, 64, 128]),
        "mu": loguniform(1e-5, 1.0),
        "dropout": uniform(0.0, 0.5),
    }


def server_space() -> dict[str, Domain]:
    """The server's hyperparameters, with their ranges; ``decay`` is 1 - gamma (github mkhodak/FedEx)."""
    return {"lr": loguniform(0.1, 10.0), "momentum": choice([0.0, 0.9]), "decay": loguniform(1e-4, 1e-2)}


def neighbours(
    space: Space, count: int, eps: float, rng: np.random.Generator, centre: Config | None = None
) -> list[Config]:
    """A configuration, and others close to it: what one FedEx chooses from.

    Each hyperparameter moves by up to ``eps`` times the width of its range, of its logarithm where that is what is
    uniform; a whole number or a place in a list of options by up to that, rounded up. Then it is cut off at the range's
    ends. For the spaces above these are the authors' rules.

    Args:
        space: Of clients.
        count: Configurations, the first one included.
        eps: From 0, all are the same, to 1.
        rng: To draw from.
        centre: The configuration. Default: a random one.
    """
    centre = space.sample(rng) if centre is None else centre
    others = (
        {name: _moved(space.domains[name], value, eps, rng) for name, value in centre.items() if name in space.domains}
        for _ in range(count - 1)
    )
    return [centre, *(space.config(searched) for searched in others)]


def _moved(domain: Domain, value: Any, eps: float, rng: np.random.Generator) -> Any:
    if isinstance(domain, Choice):
        return domain.at(_shifted(domain.options.index(value), len(domain.options), eps, rng))
    if isinstance(domain, Integer):
        place = (value - domain.low) // domain.step
        return domain.at(_shifted(place, domain.count, eps, rng))
    return _float(domain, value, eps, rng)


def _float(domain: Float, value: float, eps: float, rng: np.random.Generator) -> float:
    if domain.step is not None:
        place = round((value - domain.low) / domain.step)
        return domain.at(_shifted(place, domain.count or 1, eps, rng))
    if domain.log:
        low, high, at = math.log(domain.low), math.log(domain.high), math.log(value)
        moved = math.exp(at + eps * (high - low) * rng.uniform(-1, 1))
    else:
        moved = value + eps * (domain.high - domain.low) * rng.uniform(-1, 1)
    return min(domain.high, max(domain.low, moved))


def _shifted(place: int, count: int, eps: float, rng: np.random.Generator) -> int:
    most = math.ceil(eps * (count - 1))
    moved = place + int(rng.integers(-most, most + 1))
    return min(count - 1, max(0, moved))
