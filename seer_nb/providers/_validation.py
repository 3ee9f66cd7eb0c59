"""Checks of arguments that several providers share."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from seer_nb._utils.text import short_repr

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_NOT_IN_ENVIRONMENT = re.compile(r"[\0\ud800-\udfff]")


def text(value: Any, name: str) -> str:
    """Return a non-empty string.

    Raises:
        TypeError: The value is something else.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name}={short_repr(value)}: not text; expected a name or id as the cloud writes it")
    return value


def texts(value: Any, name: str) -> tuple[str, ...]:
    """Return one string, or a list of strings, as a tuple.

    Raises:
        TypeError: The value is something else.
    """
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else None
    if found is None or not all(isinstance(one, str) and one for one in found):
        raise TypeError(f"{name}={short_repr(value)}: not text; expected a name, or a list of names")
    return found


def network(value: Any, name: str) -> str:
    """Return an IPv4 network in CIDR notation.

    Raises:
        ValueError: The value is not an IPv4 address or network.
    """
    try:
        return str(ipaddress.IPv4Network(value if isinstance(value, str) else "", strict=False))
    except ValueError:
        raise ValueError(
            f'{name}={short_repr(value)}: not an IPv4 network; expected CIDR notation such as "203.0.113.7/32"'
        ) from None


def image_name(value: Any, name: str) -> str | None:
    """Return the name of a Docker image, or None for the default image.

    The name becomes part of a machine's command line, so nothing else is accepted.

    Raises:
        ValueError: The value is not an image name.
    """
    if value is not None and not (isinstance(value, str) and _IMAGE.fullmatch(value)):
        raise ValueError(
            f"{name}={short_repr(value)}: not the name of a Docker image; "
            'expected one such as "ghcr.io/dask/dask:2025.9.0"'
        )
    return value


def variables(value: Any, name: str) -> dict[str, str]:
    """Return environment variables by name; no message shows their values, which may be secret.

    Raises:
        TypeError: The value is not a mapping of names to strings.
        ValueError: A name is not portable among shells, or a value cannot be put into an environment.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(
            f'{name}={short_repr(value)}: not a mapping; expected strings by variable name, such as {{"DEBUG": "1"}}'
        )
    for variable, content in value.items():
        if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
            raise ValueError(
                f"{name}: {short_repr(variable)} is not a variable name; expected ASCII "
                "letters, digits and underscores, "
                "no digit first"
            )
        if not isinstance(content, str):
            raise TypeError(
                f'{name}[{short_repr(variable)}]={short_repr(content)}: not text; expected a string such as "1"'
            )
        if _NOT_IN_ENVIRONMENT.search(content):
            raise ValueError(
                f"{name}[{short_repr(variable)}]: contains NUL or a lone surrogate; expected text that an environment "
                "variable can hold"
            )
    return dict(value)
