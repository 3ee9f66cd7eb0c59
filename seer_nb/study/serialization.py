"""Pickling of the training function for the workers; errors name the object that cannot be pickled."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import linecache
import os
import pickle
import subprocess
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from seer_nb._utils import files
from seer_nb._utils.text import one_line, short_repr
from seer_nb.search_space import ConfigSampler
from seer_nb.storage import layout
from seer_nb.study import local_modules
from seer_nb.study.pickling import Pickled, is_users_class, pickle_with_needs, pickled_size
from seer_nb.worker.function import Shipment, ShippedFunction, installed_folders, join, with_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MAX_DEPTH = 8
"""Number of references that `find_unpicklable` follows from the given object."""
_IGNORED = frozenset({"__builtins__", "__dict__", "__weakref__", "_abc_impl"})
"""Attributes that pickling skips."""


def find_unpicklable(given: Any) -> tuple[str, str]:
    """Return the location and type of the innermost object that cannot be pickled, and its name."""
    path, value = _innermost(given, lambda part: pickled_size(part) is None)
    # The name in "the global 'lock'"; an item or attribute has none of its own.
    variable = path[0] if path and path[0].startswith(("the global", "the closure variable")) else "it"
    return _location(path, value), variable


def _innermost(
    given: Any, is_meant: Callable[[Any], bool], is_whole: Callable[[Any], bool] = lambda _: False
) -> tuple[list[str], Any]:
    """Return the innermost object of a kind in an object, and the path to it, innermost first.

    Args:
        given: The object.
        is_meant: Whether an object is of the kind.
        is_whole: Whether the parts of an object are left out.
    """
    value, path, seen = given, list[str](), {id(given)}
    while len(path) < MAX_DEPTH and not is_whole(value):
        parts = ((name, part) for name, part in _parts(value) if id(part) not in seen)
        name, value = next(((name, part) for name, part in parts if is_meant(part)), ("", value))
        if not name:
            break
        seen.add(id(value))
        path.insert(0, name)
    return path, value


def _location(path: list[str], value: Any) -> str:
    kind = type(value)
    named = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{' of '.join(path) or 'an object'}, of type {named},"


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
        # The signature of what is called, not of the function that a decorator wraps.
        signature = inspect.signature(function, follow_wrapped=False)
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


class Shipped(NamedTuple):
    """A function for the workers."""

    pickled: bytes
    objects: list[pickle.PickleBuffer]
    """Large arrays and tensors, which are the user's own until they are written to a file; empty if ``pickled`` holds
    them."""

    def write(self, folder: Path) -> None:
        """Write the function into its study's folder."""
        files.write_atomically(folder / layout.FUNCTION, self.pickled, private=True)
        if self.objects:
            files.write_atomically(folder / layout.OBJECTS, join(self.objects), private=True)


LARGE_BYTES = 50_000_000
"""Size from which on a function is warned of."""


def ship(function: Callable[..., Any], *, shared: bool = True) -> Shipped:
    """Pickle a function for the workers, together with the user's modules that it uses.

    What is defined in a notebook or script is pickled by value. Modules are sent as files, and imported by the workers.
    The source text is included for tracebacks in the results.

    Args:
        function: The training function.
        shared: Whether workers see this machine's files.

    Raises:
        ValueError: The function uses an object that cannot be pickled, or a module that cannot be sent; the message
            names it.
    """
    objects: list[pickle.PickleBuffer] = []
    with _by_value(local_modules.can_send):
        try:
            pickled = pickle_with_needs(function, objects)
        except Exception as error:
            where, variable = find_unpicklable(function)
            raise ValueError(
                f"train={_name(function)} cannot be sent to the workers: it uses {where} which cannot be pickled "
                f"({error}); create {variable} inside the function, or in a .py file that it imports"
            ) from error
        size = len(pickled.content) + sum(buffer.raw().nbytes for buffer in objects)
        if size >= LARGE_BYTES:
            _warn_of_size(function, size)
    try:
        modules = local_modules.collect(pickled.modules, shared=shared)
    except ValueError as error:
        raise ValueError(f"train={_name(function)} cannot be sent to the workers: {error}") from error
    shipment = Shipment(
        pickled=pickled.content,
        sources=_sources(pickled.files),
        modules=modules,
        paths=local_modules.own_paths() if shared else [],
        sizes=[buffer.raw().nbytes for buffer in objects],
        objects=b"" if size >= LARGE_BYTES else b"".join(join(objects)),
    )
    shipped = Shipped(pickle.dumps(ShippedFunction(shipment)), objects if size >= LARGE_BYTES else [])
    if pickled.hooked or local_modules.hides_installed(modules):
        with _without_values(shipped) as content:
            _check_loads(pickled._replace(content=content), f"train={_name(function)} cannot be sent to the workers")
    return shipped


@contextlib.contextmanager
def _without_values(shipped: Shipped) -> Iterator[bytes]:
    """Yield a pickled function whose large objects are full of zeros, which take no space on the disk."""
    if not shipped.objects:
        yield shipped.pickled
        return
    with tempfile.NamedTemporaryFile(prefix="seer_nb-") as zeros:
        zeros.truncate(sum(len(part) for part in join(shipped.objects)))
        yield with_objects(shipped.pickled, zeros.name)


def _warn_of_size(function: Callable[..., Any], size: int) -> None:
    path, value = _innermost(function, lambda part: (pickled_size(part) or 0) >= LARGE_BYTES, _is_of_library)
    uses = f"{_location(path, value)} of {(pickled_size(value) or 0) / 2**20:.0f} MiB" if path else "many objects"
    warnings.warn(
        f"train={_name(function)} sends {size / 2**20:.0f} MiB to the workers: it uses {uses}; load such data inside "
        "the function instead, from a file or a store, and do not change it before start()",
        stacklevel=5,
    )


def _is_of_library(value: Any) -> bool:
    """Return whether an object's class comes from an installed package: its parts would mean nothing to a user."""
    kinds = (types.FunctionType, types.MethodType, functools.partial, dict, list, tuple, set, frozenset)
    return not isinstance(value, kinds) and not is_users_class(type(value))


LOAD_TIMEOUT_S = 60.0
"""Seconds after which a new process is ended, and what it loads is left unchecked."""
_LOAD = """
import pathlib, sys, tempfile, traceback
import cloudpickle, distributed
from seer_nb.worker import function
with tempfile.TemporaryDirectory() as folder:
    function.worker_folder = pathlib.Path(folder)
    try:
        cloudpickle.loads(sys.stdin.buffer.read())
    except BaseException as error:
        sys.exit(traceback.format_exception_only(error)[-1].strip())
"""


def _check_loads(pickled: Pickled, refusal: str) -> None:
    """Load a pickle in a new process, as workers and the runner do.

    A new process takes seconds, so this is only done for pickles that may fail: with classes whose code runs when they
    are unpickled, or modules that have the name of an installed one.

    Args:
        pickled: The pickle.
        refusal: Start of the error's message.

    Raises:
        ValueError: The pickle cannot be loaded.
    """
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-P", "-c", _LOAD]
    try:
        done = subprocess.run(
            command, input=pickled.content, env=environment, capture_output=True, timeout=LOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return
    if done.returncode:
        error = one_line(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
        advice = (
            f"; it uses {', '.join(sorted(pickled.hooked))}: define classes with such methods in a .py file that the "
            "notebook imports"
        )
        raise ValueError(f"{refusal}: a new process cannot load it ({error}){advice if pickled.hooked else ''}")


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
    with _by_value(lambda _: False):
        for name, part in parts.items():
            try:
                pickled = pickle_with_needs(part)
            except Exception as error:
                raise ValueError(
                    f"{name}={short_repr(part)} cannot be sent to the runner: it holds {find_unpicklable(part)[0]} "
                    f"which cannot be pickled ({error})"
                ) from error
            if pickled.hooked:
                _check_loads(pickled, f"{name}={short_repr(part)} cannot be sent to the runner")
        return pickle_with_needs(parts).content


def _sources(files: set[str]) -> dict[str, str]:
    """Return the text of the user's own files and notebook cells by name."""
    installed = installed_folders()
    texts = {name: "".join(linecache.getlines(name)) for name in sorted(files) if not name.startswith(installed)}
    return {name: text for name, text in texts.items() if 0 < len(text) <= MAX_SOURCE}


@contextlib.contextmanager
def _by_value(importable: Callable[[types.ModuleType], bool]) -> Iterator[None]:
    """Have the user's own modules pickled by value, except those that are importable where they are unpickled."""
    registered, installed = cloudpickle.list_registry_pickle_by_value(), installed_folders()
    modules = [module for module in list(sys.modules.values()) if local_modules.is_users(module, installed)]
    modules = [module for module in modules if module.__name__ not in registered and not importable(module)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


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
