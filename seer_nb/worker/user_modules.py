"""The user's own modules on a worker: plain pickle finds there the classes and functions that were sent by value."""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


LONGEST = 1_000
"""Items of the largest container that is searched for functions and classes."""
_registered: dict[str, list[str]] = {}
"""Names that the last loaded function has added, by module."""


class UserModule(types.ModuleType):
    """Stands for a module whose objects were sent by value; names that were not sent come from its file, if it is here.

    Args:
        name: Full name of the module.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = _find_spec(name)
        self.__path__ = list((self.__spec__ and self.__spec__.submodule_search_locations) or ())

    def __getattr__(self, name: str) -> Any:
        spec = self.__dict__["__spec__"]
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if "__real__" not in vars(self):
            self.__real__ = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self.__real__)
        return getattr(self.__real__, name)


def load_function(pickled: bytes) -> Callable[..., Any]:
    """Unpickle the training function, and register what it uses by value in the modules that define it.

    The modules of a function that was loaded before are removed.
    """
    for name, names in _registered.items():
        if isinstance(sys.modules.get(name), UserModule):
            del sys.modules[name]
        elif name in sys.modules:
            for each in names:
                vars(sys.modules[name]).pop(each, None)
    _registered.clear()
    function: Callable[..., Any] = cloudpickle.loads(pickled)
    found: dict[str, dict[str, Any]] = {}
    for value in _sent_by_value(function):
        held = found.setdefault(value.__module__, {})
        if isinstance(value, types.FunctionType):
            held.update({name: each for name, each in value.__globals__.items() if not name.startswith("__")})
        if value.__qualname__.isidentifier():
            held[value.__qualname__] = value
    for name, held in found.items():
        _register(name, held)
    return function


def _register(name: str, names: dict[str, Any]) -> None:
    """Create a module unless it is `__main__`, with the packages that contain it."""
    parent, _, last = name.rpartition(".")
    if parent and parent not in sys.modules:
        _register(parent, {})
    if name != "__main__" and not isinstance(sys.modules.get(name), UserModule):
        sys.modules[name] = UserModule(name)
    if parent:
        setattr(sys.modules[parent], last, sys.modules[name])
    vars(sys.modules[name]).update(names)
    _registered[name] = [*_registered.get(name, ()), *names]


def _sent_by_value(function: Any) -> Iterator[types.FunctionType | type]:
    """Yield the functions and classes that a function uses and that are not those of an imported module."""
    left, seen = [function], dict[int, Any]()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, types.FunctionType | type):
            if _is_imported(value):
                continue
            yield value
        left += _parts(value)


def _is_imported(value: types.FunctionType | type) -> bool:
    module = sys.modules.get(value.__module__)
    if isinstance(value, types.FunctionType) and module is not None and value.__globals__ is vars(module):
        return True
    held: Any = module
    for name in value.__qualname__.split("."):
        held = vars(held).get(name) if hasattr(held, "__dict__") else None
    return held is value


def _parts(value: Any) -> list[Any]:
    """Return the objects within an object that may be functions and classes, or hold some."""
    match value:
        case types.FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
            found = [*value.__globals__.values(), *cells, *(value.__defaults__ or ()), *vars(value).values()]
        case type():
            found = [*vars(value).values(), *value.__mro__]
        case types.ModuleType():
            found = [] if sys.modules.get(value.__name__) is value else [*vars(value).values()]
        case staticmethod() | classmethod():
            found = [value.__func__]
        case property():
            found = [value.fget, value.fset]
        case types.MethodType():
            found = [value.__func__, value.__self__]
        case functools.partial():
            found = [value.func, *value.args, *value.keywords.values()]
        case dict():
            found = [*value.values()] if len(value) <= LONGEST else []
        case list() | tuple() | set() | frozenset():
            found = [*value] if len(value) <= LONGEST else []
        case _:
            own = type(value)
            found = [] if own.__module__ == "builtins" or _is_imported(own) else [own, *_attributes(value)]
    return found


def _attributes(value: Any) -> Iterator[Any]:
    yield from getattr(value, "__dict__", {}).values()


def _find_spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
