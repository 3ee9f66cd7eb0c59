"""A pickler that also finds what a pickle needs where it is loaded: code, modules, and large arrays beside it."""

from __future__ import annotations

import dis
import functools
import inspect
import io
import pickle
import sys
import types
from collections import ChainMap
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import cloudpickle

from seer_nb.study import local_modules
from seer_nb.worker.function import MIN_OBJECT_BYTES, installed_folders, reduce_storage, reduce_typed_storage

if TYPE_CHECKING:
    from collections.abc import Callable


class Pickled(NamedTuple):
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


class ModulePickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no annotations
    """A cloudpickle pickler that collects what code and modules the pickle needs.

    It keeps the file names of code objects, which cloudpickle removes. A function made by a module's function, such as
    a closure, shares that module's globals after unpickling, which cloudpickle would copy.
    """

    def __init__(self, file: io.BytesIO | io.RawIOBase, objects: list[pickle.PickleBuffer] | None) -> None:
        self.files: set[str] = set()
        self.modules: set[str] = set()
        self.hooked: set[str] = set()
        reducers: dict[type, Callable[..., Any]] = {types.CodeType: self._code}
        if "torch" in sys.modules and objects is not None:
            storages = sys.modules["torch"].storage
            reducers |= {storages.UntypedStorage: reduce_storage, storages.TypedStorage: reduce_typed_storage}
        self.dispatch_table = ChainMap(reducers, cloudpickle.Pickler.dispatch_table)
        super().__init__(file, buffer_callback=None if objects is None else lambda buffer: _keep(buffer, objects))

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
    return any(methods & vars(base).keys() and is_users_class(base) for base in kind.__mro__)


def is_users_class(kind: type) -> bool:
    """Return whether the user defined a class, in a notebook or a module."""
    module = sys.modules.get(kind.__module__)
    return kind.__module__ == "__main__" or local_modules.is_users(module, installed_folders())


def _keep(buffer: pickle.PickleBuffer, objects: list[pickle.PickleBuffer]) -> bool:
    """Take a buffer out of a pickle if it is large; returns whether it stays in the pickle."""
    stays = buffer.raw().nbytes < MIN_OBJECT_BYTES
    if not stays:
        objects.append(buffer)
    return stays


def pickle_with_needs(value: Any, objects: list[pickle.PickleBuffer] | None = None) -> Pickled:
    """Pickle a value; large arrays and tensors are appended to ``objects`` instead, if it is given."""
    buffer = io.BytesIO()
    pickler = ModulePickler(buffer, objects)
    pickler.dump(value)
    return Pickled(buffer.getvalue(), pickler.files, pickler.modules, pickler.hooked)


def pickled_size(value: Any) -> int | None:
    """Return the size of a value's pickle in bytes; None if the value cannot be pickled."""
    written, objects = _Counter(), list[pickle.PickleBuffer]()
    try:
        ModulePickler(written, objects).dump(value)
    except Exception:  # noqa: BLE001 - pickling runs the object's own code
        return None
    return written.size + sum(buffer.raw().nbytes for buffer in objects)


class _Counter(io.RawIOBase):
    """A file that only counts what is written to it."""

    size = 0

    def write(self, data: Any) -> int:
        self.size += memoryview(data).nbytes
        return memoryview(data).nbytes
