"""The training function and the user's own modules as they are sent from the notebook, and how a process loads them."""

from __future__ import annotations

import atexit
import importlib
import linecache
import mmap
import os
import pickle
import shutil
import sys
import sysconfig
import tempfile
import traceback
from dataclasses import dataclass
from importlib.util import decode_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from seer_nb.storage import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


ModuleFiles = dict[str, tuple[str, bytes]]
"""Relative path in a folder of sys.path -> path where the notebook imports the file, and its content."""
PREFIX = "seer_nb-modules-"
"""Start of the names of the folders in which a process has the user's modules."""
ARCHIVES = (".zip", ".egg", ".whl", ".pyz")
MIN_OBJECT_BYTES = 2**20
"""Smallest size of an array or tensor that is sent beside the pickle."""
ALIGNMENT = 64
"""Arrays and tensors start at multiples of so many bytes."""
_objects: str | bytes = b""
"""The file of large objects, or its content."""
worker_folder: Path | None = None
"""Folder for the files of this worker; None in a process that is not a worker."""
_STUB = "from seer_nb.worker.function import run_source\nrun_source(globals(), {origin!r}, {content!r})\n"
"""A module's file on a worker. Every process finds it on sys.path, also those that a training function starts."""


@dataclass(frozen=True)
class Shipment:
    """A function with all that a process needs to load it.

    Attributes:
        pickled: The function, pickled.
        sources: Text of the files whose code is in the pickle, by name; cached so that tracebacks show lines of files
            that are not on the process's machine.
        modules: Files of the user's modules. On a worker they are imported before any other module of their name.
        paths: The notebook's own entries of sys.path.
        sizes: Sizes in bytes of the arrays and tensors outside the pickle.
        objects: The arrays and tensors; empty if they are in the file that `read` adds.
    """

    pickled: bytes
    sources: dict[str, str]
    modules: ModuleFiles
    paths: list[str]
    sizes: list[int]
    objects: bytes


class ShippedFunction:
    """A wrapper that unpickles as the function in it."""

    def __init__(self, shipment: Shipment) -> None:
        self._shipment = shipment

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Shipment]]:
        return restore, (self._shipment,)


def restore(shipment: Shipment) -> Any:
    """Unpickle a function, with the user's modules as they were when it was pickled.

    Raises:
        ImportError: A module cannot be imported here; the message names it.
    """
    for name, text in shipment.sources.items():
        _cache_source(name, text)
    if shipment.modules or shipment.paths:
        _install(shipment.modules, shipment.paths)
    buffers = _split(_map(shipment.objects or _objects), shipment.sizes) if shipment.sizes else []
    try:
        return cloudpickle.loads(shipment.pickled, buffers=buffers)
    except Exception as error:
        failed = _importing({origin for origin, _ in shipment.modules.values()}, error)
        if not failed:
            raise
        raise ImportError(f"{failed} cannot be imported on a worker: {type(error).__name__}: {error}") from error


# --- large objects ---


def join(buffers: Sequence[pickle.PickleBuffer]) -> Iterator[bytes | memoryview]:
    """Yield the content of a file of large objects."""
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        yield view
        yield bytes(-view.nbytes % ALIGNMENT)


def read(folder: Path, *, shared: bool = True) -> bytes:
    """Return the training function of a study, pickled.

    Args:
        folder: Folder of the study.
        shared: Whether the function is unpickled where the folder is: then its large objects stay in their file, which
            all processes of a machine share in memory.

    Raises:
        UntrustedError: A file is not as the user signed it.
    """
    function, objects = layout.read_function(folder), folder / layout.OBJECTS
    if not objects.is_file():
        return function
    return with_objects(function, str(objects) if shared else objects.read_bytes())


def with_objects(function: bytes, objects: str | bytes) -> bytes:
    """Return a pickled function together with its large objects: a file, or the content of one."""
    return pickle.dumps(_WithObjects(function, objects))


class _WithObjects:
    """A wrapper that unpickles as the function in it."""

    def __init__(self, function: bytes, objects: str | bytes) -> None:
        self._parts = function, objects

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, str | bytes]]:
        return _restore_with, self._parts


def _restore_with(function: bytes, objects: str | bytes) -> Any:
    global _objects  # noqa: PLW0603 - the wrapped pickle finds them here
    _objects = objects
    try:
        return cloudpickle.loads(function)
    finally:
        _objects = b""


def _map(objects: str | bytes) -> memoryview:
    """Return large objects as writable memory. What a process changes is its own; it shares the rest."""
    if isinstance(objects, bytes):
        return memoryview(bytearray(objects))
    with Path(objects).open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def _split(memory: memoryview, sizes: list[int]) -> Iterator[memoryview]:
    start = 0
    for size in sizes:
        yield memory[start : start + size]
        start += size + -size % ALIGNMENT


def reduce_storage(storage: Any) -> tuple[Any, ...]:
    """Reduce the memory of a tensor without copying it: like a numpy array's, it can be sent beside the pickle."""
    import torch

    if not _is_sent_beside(storage):
        return tuple(storage.__reduce__())
    memory: Any = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    return _make_storage, (pickle.PickleBuffer(memory),)


def reduce_typed_storage(storage: Any) -> tuple[Any, ...]:
    """Reduce a view of a tensor's memory, so that tensors that share memory share it afterwards."""
    memory = storage._untyped_storage  # noqa: SLF001 - its public name warns
    if not _is_sent_beside(memory):
        return tuple(storage.__reduce__())
    return _make_typed_storage, (memory, storage.dtype)


def _is_sent_beside(memory: Any) -> bool:
    return bool(memory.device.type == "cpu" and memory.nbytes() >= MIN_OBJECT_BYTES)


def _make_storage(memory: Any) -> Any:
    import torch

    return torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()


def _make_typed_storage(storage: Any, dtype: Any) -> Any:
    import torch

    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


# --- modules ---


def run_source(namespace: dict[str, Any], origin: str, content: bytes) -> None:
    """Run the source of a module of the user's as if it was imported from its own place.

    Args:
        namespace: Globals of the module.
        origin: Path of the module on the notebook's machine.
        content: The source.
    """
    text = decode_source(content)
    for name in (origin, namespace["__file__"]):
        _cache_source(name, text)
    if Path(origin).is_file():
        # The module's other files are there: data, and what was created since.
        namespace["__file__"] = namespace["__loader__"].path = origin
        if "__path__" in namespace:
            namespace["__path__"].append(str(Path(origin).parent))
    exec(compile(content, origin, "exec", dont_inherit=True), namespace)  # noqa: S102 - as an import does


def _cache_source(name: str, text: str) -> None:
    # No modification time: linecache must not check for a newer file.
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def _install(modules: ModuleFiles, paths: list[str]) -> None:
    """Write the modules' files to a folder of this process, and add it to sys.path."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=worker_folder))
    _write(modules, folder)
    archives = [str(folder / name) for name in modules if name.endswith(ARCHIVES)]
    found = [str(folder), *archives, *(path for path in paths if Path(path).exists())]
    if worker_folder is None:
        # This process has modules of its own, which come first.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        sys.path += [path for path in found if path not in sys.path]
    else:
        _forget(modules)
        sys.path[:] = [path for path in _without_earlier(sys.path) if path not in found]
        # As in a notebook: after Python's own modules, before installed packages.
        place = _first_installed()
        sys.path[place:place] = found
        # For processes that a function starts: the folder alone, because its names hide no module of Python.
        inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *_without_earlier(inherited)])
    importlib.invalidate_caches()


def _write(modules: ModuleFiles, folder: Path) -> None:
    for name, (origin, content) in modules.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stub = _STUB.format(origin=origin, content=content)
        path.write_bytes(stub.encode() if name.endswith(".py") else content)


def _forget(modules: ModuleFiles) -> None:
    """Remove the modules of an earlier study on this worker, so that they are imported again.

    Raises:
        ImportError: The worker itself uses a module of the same name.
    """
    origins = {origin for origin, _ in modules.values()}
    tops = {name.partition("/")[0].partition(".")[0]: origin for name, (origin, _) in modules.items()}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top not in tops:
            continue
        file = getattr(module, "__file__", None)
        if file is not None and file not in origins and PREFIX not in file:
            raise ImportError(f"{tops[top]} has the name of a module that workers use, {file}; rename it")
        del sys.modules[name]


def installed_folders() -> tuple[str, ...]:
    """Return path prefixes of Python's own files and installed packages."""
    paths = {
        value for key, value in sysconfig.get_paths().items() if key in {"stdlib", "platstdlib", "purelib", "platlib"}
    }
    found = filter(None, sys.path)
    paths |= {path for path in found if path.endswith(("site-packages", "dist-packages")) or _is_target(path)}
    return tuple(os.path.join(path, "") for path in paths)  # noqa: PTH118 - adds the slash at the end


def is_below(path: str, folders: tuple[str, ...]) -> bool:
    """Return whether a path lies in one of the folders, given as prefixes that end with a slash."""
    return os.path.join(path, "").startswith(folders)  # noqa: PTH118 - likewise


def _is_target(path: str) -> bool:
    """Return whether packages were installed into this folder, as by ``pip install --target``."""
    try:
        with os.scandir(path) as entries:
            return any(entry.name.endswith(".dist-info") for entry in entries)
    except OSError:
        return False


def _without_earlier(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if PREFIX not in path]


def _first_installed() -> int:
    places = (place for place, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages")))
    return next(places, len(sys.path))


def _importing(origins: set[str], error: BaseException) -> str:
    """Return the path of the user's module that an error left, or an empty string."""
    frames = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((code.co_filename for code in frames if code.co_filename in origins), "")
