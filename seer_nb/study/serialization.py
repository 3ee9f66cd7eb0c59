"""Pickling of the training function for the workers, by value; errors name the object that cannot be pickled."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import io
import linecache
import os
import pickle
import sys
import sysconfig
import types
from collections import ChainMap
from typing import TYPE_CHECKING, Any

import cloudpickle

from seer_nb._utils import files
from seer_nb._utils.text import short_repr
from seer_nb.search_space import ConfigSampler
from seer_nb.storage import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


MAX_DEPTH = 8
"""Number of references that `find_unpicklable` follows from the given object."""
_IGNORED = frozenset({"__builtins__", "__dict__", "__weakref__", "_abc_impl"})
"""Attributes that pickling skips."""


def find_unpicklable(given: Any) -> str:
    """Return the location and type of the innermost object that cannot be pickled, as part of a sentence."""
    value, path, seen = given, list[str](), {id(given)}
    while len(path) < MAX_DEPTH:
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
    """Yield name and value of what is pickled together with an object."""
    if isinstance(value, types.FunctionType):
        yield from _function_parts(value)
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
    yield from ((f"the attribute {name!r}", part) for name, part in held.items() if name not in _IGNORED)


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    names = dict.fromkeys(_global_names(function.__code__))
    yield from ((f"the global {name!r}", function.__globals__[name]) for name in names if name in function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the closure variable {name!r}", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    for name, parameter in inspect.signature(function, follow_wrapped=False).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            yield f"the default of {name!r}", parameter.default
    yield from _attributes(function)


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Yield the names of the globals that a function and its inner functions use."""
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


MAX_SOURCE = 1_000_000
"""Maximum number of characters of a source file that is sent with the function."""


def check(function: Callable[..., Any]) -> None:
    """Raise TypeError if an object cannot be a training function."""
    if not callable(function):
        raise TypeError(f"train={short_repr(function)} is not a function: give a function of (config, run)")
    name = _name(function)
    if isinstance(function, type):
        raise TypeError(f"train={name} is a class: give a function, or an instance with __call__(config, run)")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise TypeError(f"train={name} has no readable signature: give a Python function of (config, run)") from None
    try:
        signature.bind("config", "run")
    except TypeError:
        raise TypeError(
            f"train={name}{_cut(str(signature))} cannot be called as train(config, run): give it these two parameters"
        ) from None
    first, second, *_ = [*signature.parameters, "", ""]
    if first == "run" or second == "config":
        raise TypeError(
            f"train={name}{_cut(str(signature))} has its parameters in the wrong order: write {name}(config, run)"
        )
    for is_kind, kind in _DEFERRED:
        if is_kind(_called(function)):
            raise TypeError(
                f"train={name} is {kind}, which does not run when it is called: give a plain function of (config, run)"
            )


def dumps(function: Callable[..., Any]) -> bytes:
    """Pickle a function with the user's own modules by value, so that workers do not need their files.

    The source text is included for tracebacks in the results.

    Raises:
        ValueError: The function uses an object that cannot be pickled; the message names it.
    """
    with _by_value():
        try:
            pickled, files = _pickle(function)
        except Exception as error:
            raise ValueError(
                f"train={_name(function)} cannot be sent to the workers: it uses {find_unpicklable(function)} "
                f"which cannot be pickled ({error}); create it inside the function instead"
            ) from error
    return pickle.dumps(_Shipped(pickled, _sources(files)))


def replace_sampler(folder: Path, sampler: Any) -> None:
    """Replace the sampler of a study that no runner drives.

    Args:
        folder: The study's folder.
        sampler: An Optuna sampler.

    Raises:
        TypeError, ValueError: The sampler does not fit the study's space, or cannot be pickled.
    """
    parts = layout.read_parts(folder)
    ConfigSampler(parts["space"], sampler)  # raises if the sampler does not fit the space
    files.write_atomically(folder / layout.PARTS, dumps_parts(**{**parts, "sampler": sampler}), private=True)
    layout.sign(folder)


def dumps_parts(**parts: Any) -> bytes:
    """Pickle objects for the runner, with the user's own modules by value.

    Raises:
        ValueError: An object cannot be pickled; the message names it and the part that cannot.
    """
    with _by_value():
        for name, part in parts.items():
            try:
                _pickle(part)
            except Exception as error:
                raise ValueError(
                    f"{name}={short_repr(part)} cannot be sent to the runner: it holds {find_unpicklable(part)} "
                    f"which cannot be pickled ({error})"
                ) from error
        return _pickle(parts)[0]


def restore(pickled: bytes, sources: dict[str, str]) -> Any:
    """Unpickle a function, and cache its source so that tracebacks show lines of files that are not on this machine.

    Args:
        pickled: The function, pickled.
        sources: Source text by file name.
    """
    for name, text in sources.items():
        # No modification time: linecache must not check for a newer file.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    return cloudpickle.loads(pickled)


class _Shipped:
    """A wrapper that unpickles as the function in it."""

    def __init__(self, pickled: bytes, sources: dict[str, str]) -> None:
        self._parts = pickled, sources

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, dict[str, str]]]:
        return restore, self._parts


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no annotations
    """A cloudpickle pickler that keeps the file names of code objects, which cloudpickle removes, and collects them."""

    def __init__(self, file: io.BytesIO) -> None:
        self.files: set[str] = set()
        self.dispatch_table = ChainMap({types.CodeType: self._code}, cloudpickle.Pickler.dispatch_table)
        super().__init__(file)

    def _code(self, code: types.CodeType) -> tuple[Any, ...]:
        self.files.add(code.co_filename)
        make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
        return make, tuple(code.co_filename if each == "<dynamic-code>" else each for each in arguments)


def _pickle(value: Any) -> tuple[bytes, set[str]]:
    """Return the pickle, and the source files of the code in it."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(value)
    return buffer.getvalue(), pickler.files


def _sources(files: set[str]) -> dict[str, str]:
    """Return the text of the user's own files and notebook cells by name."""
    installed = _installed()
    texts = {name: "".join(linecache.getlines(name)) for name in sorted(files) if not name.startswith(installed)}
    return {name: text for name, text in texts.items() if 0 < len(text) <= MAX_SOURCE}


@contextlib.contextmanager
def _by_value() -> Iterator[None]:
    registered, installed = cloudpickle.list_registry_pickle_by_value(), _installed()
    modules = [module for module in list(sys.modules.values()) if _is_users(module, installed)]
    modules = [module for module in modules if module.__name__ not in registered]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_users(module: Any, installed: tuple[str, ...]) -> bool:
    """Return whether a module is the user's own file rather than an installed package or part of Python."""
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", None)
    if not isinstance(module, types.ModuleType) or not file or not name or name == "__main__":
        return False
    # cloudpickle finds registered modules by name.
    if sys.modules.get(name) is not module or name.partition(".")[0] == "seer_nb":
        return False
    return not str(file).startswith(installed)


def _installed() -> tuple[str, ...]:
    """Return path prefixes of Python's own files and installed packages."""
    paths = {
        value for key, value in sysconfig.get_paths().items() if key in {"stdlib", "platstdlib", "purelib", "platlib"}
    }
    found = filter(None, sys.path)
    paths |= {path for path in found if path.endswith(("site-packages", "dist-packages")) or _is_target(path)}
    return tuple(os.path.join(path, "") for path in paths)  # noqa: PTH118 - adds the slash at the end


def _is_target(path: str) -> bool:
    """Return whether packages were installed into this folder, as by ``pip install --target``."""
    try:
        with os.scandir(path) as entries:
            return any(entry.name.endswith(".dist-info") for entry in entries)
    except OSError:
        return False


# --- inspection of the function ---

_DEFERRED: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (inspect.isgeneratorfunction, "a generator function (it has a yield)"),
    (inspect.iscoroutinefunction, "a coroutine function (async def)"),
    (inspect.isasyncgenfunction, "an asynchronous generator function"),
)


def _called(function: Any) -> Any:
    """Return the function behind a partial or an object with __call__."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, types.FunctionType | types.MethodType):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 - the object is callable; this is the method itself


def _name(function: Any) -> str:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else short_repr(function)


def _cut(text: str, longest: int = 80) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
