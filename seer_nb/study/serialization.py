"""Pickling of the training function for the workers; errors name the object that cannot be pickled."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import io
import linecache
import os
import pickle
import subprocess
import sys
import types
from collections import ChainMap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import cloudpickle

from seer_nb._utils.text import one_line, short_repr
from seer_nb.study import local_modules
from seer_nb.worker.function import ShippedFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MAX_DEPTH = 8
"""Number of references that `find_unpicklable` follows from the given object."""
_IGNORED = frozenset({"__builtins__", "__dict__", "__weakref__", "_abc_impl"})
"""Attributes that pickling skips."""


def find_unpicklable(given: Any) -> tuple[str, str]:
    """Return the location and type of the innermost object that cannot be pickled, and its name."""
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
    # The name in "the global 'lock'"; an item or attribute has none of its own.
    variable = path[0] if path and path[0].startswith(("the global", "the closure variable")) else "it"
    return f"{' of '.join(path) or 'an object'}, of type {named},", variable


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


def dumps(function: Callable[..., Any], *, shared: bool = True) -> bytes:
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
    with _by_value(local_modules.can_send):
        try:
            pickled = _pickle(function)
        except Exception as error:
            where, variable = find_unpicklable(function)
            raise ValueError(
                f"train={_name(function)} cannot be sent to the workers: it uses {where} which cannot be pickled "
                f"({error}); create {variable} inside the function, or in a .py file that it imports"
            ) from error
    try:
        modules = local_modules.collect(pickled.modules, shared=shared)
    except ValueError as error:
        raise ValueError(f"train={_name(function)} cannot be sent to the workers: {error}") from error
    paths = local_modules.own_paths() if shared else []
    shipped = pickle.dumps(ShippedFunction(pickled.content, _sources(pickled.files), modules, paths))
    if pickled.hooked:
        _check_loads(pickled._replace(content=shipped), f"train={_name(function)} cannot be sent to the workers")
    return shipped


LOAD_TIMEOUT_S = 60.0
"""Seconds after which a new process is ended, and what it loads is left unchecked."""
_LOAD = """
import pathlib, sys, tempfile, traceback
import cloudpickle
from seer_nb.worker import function
with tempfile.TemporaryDirectory() as folder:
    function.worker_folder = pathlib.Path(folder)
    try:
        cloudpickle.loads(sys.stdin.buffer.read())
    except BaseException as error:
        sys.exit(traceback.format_exception_only(error)[-1].strip())
"""


def _check_loads(pickled: _Pickled, refusal: str) -> None:
    """Load a pickle in a new process, as workers and the runner do.

    A new process takes seconds, so this is only done for pickles with classes whose code runs when they are unpickled.

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
        raise ValueError(
            f"{refusal}: a new process cannot load it ({error}); it uses {', '.join(sorted(pickled.hooked))}: "
            "define classes with such methods in a .py file that the notebook imports"
        )


def dumps_parts(**parts: Any) -> bytes:
    """Pickle objects for the runner, with the user's own modules by value.

    Raises:
        ValueError: An object cannot be pickled; the message names it and the part that cannot.
    """
    with _by_value(lambda _: False):
        for name, part in parts.items():
            try:
                pickled = _pickle(part)
            except Exception as error:
                raise ValueError(
                    f"{name}={short_repr(part)} cannot be sent to the runner: it holds {find_unpicklable(part)[0]} "
                    f"which cannot be pickled ({error})"
                ) from error
            if pickled.hooked:
                _check_loads(pickled, f"{name}={short_repr(part)} cannot be sent to the runner")
        return _pickle(parts).content


class _Pickled(NamedTuple):
    """A pickle, and what it needs where it is unpickled."""

    content: bytes
    files: set[str]
    """Names of the files of the code in it."""
    modules: set[str]
    """Top-level names of the modules that it imports."""
    hooked: set[str]
    """Names of the classes whose own methods run when it is unpickled."""


class _ModuleGlobals:
    """Unpickles as the globals of a module."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[types.ModuleType]]:
        return vars, (self._module,)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no annotations
    """A cloudpickle pickler that collects what code and modules the pickle needs.

    It keeps the file names of code objects, which cloudpickle removes. A function made by a module's function, such as
    a closure, shares that module's globals after unpickling, which cloudpickle would copy.
    """

    def __init__(self, file: io.BytesIO) -> None:
        self.files: set[str] = set()
        self.modules: set[str] = set()
        self.hooked: set[str] = set()
        self.dispatch_table = ChainMap({types.CodeType: self._code}, cloudpickle.Pickler.dispatch_table)
        super().__init__(file)

    def reducer_override(self, value: Any) -> Any:
        kind: Any = type(value)
        named: Any = value if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) else kind
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(named, "__module__", None)
        if isinstance(module, str):
            self.modules.add(module.partition(".")[0])
        reduced = super().reducer_override(value)
        if isinstance(value, type):
            hooked = reduced is not NotImplemented and _may_fail_to_create(value)
        else:
            hooked = _may_fail_to_unpickle(kind)
        if hooked:
            self.hooked.add(named.__qualname__)
        return reduced

    def _code(self, code: types.CodeType) -> tuple[Any, ...]:
        self.files.add(code.co_filename)
        imported = (step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME")
        self.modules |= {name.partition(".")[0] for name in imported} - {""}
        make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
        return make, tuple(code.co_filename if each == "<dynamic-code>" else each for each in arguments)

    def _dynamic_function_reduce(self, function: types.FunctionType) -> tuple[Any, ...]:
        make, (code, base, *others), (state, slots), *rest = super()._dynamic_function_reduce(function)
        module = sys.modules.get(function.__globals__.get("__name__", ""))
        if _is_importable(module) and vars(module) is function.__globals__:
            base, slots = _ModuleGlobals(module), {**slots, "__globals__": {}}
        return make, (code, base, *others), (state, slots), *rest


def _is_importable(module: types.ModuleType | None) -> TypeGuard[types.ModuleType]:
    """Return whether a module is pickled by its name."""
    if module is None or module.__spec__ is None or module.__name__ == "__main__":
        return False
    registered = cloudpickle.list_registry_pickle_by_value()
    return not any(f"{module.__name__}.".startswith(f"{name}.") for name in registered)


_UNPICKLING = frozenset({"__reduce__", "__reduce_ex__", "__setstate__", "__getattr__", "__getattribute__"})
"""Methods of a class that may run when an object of it is unpickled."""
_METACLASS = frozenset({"__prepare__", "__new__", "__init__", "__call__"})
"""Methods of a metaclass that run when a class is created."""
_TESTED = sys.stdlib_module_names | {"torch", "seer_nb"}
"""Packages whose classes are created again without errors."""


@functools.lru_cache(maxsize=4096)
def _may_fail_to_create(kind: type) -> bool:
    """Return whether creating a class again, without its keywords, runs code that may fail."""
    hooks = [base for base in kind.__mro__[1:] if "__init_subclass__" in vars(base)]
    hooks += [base for base in inspect.getmro(type(kind)) if _METACLASS & vars(base).keys()]
    return any(hook.__module__.partition(".")[0] not in _TESTED or hook.__module__ == "__main__" for hook in hooks)


@functools.lru_cache(maxsize=4096)
def _may_fail_to_unpickle(kind: type) -> bool:
    """Return whether unpickling an object runs the user's own code, which may fail."""
    # An exception is created again from its arguments.
    methods = _UNPICKLING | {"__init__", "__new__"} if issubclass(kind, BaseException) else _UNPICKLING
    return any(methods & vars(base).keys() and _is_users(base) for base in kind.__mro__)


def _is_users(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    return kind.__module__ == "__main__" or local_modules.is_users(module, local_modules.installed_folders())


def _pickle(value: Any) -> _Pickled:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(value)
    return _Pickled(buffer.getvalue(), pickler.files, pickler.modules, pickler.hooked)


def _sources(files: set[str]) -> dict[str, str]:
    """Return the text of the user's own files and notebook cells by name."""
    installed = local_modules.installed_folders()
    texts = {name: "".join(linecache.getlines(name)) for name in sorted(files) if not name.startswith(installed)}
    return {name: text for name, text in texts.items() if 0 < len(text) <= MAX_SOURCE}


@contextlib.contextmanager
def _by_value(importable: Callable[[types.ModuleType], bool]) -> Iterator[None]:
    """Have the user's own modules pickled by value, except those that are importable where they are unpickled."""
    registered, installed = cloudpickle.list_registry_pickle_by_value(), local_modules.installed_folders()
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
