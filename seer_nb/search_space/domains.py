"""What a hyperparameter may be: small frozen records that sample and count themselves and know their Optuna twin.

Optuna is imported only when a twin is asked for, so that ``import seer_nb`` stays fast.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from decimal import ROUND_FLOOR, Decimal
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import msgspec

from seer_nb._utils.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution


Option: TypeAlias = bool | int | float | str | None
MAX_INT = 2**53
"""Up to here floats, in which samplers compute, hold every whole number exactly."""


class Float(msgspec.Struct, frozen=True, kw_only=True):
    """A real number from low to high, both included; with a step only low, low + step, ..."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __repr__(self) -> str:
        """As it is written in a space."""
        if self.step is not None:
            return f"quniform({self.low:g}, {self.high:g}, {self.step:g})"
        return f"{'loguniform' if self.log else 'uniform'}({self.low:g}, {self.high:g})"

    @property
    def count(self) -> int | None:
        """Number of different values; None when there is no end to them."""
        if self.step is not None:
            return _steps(self.low, self.high, self.step) + 1
        return 1 if self.low == self.high else None

    def at(self, place: int) -> float:
        """The value so many steps above low."""
        # In decimals, so that 0.1 + 2 x 0.1 is 0.3.
        return float(_exact(self.low) + place * _exact(self.step or 0.0))

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        if self.step is not None:
            return self.at(int(rng.integers(0, _steps(self.low, self.high, self.step) + 1)))
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = float(rng.uniform(self.low, self.high))
        return min(self.high, max(self.low, drawn))

    def plain(self, value: object) -> float:
        """A sampler's value as a plain float."""
        return float(value)  # type: ignore[arg-type]

    def to_optuna(self) -> FloatDistribution:
        """Its Optuna twin."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


class Integer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole number from low to high, both included, in steps."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __repr__(self) -> str:
        """As it is written in a space."""
        return f"{'lograndint' if self.log else 'randint'}({self.low}, {self.high})"

    @property
    def count(self) -> int:
        """Number of different values."""
        return (self.high - self.low) // self.step + 1

    def at(self, place: int) -> int:
        """The value so many steps above low."""
        return self.low + place * self.step

    def sample(self, rng: np.random.Generator) -> int:
        """Draw one value."""
        if not self.log:
            return self.at(int(rng.integers(0, self.count)))
        # Half a unit more at both ends, so that the ends get their share when rounded (as in Optuna).
        drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(self.high, max(self.low, round(drawn)))

    def plain(self, value: object) -> int:
        """A sampler's value as a plain int."""
        return int(value)  # type: ignore[call-overload, no-any-return]

    def to_optuna(self) -> IntDistribution:
        """Its Optuna twin."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log, step=self.step)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One of some options, each as likely."""

    options: tuple[Option, ...]

    def __repr__(self) -> str:
        """As it is written in a space."""
        return f"choice({list(self.options)!r})"

    @property
    def count(self) -> int:
        """Number of different values."""
        return len(self.options)

    def at(self, place: int) -> Option:
        """The option at a place."""
        return self.options[place]

    def sample(self, rng: np.random.Generator) -> Option:
        """Draw one value."""
        return self.at(int(rng.integers(0, len(self.options))))

    def plain(self, value: object) -> Option:
        """A sampler's value as the option that was given (1 and 1.0 are the same to a sampler)."""
        return self.options[self.options.index(value)]

    def to_optuna(self) -> CategoricalDistribution:
        """Its Optuna twin."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.options)


class Fixed(Choice, frozen=True, kw_only=True):
    """Its only option is a list or dict: a constant, which is no oversight."""


Domain: TypeAlias = Float | Integer | Choice


def uniform(low: float, high: float) -> Float:
    """A real number, each value from low to high as likely.

    Args:
        low: Least value, included.
        high: Greatest value, included (up to rounding: a single real number has no weight).

    Raises:
        TypeError: A bound is not a number.
        ValueError: A bound is NaN or infinite, or low is above high.
    """
    return checked_float("uniform", low, high)


def loguniform(low: float, high: float) -> Float:
    """A positive real number whose logarithm is uniform: for learning rates and other scales.

    Args:
        low: Least value, included, more than 0.
        high: Greatest value, included.

    Raises:
        TypeError: A bound is not a number.
        ValueError: A bound is NaN, infinite, 0 or negative, or low is above high.
    """
    return checked_float("loguniform", low, high, log=True)


def quniform(low: float, high: float, q: float) -> Float:
    """One of low, low + q, low + 2 q, ... up to high, each as likely.

    As in Optuna the grid begins at low (Ray Tune's and hyperopt's begins at 0: the same where low is a multiple of q).

    Args:
        low: Least value, included.
        high: Greatest value, included when it lies on the grid.
        q: Distance of two values, more than 0 and not more than high - low.

    Raises:
        TypeError: A bound or q is not a number.
        ValueError: As for ``uniform``, or q does not fit.
    """
    return checked_float("quniform", low, high, step=q)


def randint(low: int, high: int) -> Integer:
    """A whole number, each from low to high as likely.

    Both ends are included, as in Optuna's ``suggest_int``, Syne Tune and Python's ``random.randint``. (Ray Tune, numpy
    and ``scipy.stats.randint`` leave high out; a frozen ``scipy.stats.randint`` given in a space keeps its meaning.)

    Args:
        low: Least value, included.
        high: Greatest value, included.

    Raises:
        TypeError: A bound is not a whole number.
        ValueError: low is above high, or a bound is beyond 2**53.
    """
    return checked_integer("randint", low, high)


def lograndint(low: int, high: int) -> Integer:
    """A whole number from 1 on whose logarithm is uniform: for widths, batch sizes and other scales.

    Args:
        low: Least value, included, 1 or more.
        high: Greatest value, included.

    Raises:
        TypeError: A bound is not a whole number.
        ValueError: low is below 1 or above high, or a bound is beyond 2**53.
    """
    return checked_integer("lograndint", low, high, log=True)


def _alone(value: Any) -> Any:
    """A list or dict that is the only option."""
    with named(f"options={show([value])}"):
        return constant(value)


def choice(options: Iterable[Any]) -> Choice:
    """One of the options, each as likely.

    Args:
        options: A list (or another iterable, but not a str) of None, bool, int, finite float or str; numpy's scalars
            become plain ones. Options must differ: 1, 1.0 and True are the same to a sampler. A list, tuple or dict may
            be the only option, and is a constant then.

    Raises:
        TypeError: Not an iterable, or an option of another type.
        ValueError: No options, one given twice, or one that is NaN or infinite.
    """
    try:
        given = None if isinstance(options, str | bytes) else tuple(options)
    except TypeError:
        given = None
    if given is None:
        raise TypeError(f"options={show(options)} is not a list: write choice([32, 64])")
    if not given:
        raise ValueError(f"options={show(options)} is empty: choice takes at least one option")
    if len(given) == 1 and isinstance(given[0], list | tuple | dict):
        return Fixed(options=(_alone(given[0]),))
    chosen: list[Option] = []
    for value in given:
        option = _option(value)
        if option in chosen:
            raise ValueError(f"options={show(options)} holds {option!r} twice: give each option once")
        chosen.append(option)
    return Choice(options=tuple(chosen))


def checked_float(  # noqa: PLR0913 - the bounds, and what they are called where the user wrote them
    word: str, low: object, high: object, *, log: bool = False, step: object = None, name: str = "q"
) -> Float:
    """A Float from what a user gave; ``word`` and ``name`` are what the function and the step are called there."""
    least, most = _real(word, "low", low), _real(word, "high", high)
    _check_order(word, least, most)
    if log and least <= 0:
        raise ValueError(f"low={show(low)} has no logarithm: {word} takes bounds above 0")
    if not math.isfinite(most - least):
        raise ValueError(f"low={low!r} and high={high!r} are too far apart for a float to tell their distance")
    if step is None:
        return Float(low=least, high=most, log=log)
    size = _real(word, name, step)
    if size <= 0 or size > most - least:
        raise ValueError(
            f"{name}={show(step)} is not a step from low={low!r} to high={high!r}: give one above 0 that fits"
        )
    steps = _steps(least, most, size)
    if steps > MAX_INT:
        raise ValueError(f"{name}={show(step)} is too small a step from low={low!r} to high={high!r}: use uniform")
    # The last value that is on the grid, so that Optuna need not warn that it moves the bound.
    return Float(low=least, high=float(_exact(least) + steps * _exact(size)), step=size)


def checked_integer(word: str, low: object, high: object, *, log: bool = False, step: int = 1) -> Integer:
    """An Integer from what a user gave; ``word`` is what the function is called there."""
    least, most = _whole(word, "low", low), _whole(word, "high", high)
    _check_order(word, least, most)
    if log and least < 1:
        raise ValueError(f"low={show(low)} is below 1: {word} takes bounds from 1 on")
    return Integer(low=least, high=least + (most - least) // step * step, log=log, step=step)


def plain_scalar(value: object) -> object:
    """Scalars of numpy as Python's; anything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()  # type: ignore[attr-defined]
    return value


def is_option(value: object) -> TypeGuard[Option]:
    """Whether it can be one of several options: no list, dict or other object."""
    return value is None or isinstance(value, bool | int | float | str)


def storable(value: Option) -> bool:
    """Whether the journal can hold it: numbers must be finite, ints of at most 64 bits, and texts whole characters."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return not isinstance(value, float) or math.isfinite(value)


def _option(value: object) -> Option:
    value = plain_scalar(value)
    if is_option(value):
        if not storable(value):
            what = "text of whole characters" if isinstance(value, str) else "finite number of 64 bits"
            raise ValueError(f"option {show(value)} is not a {what}: choice takes no others")
        return value
    raise TypeError(
        f"option {show(value)} is of type {type(value).__name__}: choice takes None, bool, int, float or str; "
        "for objects, give names and look the objects up in train"
    )


def _real(word: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={show(value)} is not a number: {word} takes finite numbers")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name}={show(value)} is not finite: {word} takes finite numbers")
    return number


def _whole(word: str, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={show(value)} is not a whole number: {word} takes ints")
    if abs(int(value)) > MAX_INT:
        raise ValueError(f"{name}={show(value)} is beyond 2**53: {word} takes whole numbers that a float can hold")
    return int(value)


def _check_order(word: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"low={low!r} is above high={high!r}: write {word} with the lower bound first")


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))


def _steps(low: float, high: float, step: float) -> int:
    return int(((_exact(high) - _exact(low)) / _exact(step)).to_integral_value(rounding=ROUND_FLOOR))


KINDS = (
    "give uniform, loguniform, quniform, randint, lograndint or choice, an Optuna distribution, a frozen scipy.stats "
    "uniform, loguniform or randint, or a constant of None, bool, int, float, str, list and dict"
)


def constant(value: Any) -> Any:
    """A copy that JSON can hold and give back as it is; a tuple becomes a list.

    Raises:
        TypeError, ValueError: It cannot be stored.
    """
    value = plain_scalar(value)
    if is_option(value):
        if not storable(value):
            raise ValueError(
                "a constant text must be of whole characters"
                if isinstance(value, str)
                else "a constant number must be finite and of at most 64 bits"
            )
        return value
    if isinstance(value, list | tuple):
        return [constant(item) for item in value]
    if isinstance(value, dict):
        if not all(storable(key) for key in value if isinstance(key, str)):
            raise ValueError("the names in a constant dict must be of whole characters")
        if all(isinstance(key, str) for key in value):
            return {key: constant(item) for key, item in value.items()}
        raise TypeError("the names in a constant dict must be str")
    if isinstance(value, Domain):
        raise TypeError("a list or dict is a constant and cannot hold what is searched; give that a name of its own")
    raise TypeError(f"a {type(value).__name__} can be neither searched nor stored; {KINDS}")


@contextmanager
def named(argument: str) -> Iterator[None]:
    """What is wrong with a value is told with the argument that it was given for."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{argument}: a constant must not be nested so deeply") from None
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument}: {error}") from None
