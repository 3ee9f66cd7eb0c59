"""Checks that arguments share: one sentence with the name, the value and what is allowed."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import operator
from numbers import Real
from typing import TYPE_CHECKING, Any, ParamSpec

from seer_nb._utils.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping


def whole(value: Any, name: str, least: int = 1, most: int | None = None, *, what: str = "") -> int:
    """A whole number, of Python, numpy or torch.

    Args:
        value: What was given; True and False are none.
        name: Of the argument.
        least: Least that is allowed.
        most: Greatest that is allowed; None: no bound.
        what: What it would be, such as "a number of epochs"; empty: a whole number.

    Raises:
        TypeError: It is none.
        ValueError: It is less, or more.
    """
    allowed = f"give a whole number from {least} {'on' if most is None else f'to {most}'}"
    number = _index(value)
    if number is None:
        raise TypeError(f"{name}={show(value)} is not {what or 'a whole number'}: {allowed}")
    if number < least or (most is not None and number > most):
        bad = f"is not {what}" if what else f"is too {'small' if number < least else 'large'}"
        raise ValueError(f"{name}={show(value)} {bad}: {allowed}")
    return number


def real(value: Any, name: str, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number within bounds.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN or infinite, or out of bounds.
    """
    allowed = _allowed(above, least, most)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={show(value)} is not a number: give {allowed}")
    number = float(value)
    if not math.isfinite(number) or not (above < number and least <= number <= most):
        raise ValueError(f"{name}={show(value)} is out of bounds: give {allowed}")
    return number


def one_of(value: Any, name: str, options: Collection[str]) -> str:
    """One of some words.

    Raises:
        ValueError: It is another one.
    """
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}={show(value)} is unknown: give one of {', '.join(map(repr, options))}")
    return value


def _index(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError):  # ValueError: torch, of a tensor with more than one value
        return None


def _allowed(above: float, least: float, most: float) -> str:
    words = []
    if above > -math.inf:
        words.append(f"more than {above:g}")
    if least > -math.inf:
        words.append(f"at least {least:g}")
    if most < math.inf:
        words.append(f"at most {most:g}")
    return f"a finite number, {' and '.join(words)}" if words else "a finite number"


CUTOFF = 0.6
"""How much of a word must be alike."""


def alike(word: str, known: Iterable[str], most: int = 1, cutoff: float = CUTOFF) -> list[str]:
    """Those of the known words that are written nearly so, in large or small letters, the nearest first."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, most, cutoff=cutoff)]


def did_you_mean(word: str, known: Iterable[str], mark: str = "'") -> str:
    """For a sentence that has just named the word; empty if none is written nearly so."""
    return "".join(f" (did you mean {mark}{name}{mark}?)" for name in alike(word, known))


P = ParamSpec("P")


def refuses_unknown(hints: Mapping[str, str] | None = None) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Decorate an ``__init__``: a keyword that it does not have is a TypeError with the arguments that it has.

    Args:
        hints: What to do instead of giving a keyword that others have, by that keyword.
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        _, *known = inspect.signature(init).parameters  # after self

        @functools.wraps(init)
        def checked(*args: P.args, **kwargs: P.kwargs) -> None:
            for name, value in kwargs.items():
                if name not in known:
                    raise TypeError(_sentence(type(args[0]).__name__, name, value, known, hints or {}))
            init(*args, **kwargs)

        return checked

    return decorate


def _sentence(kind: str, name: str, value: object, known: list[str], hints: Mapping[str, str]) -> str:
    said = f"{kind}({name}={show(value)}): there is no such argument"
    if name in hints:
        return f"{said}; {hints[name]}"
    return f"{said}{did_you_mean(name, known)}; it takes {', '.join(known)}"
