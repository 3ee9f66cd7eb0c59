"""Domains of hyperparameters (``uniform``, ``choice``, ...) and constants, with their checks.

Optuna is imported only in ``to_optuna``, so that ``import seer_nb`` stays fast.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from decimal import ROUND_FLOOR, Decimal
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import msgspec

from seer_nb._utils.text import short_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution


Option: TypeAlias = bool | int | float | str | None
MAX_INT = 2**53
"""Greatest bound of an integer: up to here, floats represent every integer exactly, and samplers compute in floats."""


class Float(msgspec.Struct, frozen=True, kw_only=True):
    """A real number from low to high, both included; with a step, one of low, low + step, ..."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __repr__(self) -> str:
        low, high = _short(self.low), _short(self.high)
        if self.step is not None:
            return f"quniform({low}, {high}, {_short(self.step)})"
        return f"{'loguniform' if self.log else 'uniform'}({low}, {high})"

    @property
    def count(self) -> int | None:
        """Number of different values; None for a continuous range."""
        if self.step is not None:
            return _count_steps(self.low, self.high, self.step) + 1
        return 1 if self.low == self.high else None

    def at(self, place: int) -> float:
        """Return the value that lies ``place`` steps above low."""
        # Decimals, so that 0.1 + 2 x 0.1 is 0.3.
        return float(_exact(self.low) + place * _exact(self.step or 0.0))

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        if self.step is not None:
            return self.at(int(rng.integers(0, _count_steps(self.low, self.high, self.step) + 1)))
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = float(rng.uniform(self.low, self.high))
        return min(self.high, max(self.low, drawn))

    def plain(self, value: object) -> float:
        """Convert a sampler's value to a float."""
        return float(value)  # type: ignore[arg-type]

    def to_optuna(self) -> FloatDistribution:
        """Return the equivalent Optuna distribution."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


class Integer(msgspec.Struct, frozen=True, kw_only=True):
    """An integer from low to high, both included, in steps."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __repr__(self) -> str:
        if self.step != 1:  # only Optuna's distributions have steps
            return f"IntDistribution({self.low}, {self.high}, step={self.step})"
        return f"{'lograndint' if self.log else 'randint'}({self.low}, {self.high})"

    @property
    def count(self) -> int:
        """Number of different values."""
        return (self.high - self.low) // self.step + 1

    def at(self, place: int) -> int:
        """Return the value that lies ``place`` steps above low."""
        return self.low + place * self.step

    def sample(self, rng: np.random.Generator) -> int:
        """Draw one value."""
        if not self.log:
            return self.at(int(rng.integers(0, self.count)))
        # Half a unit more at both ends, as in Optuna, so that rounding gives the ends their share.
        drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(self.high, max(self.low, round(drawn)))

    def plain(self, value: object) -> int:
        """Convert a sampler's value to an int."""
        return int(value)  # type: ignore[call-overload, no-any-return]

    def to_optuna(self) -> IntDistribution:
        """Return the equivalent Optuna distribution."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log, step=self.step)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One of several options with equal probability."""

    options: tuple[Option, ...]

    def __repr__(self) -> str:
        return f"choice({list(self.options)!r})"

    @property
    def count(self) -> int:
        """Number of different values."""
        return len(self.options)

    def at(self, place: int) -> Option:
        """Return the option with an index from 0."""
        return self.options[place]

    def sample(self, rng: np.random.Generator) -> Option:
        """Draw one value."""
        return self.at(int(rng.integers(0, len(self.options))))

    def plain(self, value: object) -> Option:
        """Convert a sampler's value to the option as given; to a sampler, 1 and 1.0 are the same."""
        return self.options[self.options.index(value)]

    def to_optuna(self) -> CategoricalDistribution:
        """Return the equivalent Optuna distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.options)


class Fixed(Choice, frozen=True, kw_only=True):
    """A list or dict as the only option: an intended constant, without a warning."""


Domain: TypeAlias = Float | Integer | Choice


def uniform(low: float, high: float) -> Float:
    """Search a real number with uniform probability.

    Args:
        low: Least value, included.
        high: Greatest value, included.

    Raises:
        TypeError: A bound is not a number.
        ValueError: A bound is NaN or infinite, or low is above high.

    Example:
        >>> import seer_nb as seer
        >>> seer.uniform(0.0, 0.9)
        uniform(0, 0.9)
    """
    return checked_float("uniform", low, high)


def loguniform(low: float, high: float) -> Float:
    """Search a positive real number whose logarithm is uniform, such as a learning rate.

    Args:
        low: Least value, included, above 0.
        high: Greatest value, included.

    Raises:
        TypeError: A bound is not a number.
        ValueError: A bound is NaN, infinite, 0 or negative, or low is above high.

    Example:
        >>> import seer_nb as seer
        >>> seer.loguniform(1e-4, 1e-1)
        loguniform(0.0001, 0.1)
    """
    return checked_float("loguniform", low, high, log=True)


def quniform(low: float, high: float, q: float) -> Float:
    """Search one of low, low + q, low + 2 q, ... up to high, with equal probability.

    The grid begins at low, as in Optuna. In Ray Tune and hyperopt it begins at 0, which is the same where low is a
    multiple of q.

    Args:
        low: Least value, included.
        high: Greatest value, included if it lies on the grid.
        q: Distance between two values, above 0 and at most high - low.

    Raises:
        TypeError: A bound or q is not a number.
        ValueError: As for ``uniform``, or q is out of range.

    Example:
        >>> import seer_nb as seer
        >>> seer.quniform(0.1, 0.5, 0.1)
        quniform(0.1, 0.5, 0.1)
    """
    return checked_float("quniform", low, high, step=q)


def randint(low: int, high: int) -> Integer:
    """Search an integer with uniform probability.

    Both ends are included, as in Optuna's ``suggest_int``, Syne Tune and Python's ``random.randint``. Ray Tune, numpy
    and ``scipy.stats.randint`` exclude high; a frozen ``scipy.stats.randint`` in a space keeps that meaning.

    Args:
        low: Least value, included.
        high: Greatest value, included.

    Raises:
        TypeError: A bound is not an integer.
        ValueError: low is above high, or a bound is beyond 2**53.

    Example:
        >>> import seer_nb as seer
        >>> seer.randint(1, 5)
        randint(1, 5)
    """
    return checked_integer("randint", low, high)


def lograndint(low: int, high: int) -> Integer:
    """Search a positive integer whose logarithm is uniform, such as a width or a batch size.

    Args:
        low: Least value, included, at least 1.
        high: Greatest value, included.

    Raises:
        TypeError: A bound is not an integer.
        ValueError: low is below 1 or above high, or a bound is beyond 2**53.

    Example:
        >>> import seer_nb as seer
        >>> seer.lograndint(16, 512)
        lograndint(16, 512)
    """
    return checked_integer("lograndint", low, high, log=True)


def choice(options: Iterable[Any]) -> Choice:
    """Search one of several options with equal probability.

    Args:
        options: A list or another iterable, but not a str, of None, bool, int, finite float or str. Scalars of numpy
            become plain ones. Options must differ; to a sampler, 1, 1.0 and True are the same. A list, tuple or dict
            may be the only option, and is a constant then.

    Raises:
        TypeError: Not an iterable, or an option of another type.
        ValueError: No option, a repeated option, or one that is NaN or infinite.

    Example:
        >>> import seer_nb as seer
        >>> seer.choice(["relu", "tanh"])
        choice(['relu', 'tanh'])
    """
    try:
        given = None if isinstance(options, str | bytes) else tuple(options)
    except TypeError:
        given = None
    if given is None:
        raise TypeError(f"options={short_repr(options)}: not a list; expected a list such as choice([32, 64])")
    if not given:
        raise ValueError(f"options={short_repr(options)}: empty; expected at least one option")
    if len(given) == 1 and isinstance(given[0], list | tuple | dict):
        return Fixed(options=(_only_option(given[0]),))
    chosen: list[Option] = []
    for value in given:
        option = _option(value)
        if option in chosen:
            raise ValueError(f"options={short_repr(options)}: {option!r} occurs twice; expected each option once")
        chosen.append(option)
    return Choice(options=tuple(chosen))


def checked_float(  # noqa: PLR0913 - the bounds, and their names in the caller
    function: str, low: object, high: object, *, log: bool = False, step: object = None, name: str = "q"
) -> Float:
    """Return a Float from a user's arguments.

    Args:
        function: Name of the function or distribution that the user called, for messages.
        low: Least value.
        high: Greatest value.
        log: Whether the logarithm is uniform.
        step: Distance between two values; None: continuous.
        name: The user's name for ``step``, for messages.

    Raises:
        TypeError: A bound or the step is not a number.
        ValueError: A bound or the step is out of range.
    """
    least, most = _finite(function, "low", low), _finite(function, "high", high)
    _check_order(function, least, most)
    if log and least <= 0:
        raise ValueError(f"low={short_repr(low)}: has no logarithm; {function} expects bounds > 0")
    if not math.isfinite(most - least):
        raise ValueError(f"low={low!r}, high={high!r}: high - low is infinite; {function} expects a finite range")
    if step is None:
        return Float(low=least, high=most, log=log)
    size = _finite(function, name, step)
    if size <= 0 or size > most - least:
        raise ValueError(
            f"{name}={short_repr(step)}: not a step from low={low!r} to high={high!r}; "
            f"expected 0 < {name} <= high - low"
        )
    steps = _count_steps(least, most, size)
    if steps > MAX_INT:
        raise ValueError(
            f"{name}={short_repr(step)}: too small from low={low!r} to high={high!r}; expected uniform instead"
        )
    # The last value on the grid, so that Optuna does not warn that it moves the bound.
    return Float(low=least, high=float(_exact(least) + steps * _exact(size)), step=size)


def checked_integer(function: str, low: object, high: object, *, log: bool = False, step: int = 1) -> Integer:
    """Return an Integer from a user's arguments.

    Args:
        function: Name of the function or distribution that the user called, for messages.
        low: Least value.
        high: Greatest value.
        log: Whether the logarithm is uniform.
        step: Distance between two values.

    Raises:
        TypeError: A bound is not an integer.
        ValueError: A bound is out of range.
    """
    least, most = _integer(function, "low", low), _integer(function, "high", high)
    _check_order(function, least, most)
    if log and least < 1:
        raise ValueError(f"low={short_repr(low)}: below 1; {function} expects bounds >= 1")
    return Integer(low=least, high=least + (most - least) // step * step, log=log, step=step)


def plain_scalar(value: object) -> object:
    """Convert a numpy scalar to Python's; return any other value unchanged."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()  # type: ignore[attr-defined]
    return value


def is_option(value: object) -> TypeGuard[Option]:
    """Return whether a value can be one of several options: no list, dict or other object."""
    return value is None or isinstance(value, bool | int | float | str)


def is_storable(value: Option) -> bool:
    """Return whether the journal can hold a value: finite floats, ints of at most 64 bits, valid Unicode text."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return not isinstance(value, float) or math.isfinite(value)


def _option(value: object) -> Option:
    value = plain_scalar(value)
    if is_option(value):
        if not is_storable(value):
            what = "valid Unicode text" if isinstance(value, str) else "a finite number of at most 64 bits"
            raise ValueError(f"option {short_repr(value)}: cannot be stored; expected {what}")
        return value
    raise TypeError(
        f"option {short_repr(value)}: of type {type(value).__name__}; expected None, "
        "bool, int, float or str (for objects, "
        "give names and map them to objects in train)"
    )


def _only_option(value: Any) -> Any:
    """Check a list or dict that is the only option."""
    with naming_argument(f"options={short_repr([value])}"):
        return checked_constant(value)


def _finite(function: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={short_repr(value)}: not a number; {function} expects finite numbers")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name}={short_repr(value)}: not finite; {function} expects finite numbers")
    return number


def _integer(function: str, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={short_repr(value)}: not an integer; {function} expects integers")
    if abs(int(value)) > MAX_INT:
        raise ValueError(
            f"{name}={short_repr(value)}: beyond 2**53; {function} expects integers that a float holds exactly"
        )
    return int(value)


def _check_order(function: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"low={low!r}: above high={high!r}; {function} expects low <= high")


def _short(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    text = f"{value:g}"
    return text if float(text) == value else repr(value)


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))


def _count_steps(low: float, high: float, step: float) -> int:
    return int(((_exact(high) - _exact(low)) / _exact(step)).to_integral_value(rounding=ROUND_FLOOR))


KINDS = (
    "expected uniform, loguniform, quniform, randint, lograndint or choice, an Optuna distribution, a frozen "
    "scipy.stats uniform, loguniform or randint, or a constant of None, bool, int, float, str, list and dict"
)
"""The end of messages about values that are neither a domain nor a constant."""


def checked_constant(value: Any) -> Any:
    """Return a copy of a constant as JSON reads it back; a tuple becomes a list.

    Raises:
        TypeError: A part has a type that cannot be stored.
        ValueError: A number or text cannot be stored.
    """
    value = plain_scalar(value)
    if is_option(value):
        if not is_storable(value):
            what = "valid Unicode text" if isinstance(value, str) else "a finite number of at most 64 bits"
            raise ValueError(f"cannot be stored; expected {what}")
        return value
    if isinstance(value, list | tuple):
        return [checked_constant(item) for item in value]
    if isinstance(value, dict):
        if not all(is_storable(key) for key in value if isinstance(key, str)):
            raise ValueError("a name in the dict cannot be stored; expected valid Unicode text")
        if all(isinstance(key, str) for key in value):
            return {key: checked_constant(item) for key, item in value.items()}
        raise TypeError("a name in the dict is not a str; expected names of type str")
    if isinstance(value, Domain):
        raise TypeError("a domain inside a list or dict; expected a hyperparameter of its own for each domain")
    raise TypeError(f"a {type(value).__name__} can be neither searched nor stored; {KINDS}")


@contextmanager
def naming_argument(argument: str) -> Iterator[None]:
    """Put the argument's name and value in front of an error's message."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{argument}: nested too deeply; expected fewer levels") from None
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument}: {error}") from None
