"""Pickle functions and objects by value, for machines on which seer_nb is not installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable


class ByValue:
    """A callable that wraps a function and pickles the function's whole module by value.

    Args:
        function: The function to wrap.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._pickled = pickle_by_value(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return cloudpickle.loads, (self._pickled,)


def pickle_by_value(what: Any) -> bytes:
    """Pickle a function or an object so that it can be unpickled where its module is not installed."""
    module = sys.modules[getattr(what, "__module__", None) or type(what).__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(what))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
