"""The search space: names of hyperparameters, each with a domain or a constant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import warn
from seer_nb.search_space.domains import (
    KINDS,
    Choice,
    Domain,
    Fixed,
    Float,
    Integer,
    checked_constant,
    checked_float,
    checked_integer,
    choice,
    is_option,
    is_storable,
    lograndint,
    loguniform,
    naming_argument,
    plain_scalar,
    quniform,
    randint,
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
MAX_LISTED = 60
"""Longest list that a warning writes out, in characters."""
_HINT = 'expected a dict such as {"lr": seer.loguniform(1e-4, 1e-1), "batch": seer.choice([32, 64]), "depth": 3}'


class Space:
    """A search space; immutable, in the order of the dict.

    Args:
        given: Names of hyperparameters, each with a domain or a constant. A domain is ``uniform(...)``, ``choice(...)``
            and so on, an Optuna distribution, or a frozen scipy.stats uniform, loguniform or randint. A constant is any
            value that JSON can hold; a tuple becomes a list. A plain list counts as one constant; seer_nb warns about
            it. ``choice([[64, 64]])`` is the same constant without a warning.

    Raises:
        TypeError: Not a dict, a name that is not a str, or a value of another type.
        ValueError: An empty dict or name, or a value that cannot be stored.

    Example:
        >>> import seer_nb as seer
        >>> from seer_nb.search_space import Space
        >>> Space({"lr": seer.loguniform(1e-4, 1e-1), "depth": 3}).size is None
        True
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping):
            raise TypeError(f"space={short_repr(given)}: not a dict; {_HINT}")
        if not given:
            raise ValueError(f"space={short_repr(given)}: empty; {_HINT}")
        parts = {_checked_name(name): _domain_or_constant(name, value) for name, value in given.items()}
        self.names = tuple(parts)
        self.domains = {name: part for name, part in parts.items() if isinstance(part, Domain)}
        self.constants = {name: part for name, part in parts.items() if not isinstance(part, Domain)}
        for name, value in given.items():
            if _looks_like_domain(value):
                warn(_constant_warning(name, value))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        parts = self.constants | self.domains
        return f"Space({ {name: parts[name] for name in self.names} })"

    @property
    def size(self) -> int | None:
        """Number of different configurations; None for an infinite space."""
        counts = [domain.count for domain in self.domains.values()]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    def sample(self, rng: np.random.Generator) -> Config:
        """Draw one configuration."""
        return self.config({name: domain.sample(rng) for name, domain in self.domains.items()})

    def config(self, searched: Mapping[str, Any]) -> Config:
        """Return the configuration with these searched values and the constants, all of them plain Python values."""
        return {
            name: self.domains[name].plain(searched[name]) if name in self.domains else deepcopy(self.constants[name])
            for name in self.names
        }

    def nth(self, index: int) -> Config:
        """Return configuration number ``index``, from 0 to size - 1, in the enumeration of a finite space."""
        searched = {}
        for name, domain in self.domains.items():
            index, place = divmod(index, domain.count or 1)
            searched[name] = domain.at(place)
        return self.config(searched)

    def key(self, config: Config) -> tuple[Any, ...]:
        """Return the searched values, which identify a configuration."""
        return tuple(config[name] for name in self.domains)

    def to_optuna(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distributions by searched name."""
        return {name: domain.to_optuna() for name, domain in self.domains.items()}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(
            f"space: the name {short_repr(name)} is of type {type(name).__name__}; expected names of type str"
        )
    if not name.strip():
        raise ValueError(f"space: the name {name!r} is blank; expected a name with visible characters")
    if not is_storable(name):
        raise ValueError(f"space: the name {short_repr(name)} cannot be stored; expected valid Unicode text")
    return name


def _looks_like_domain(value: Any) -> bool:
    """Return whether other tools would read a constant as options or bounds."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(is_option(plain_scalar(x)) for x in value)


def _constant_warning(name: str, value: list[Any] | tuple[Any, ...]) -> str:
    options: list[Any] = [plain_scalar(each) for each in value]
    listed = text if len(text := repr(options)) <= MAX_LISTED else "[...]"
    searched = f"seer.choice({listed})"
    if isinstance(value, tuple) and _are_bounds(options):
        searched = f"{_range(*options)} or {searched}"
    return (
        f"space[{name!r}]={short_repr(value)}: a plain list counts as one constant, the same in all trials; write "
        f"{searched} to search it, or seer.choice([{listed}]) to keep the constant without this warning"
    )


def _are_bounds(options: list[Any]) -> bool:
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in options)
    return numbers and len(options) == 2 and options[0] < options[1]  # noqa: PLR2004


def _range(low: float, high: float) -> str:
    if isinstance(low, int) and isinstance(high, int):
        return f"seer.randint({low!r}, {high!r})"
    return f"seer.{'loguniform' if low > 0 else 'uniform'}({low!r}, {high!r})"


def _domain_or_constant(name: str, value: Any) -> Any:
    with naming_argument(f"space[{name!r}]={short_repr(value)}"):
        if isinstance(value, Fixed):
            return value.options[0]
        if isinstance(value, Domain):
            return value
        if type(value).__module__.startswith("optuna."):
            return _from_optuna(value)
        if hasattr(value, "dist") and hasattr(value, "support"):
            return _from_scipy(value)
        return checked_constant(value)


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
        if given.dist._parse_args(*given.args, **given.kwds)[1]:  # noqa: SLF001 - scipy has no public access to loc
            raise ValueError("a shifted loguniform cannot be searched; expected loc=0")
        return checked_float("loguniform", low, high, log=True)
    if kind == "randint":
        # The support ends with the last possible value, so high is included.
        return checked_integer("randint", low, high)
    raise ValueError(f"scipy's {kind} cannot be searched; {KINDS}")
