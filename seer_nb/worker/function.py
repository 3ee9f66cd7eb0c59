"""The training function and the user's own modules as they are sent from the notebook, and how a process loads them."""

from __future__ import annotations

import atexit
import importlib
import linecache
import os
import shutil
import sys
import tempfile
import traceback
from importlib.util import decode_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


ModuleFiles = dict[str, tuple[str, bytes]]
"""Relative path in a folder of sys.path -> path where the notebook imports the file, and its content."""
PREFIX = "seer_nb-modules-"
"""Start of the names of the folders in which a process has the user's modules."""
ARCHIVES = (".zip", ".egg", ".whl", ".pyz")
worker_folder: Path | None = None
"""Folder for the files of this worker; None in a process that is not a worker."""
_STUB = "from seer_nb.worker.function import run_source\nrun_source(globals(), {origin!r}, {content!r})\n"
"""A module's file on a worker. Every process finds it on sys.path, also those that a training function starts."""


class ShippedFunction:
    """A wrapper that unpickles as the function in it.

    Args:
        pickled: The function, pickled.
        sources: Text of the files whose code is in the pickle, by name.
        modules: Files of the user's modules.
        paths: The notebook's own entries of sys.path.
    """

    def __init__(self, pickled: bytes, sources: dict[str, str], modules: ModuleFiles, paths: list[str]) -> None:
        self._parts = pickled, sources, modules, paths

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return restore, self._parts


def restore(pickled: bytes, sources: dict[str, str], modules: ModuleFiles, paths: list[str]) -> Any:
    """Unpickle a function, with the user's modules as they were when it was pickled.

    Args:
        pickled: As in `ShippedFunction`.
        sources: Likewise; cached so that tracebacks show lines of files that are not on this machine.
        modules: Likewise. On a worker they are imported before any other module of their name.
        paths: Likewise.

    Raises:
        ImportError: A module cannot be imported here; the message names it.
    """
    for name, text in sources.items():
        _cache_source(name, text)
    if modules or paths:
        _install(modules, paths)
    try:
        return cloudpickle.loads(pickled)
    except Exception as error:
        failed = _importing({origin for origin, _ in modules.values()}, error)
        if not failed:
            raise
        raise ImportError(f"{failed} cannot be imported on a worker: {type(error).__name__}: {error}") from error


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


def _without_earlier(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if PREFIX not in path]


def _first_installed() -> int:
    places = (place for place, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages")))
    return next(places, len(sys.path))


def _importing(origins: set[str], error: BaseException) -> str:
    """Return the path of the user's module that an error left, or an empty string."""
    frames = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((code.co_filename for code in frames if code.co_filename in origins), "")
