"""Submodules that are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def import_submodule(package: str, name: str) -> ModuleType:
    """Import a public submodule; for a package's ``__getattr__``.

    Args:
        package: Full name of the package.
        name: Name of the submodule within it.

    Raises:
        AttributeError: The package has no public submodule of this name.
    """
    full = f"{package}.{name}"
    try:
        if not name.startswith("_"):
            return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:  # the submodule exists, but a library that it needs does not
            raise
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
