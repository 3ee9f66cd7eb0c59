"""Checks of arguments. Error messages name the argument, its value and what is allowed."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import operator
import sys
import warnings
from numbers import Real
from typing import TYPE_CHECKING, Any, ParamSpec

from seer_nb._utils.text import short_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

P = ParamSpec("P")


def check_integer(value: Any, name: str, at_least: int = 1, at_most: int | None = None, *, what: str = "") -> int:
    """Return an integer argument as an int, after checking its bounds.

    Args:
        value: An integer of Python, numpy or torch; booleans are rejected.
        name: Name of the argument.
        at_least: Least allowed value.
        at_most: Largest allowed value; None: no bound.
        what: The quantity, such as "a number of epochs"; empty: "an integer".

    Raises:
        TypeError: The value is not an integer.
        ValueError: The value is out of bounds.
    """
    expected = f"expected an integer {f'>= {at_least}' if at_most is None else f'from {at_least} to {at_most}'}"
    number = _index(value)
    if number is None:
        raise TypeError(f"{name}={short_repr(value)}: not {what or 'an integer'}; {expected}")
    if number < at_least or (at_most is not None and number > at_most):
        bad = f"not {what}" if what else f"too {'small' if number < at_least else 'large'}"
        raise ValueError(f"{name}={short_repr(value)}: {bad}; {expected}")
    return number


def check_number(
    value: Any, name: str, *, greater_than: float = -math.inf, at_least: float = -math.inf, at_most: float = math.inf
) -> float:
    """Return a numeric argument as a float, after checking that it is finite and within bounds.

    Args:
        value: A real number; booleans are rejected.
        name: Name of the argument.
        greater_than: Exclusive lower bound.
        at_least: Least allowed value.
        at_most: Largest allowed value.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is NaN, infinite or out of bounds.
    """
    expected = _expected(greater_than, at_least, at_most)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={short_repr(value)}: not a number; {expected}")
    number = float(value)
    if not math.isfinite(number) or not (greater_than < number and at_least <= number <= at_most):
        raise ValueError(f"{name}={short_repr(value)}: out of range; {expected}")
    return number


def check_choice(value: Any, name: str, options: Collection[str]) -> str:
    """Return a text argument, after checking that it is one of the options.

    Raises:
        ValueError: The value is not one of the options.
    """
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}={short_repr(value)}: unknown; expected one of {', '.join(map(repr, options))}")
    return value


def _index(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError):  # torch raises ValueError for a tensor with several values
        return None


def _expected(above: float, least: float, most: float) -> str:
    bounds = []
    if above > -math.inf:
        bounds.append(f"> {above:g}")
    if least > -math.inf:
        bounds.append(f">= {least:g}")
    if most < math.inf:
        bounds.append(f"<= {most:g}")
    return f"expected a finite number {' and '.join(bounds)}".rstrip()


def similar_words(word: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the known words that are spelled similarly, ignoring case, the most similar first.

    Args:
        word: The word to look up.
        known: The known words.
        most: Most words to return.
        cutoff: Least similarity from 0 to 1, as in `difflib.get_close_matches`.
    """
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, most, cutoff=cutoff)]


def did_you_mean(word: str, known: Iterable[str], mark: str = "'") -> str:
    """Return " (did you mean ...?)" to append to a message that names the word; empty if no known word is similar."""
    return "".join(f" (did you mean {mark}{name}{mark}?)" for name in similar_words(word, known))


def reject_unknown_arguments(
    hints: Mapping[str, str] | None = None,
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Return a decorator for `__init__` that raises TypeError for an unknown keyword and names the known ones.

    Args:
        hints: Advice for keywords that similar libraries have, by keyword.
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        _, *known = inspect.signature(init).parameters  # without self

        @functools.wraps(init)
        def checked(*args: P.args, **kwargs: P.kwargs) -> None:
            for name, value in kwargs.items():
                if name not in known:
                    raise TypeError(_unknown_argument(type(args[0]).__name__, name, value, known, hints or {}))
            init(*args, **kwargs)

        return checked

    return decorate


def _unknown_argument(kind: str, name: str, value: object, known: list[str], hints: Mapping[str, str]) -> str:
    problem = f"{kind}({name}={short_repr(value)}): unknown argument"
    if name in hints:
        return f"{problem}; {hints[name]}"
    return f"{problem}{did_you_mean(name, known)}; expected {', '.join(known)}"


def warn(message: str) -> None:
    """Issue a UserWarning that points at the user's line, wherever in seer_nb it is issued."""
    level, frame = 1, sys._getframe().f_back  # noqa: SLF001 - as the warnings module itself does
    while frame is not None:
        level += 1
        if str(frame.f_globals.get("__name__")).partition(".")[0] != "seer_nb":
            break
        frame = frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
