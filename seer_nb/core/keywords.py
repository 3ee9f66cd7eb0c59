"""Arguments that a class does not have: its user reads its own name and arguments, not those of a class within."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, ParamSpec

from seer_nb.core.near import did_you_mean
from seer_nb.core.units import show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
