"""Client configurations that FedEx chooses from: explicit options, default search spaces, and neighbourhoods."""

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


_EXPECTED = (
    'expected a list of dicts, such as [{"lr": 0.1}, {"lr": 1.0}], or a dict of lists, such as {"lr": [0.1, 1.0]}'
)


class Options:
    """A finite set of configurations, as one or more axes of options.

    Args:
        configs: A list of configurations, which is one axis. Or a dict of hyperparameter to list of values: a product
            grid with one axis per hyperparameter, in alphabetical order.

    Raises:
        TypeError: ``configs`` is neither.
        ValueError: ``configs`` or one of its lists is empty.
    """

    def __init__(self, configs: Sequence[Config] | Mapping[str, Sequence[Any]]) -> None:
        self._list: list[dict[str, Any]] = []
        self._grid: dict[str, list[Any]] = {}
        if isinstance(configs, Mapping):
            self._grid = {name: _read_values(name, configs[name]) for name in sorted(configs)}
        elif isinstance(configs, list | tuple):
            self._list = [_read_config(index, config) for index, config in enumerate(configs)]
        else:
            raise TypeError(f"configs={short_repr(configs)}: neither a list nor a dict; {_EXPECTED}")
        if not self._grid and not self._list:
            raise ValueError(f"configs={short_repr(configs)}: empty; {_EXPECTED}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of options of each axis."""
        return tuple(map(len, self._grid.values())) if self._grid else (len(self._list),)

    @property
    def is_grid(self) -> bool:
        """Whether the options are a product grid."""
        return bool(self._grid)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each axis; ("config",) for a list of configurations."""
        return tuple(self._grid) if self._grid else ("config",)

    def config_at(self, indices: Sequence[int]) -> Config:
        """Return the configuration with the given option index on each axis."""
        if self._grid:
            pairs = zip(self._grid.items(), indices, strict=True)
            return {name: values[index] for (name, values), index in pairs}
        return dict(self._list[indices[0]])

    def label(self, axis: int, option: int) -> str:
        """Return a short text for one option of one axis."""
        if self._grid:
            name = self.names[axis]
            return f"{name}={_format(self._grid[name][option])}"
        config = self._list[option]
        # Values that all configurations share do not distinguish them.
        varied = {name: value for name, value in config.items() if any(x.get(name) != value for x in self._list)}
        return ", ".join(f"{name}={_format(value)}" for name, value in (varied or config).items())


def _read_config(index: int, config: Any) -> dict[str, Any]:
    if not isinstance(config, Mapping):
        raise TypeError(f"configs[{index}]={short_repr(config)}: not a dict; {_EXPECTED}")
    return dict(config)


def _read_values(name: Any, values: Any) -> list[Any]:
    if not isinstance(name, str):
        raise TypeError(f"configs: the key {short_repr(name)} is not a str; {_EXPECTED}")
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"configs[{name!r}]={short_repr(values)}: not a list; {_EXPECTED}")
    if not values:
        raise ValueError(f"configs[{name!r}]={short_repr(values)}: empty; expected at least one value")
    return list(values)


def _format(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def client_space() -> dict[str, Domain]:
    """Return the authors' space of client hyperparameters (github mkhodak/FedEx, femnist.py and cifar.py).

    Returns:
        Domain by name, for the fields of ``ClientConfig``.

    Example:
        >>> space = fedex.client_space() | {"epochs": seer.choice([1, 2])}
        >>> fedex.tune(federation, space, max_rounds=60, total_rounds=300)
    """
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
    """Return the authors' search space of the server hyperparameters (github mkhodak/FedEx).

    Returns:
        Domain by name: lr, momentum and decay, which is 1 - gamma.
    """
    return {"lr": loguniform(0.1, 10.0), "momentum": choice([0.0, 0.9]), "decay": loguniform(1e-4, 1e-2)}


def neighbours(
    space: Space, count: int, eps: float, rng: np.random.Generator, centre: Config | None = None
) -> list[Config]:
    """Return a configuration and random perturbations of it: the options of one FedEx run.

    Each hyperparameter moves by up to ``eps`` times the width of its range, on a log scale where the domain has one. An
    integer, or the index of a choice, moves by up to ``eps`` times the range, rounded up. The result is clipped to the
    range. For ``client_space()`` these are the rules of the authors' code (github mkhodak/FedEx).

    Args:
        space: Space of the client hyperparameters.
        count: Number of configurations, the centre included.
        eps: Relative size of the perturbation, from 0 (all equal) to 1.
        rng: Random generator.
        centre: First configuration. Default: one drawn from the space.

    Returns:
        ``count`` configurations, the centre first.
    """
    centre = space.sample(rng) if centre is None else centre
    others = (
        {
            name: _perturb(space.domains[name], value, eps, rng)
            for name, value in centre.items()
            if name in space.domains
        }
        for _ in range(count - 1)
    )
    return [centre, *(space.config(searched) for searched in others)]


def _perturb(domain: Domain, value: Any, eps: float, rng: np.random.Generator) -> Any:
    if isinstance(domain, Choice):
        return domain.at(_shift_index(domain.options.index(value), len(domain.options), eps, rng))
    if isinstance(domain, Integer):
        index = (value - domain.low) // domain.step
        return domain.at(_shift_index(index, domain.count, eps, rng))
    return _perturb_float(domain, value, eps, rng)


def _perturb_float(domain: Float, value: float, eps: float, rng: np.random.Generator) -> float:
    if domain.step is not None:
        index = round((value - domain.low) / domain.step)
        return domain.at(_shift_index(index, domain.count or 1, eps, rng))
    if domain.log:
        low, high, at = math.log(domain.low), math.log(domain.high), math.log(value)
        moved = math.exp(at + eps * (high - low) * rng.uniform(-1, 1))
    else:
        moved = value + eps * (domain.high - domain.low) * rng.uniform(-1, 1)
    return min(domain.high, max(domain.low, moved))


def _shift_index(index: int, count: int, eps: float, rng: np.random.Generator) -> int:
    most = math.ceil(eps * (count - 1))
    moved = index + int(rng.integers(-most, most + 1))
    return min(count - 1, max(0, moved))
