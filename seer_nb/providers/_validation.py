"""Checks that arguments of several providers share."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from seer_nb._utils.text import show

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_CARRIED_BY_NONE = re.compile(r"[\0\ud800-\udfff]")


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


def image_name(value: Any, name: str) -> str | None:
    """A Docker image's name, or None for the usual one. It becomes part of a machine's command line.

    Raises:
        ValueError: It is none.
    """
    if value is not None and not (isinstance(value, str) and _IMAGE.fullmatch(value)):
        raise ValueError(f'{name}={show(value)} is no name of an image: give one such as "ghcr.io/dask/dask:2025.9.0"')
    return value


def variables(value: Any, name: str) -> dict[str, str]:
    """Environment variables by their names. What they hold may be secret, and is not told.

    Raises:
        TypeError: They are none.
        ValueError: One has no name that every shell takes, or holds what no environment can.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f'{name}={show(value)} is not a mapping: give texts by their names, such as {{"DEBUG": "1"}}')
    for variable, content in value.items():
        if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
            raise ValueError(
                f"{name} has the name {show(variable)}: give ASCII letters, digits and underscores, no digit first"
            )
        if not isinstance(content, str):
            raise TypeError(f'{name}[{show(variable)}]={show(content)} is not text: give text such as "1"')
        if _CARRIED_BY_NONE.search(content):
            raise ValueError(
                f"{name}[{show(variable)}] holds a NUL or half a surrogate pair, which no environment variable can: "
                "give a text without"
            )
    return dict(value)
