"""Checks that arguments of several providers share."""

from __future__ import annotations

import ipaddress
from typing import Any

from seer_nb.core.units import show


def text(value: Any, name: str) -> str:
    """A text that says something.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name}={show(value)} is not text: give it as the cloud writes it")
    return value


def texts(value: Any, name: str) -> tuple[str, ...]:
    """One text, or several in a list.

    Raises:
        TypeError: It is neither.
    """
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else None
    if found is None or not all(isinstance(one, str) and one for one in found):
        raise TypeError(f"{name}={show(value)} is not text: give a name, or a list of names")
    return found


def network(value: Any, name: str) -> str:
    """A network of IPv4 addresses, as clouds write it.

    Raises:
        ValueError: It is none.
    """
    try:
        return str(ipaddress.IPv4Network(value if isinstance(value, str) else "", strict=False))
    except ValueError:
        raise ValueError(f'{name}={show(value)} is no network: give one such as "203.0.113.7/32"') from None
