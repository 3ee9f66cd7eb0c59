"""Finds what cannot be pickled within an object, and says where: "the attribute 'lock' of the global 'model'"."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 8
"""So many steps are followed from the object that was given."""
_OWN_BUSINESS = frozenset({"__builtins__", "__dict__", "__weakref__", "_abc_impl"})
"""Attributes that pickling does without."""


def find(given: Any) -> str:
    """Where the innermost object that cannot be pickled lies, the first if there are several, and its type."""
    value, path, seen = given, list[str](), {id(given)}
    while len(path) < DEEPEST:
        parts = ((name, part) for name, part in _parts(value) if id(part) not in seen)
        name, value = next(((name, part) for name, part in parts if not _picklable(part)), ("", value))
        if not name:
            break
        seen.add(id(value))
        path.insert(0, name)
    kind = type(value)
    named = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{' of '.join(path) or 'an object'}, of type {named},"


def _picklable(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # noqa: BLE001 - pickling runs the object's own code
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object drags along when it is pickled by value, and what to call it."""
    if isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield "its object", value.__self__
        yield "its function", value.__func__
    elif isinstance(value, functools.partial):
        yield "its function", value.func
        yield from ((f"the argument {place}", part) for place, part in enumerate(value.args))
        yield from ((f"the argument {name!r}", part) for name, part in value.keywords.items())
    elif isinstance(value, dict):
        yield from ((f"the item {key!r}", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"the item {place}", part) for place, part in enumerate(value))
    else:
        yield from _attributes(value)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    held = dict(getattr(value, "__dict__", {}))
    yield from ((f"the attribute {name!r}", part) for name, part in held.items() if name not in _OWN_BUSINESS)


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    names = dict.fromkeys(_global_names(function.__code__))
    yield from ((f"the global {name!r}", function.__globals__[name]) for name in names if name in function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the closure variable {name!r}", cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    for name, parameter in inspect.signature(function, follow_wrapped=False).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            yield f"the default of {name!r}", parameter.default
    yield from _attributes(function)


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Names of the globals that a function uses, itself or in inner functions."""
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)
