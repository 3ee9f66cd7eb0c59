"""The search space: hyperparameters that are searched, and constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import show
from seer_nb._utils.validation import warn
from seer_nb.search_space.domains import (
    KINDS,
    Choice,
    Domain,
    Fixed,
    Float,
    Integer,
    checked_float,
    checked_integer,
    choice,
    constant,
    is_option,
    lograndint,
    loguniform,
    named,
    plain_scalar,
    quniform,
    randint,
    storable,
    uniform,
)
from seer_nb.search_space.sampler import ConfigSampler

if TYPE_CHECKING:
    import numpy as np
    from optuna.distributions import BaseDistribution

    from seer_nb.core import Config


__all__ = [
    "Choice",
    "ConfigSampler",
    "Domain",
    "Float",
    "Integer",
    "Space",
    "choice",
    "lograndint",
    "loguniform",
    "quniform",
    "randint",
    "uniform",
]
SHORT = 60
"""Characters of a list that a warning writes out."""
_HINT = 'give a dict such as {"lr": seer.loguniform(1e-4, 1e-1), "batch": seer.choice([32, 64]), "depth": 3}'


class Space:
    """Names of hyperparameters, each with a domain or a constant; immutable, in the order of the dict.

    Args:
        given: Name to ``uniform(...)``, ``choice(...)`` and the like, an Optuna distribution, a frozen scipy.stats
            uniform, loguniform or randint, or a constant that JSON can hold. A tuple in a constant becomes a list. Of
            a list of numbers or texts it is warned that it is a constant too: ``choice([it])`` says so silently.

    Raises:
        TypeError: Not a dict, a name that is not a str, or a value of another type.
        ValueError: An empty dict or name, or a value that cannot be.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping):
            raise TypeError(f"space={show(given)} is not a dict: {_HINT}")
        if not given:
            raise ValueError(f"space={show(given)} is empty: {_HINT}")
        parts = {_checked_name(name): _part(name, value) for name, value in given.items()}
        self.names = tuple(parts)
        self.domains = {name: part for name, part in parts.items() if isinstance(part, Domain)}
        self.constants = {name: part for name, part in parts.items() if not isinstance(part, Domain)}
        for name, value in given.items():
            if _looks_searched(value):
                warn(_one_constant(name, value))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        """As it was given."""
        parts = self.constants | self.domains
        return f"Space({ {name: parts[name] for name in self.names} })"

    @property
    def size(self) -> int | None:
        """Number of different configurations; None when there is no end to them."""
        counts = [domain.count for domain in self.domains.values()]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    def sample(self, rng: np.random.Generator) -> Config:
        """Draw one configuration."""
        return self.config({name: domain.sample(rng) for name, domain in self.domains.items()})

    def config(self, searched: Mapping[str, Any]) -> Config:
        """A whole configuration, of plain values: what was searched, and the constants."""
        return {
            name: self.domains[name].plain(searched[name]) if name in self.domains else deepcopy(self.constants[name])
            for name in self.names
        }

    def nth(self, index: int) -> Config:
        """The configuration at a place from 0 to size - 1 of a finite space's enumeration."""
        searched = {}
        for name, domain in self.domains.items():
            index, place = divmod(index, domain.count or 1)
            searched[name] = domain.at(place)
        return self.config(searched)

    def key(self, config: Config) -> tuple[Any, ...]:
        """What tells one configuration from another: the values that are searched."""
        return tuple(config[name] for name in self.domains)

    def to_optuna(self) -> dict[str, BaseDistribution]:
        """The searched names' Optuna distributions."""
        return {name: domain.to_optuna() for name, domain in self.domains.items()}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"space has the name {show(name)}, of type {type(name).__name__}: give names as str")
    if not name.strip():
        raise ValueError(f"space has the name {name!r}: give a name that is not empty")
    if not storable(name):
        raise ValueError(f"space has the name {show(name)}: give a name of whole characters")
    return name


def _looks_searched(value: Any) -> bool:
    """Whether other tools would take it for options or bounds."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(is_option(plain_scalar(x)) for x in value)


def _one_constant(name: str, value: list[Any] | tuple[Any, ...]) -> str:
    options: list[Any] = [plain_scalar(each) for each in value]
    listed = text if len(text := repr(options)) <= SHORT else "[...]"
    searched = f"seer.choice({listed})"
    if isinstance(value, tuple) and _are_bounds(options):
        searched = f"{_range(*options)} or {searched}"
    return (
        f"space[{name!r}]={show(value)} is one constant, the same in all trials: write {searched} to search it, "
        f"or seer.choice([{listed}]) if a list is meant"
    )


def _are_bounds(options: list[Any]) -> bool:
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in options)
    return numbers and len(options) == 2 and options[0] < options[1]  # noqa: PLR2004


def _range(low: float, high: float) -> str:
    if isinstance(low, int) and isinstance(high, int):
        return f"seer.randint({low!r}, {high!r})"
    return f"seer.{'loguniform' if low > 0 else 'uniform'}({low!r}, {high!r})"


def _part(name: str, value: Any) -> Any:
    """A domain, or a constant."""
    with named(f"space[{name!r}]={show(value)}"):
        if isinstance(value, Fixed):
            return value.options[0]
        if isinstance(value, Domain):
            return value
        if type(value).__module__.startswith("optuna."):
            return _from_optuna(value)
        if hasattr(value, "dist") and hasattr(value, "support"):
            return _from_scipy(value)
        return constant(value)


def _from_optuna(given: Any) -> Domain:
    kind = type(given).__name__
    if kind == "CategoricalDistribution":
        return choice(given.choices)
    if kind == "FloatDistribution":
        return checked_float(kind, given.low, given.high, log=given.log, step=given.step, name="step")
    if kind == "IntDistribution":
        return checked_integer(kind, given.low, given.high, log=given.log, step=given.step)
    raise TypeError(f"a {kind} cannot be searched; {KINDS}")


def _from_scipy(given: Any) -> Domain:
    kind = given.dist.name
    low, high = (plain_scalar(bound) for bound in given.support())
    if kind == "uniform":
        return checked_float("uniform", low, high)
    if kind in {"loguniform", "reciprocal"}:
        if given.dist._parse_args(*given.args, **given.kwds)[1]:  # noqa: SLF001 - scipy has no public way to ask
            raise ValueError("a shifted loguniform cannot be searched; leave loc out")
        return checked_float("loguniform", low, high, log=True)
    if kind == "randint":
        # Its support ends with the last value that it takes.
        return checked_integer("randint", low, high)
    raise ValueError(f"scipy's {kind} cannot be searched; {KINDS}")
