"""The user's own modules that a training function needs: found beside the notebook, and read from disk."""

from __future__ import annotations

import os
import re
import struct
import sys
import types
import warnings
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader, all_suffixes
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb.worker.function import installed_folders, is_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seer_nb.worker.function import ModuleFiles


MAX_BYTES = 64 * 2**20
"""Largest total size of the modules that are sent with a function."""
MAX_FILES = 5_000
_SUFFIXES = tuple(all_suffixes())
_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([^#\n]+))", re.MULTILINE)
"""An import in a source. Words in a docstring that look like one add at most a file that is not needed."""


def collect(names: Iterable[str], *, shared: bool) -> ModuleFiles:
    """Return the files of the user's modules of these names, and of those that they import.

    Args:
        names: Names of top-level modules; Python's own and installed ones are left out.
        shared: Whether workers see this machine's files: then only code is sent.

    Raises:
        ValueError: A module cannot be sent; the message, the end of a sentence, names it.
    """
    found: ModuleFiles = {}
    installed, seen = installed_folders(), {"__main__", "__mp_main__", "seer_nb"}
    pending = set(names) - seen
    while pending:
        top = pending.pop()
        seen.add(top)
        spec = _find(top)
        if spec is not None and _is_users_spec(spec, installed):
            files = _read(spec, found, shared=shared)
            for name, (_, content) in files.items():
                if name.endswith(".py"):
                    pending |= imported_names(content) - seen
            found |= files
    _warn_of_edited({origin for origin, _ in found.values()})
    return found


def hides_installed(modules: ModuleFiles) -> bool:
    """Return whether a module has the name of an installed one, which a worker may have imported."""
    installed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    tops = {name.partition("/")[0].partition(".")[0] for name in modules}
    return any(PathFinder.find_spec(top, installed) is not None for top in tops)


def imported_names(source: bytes) -> set[str]:
    """Return the top-level names of the modules that a source imports."""
    names = set[str]()
    for one, several in _IMPORT.findall(source):
        parts = [one] if one else several.split(b",")
        names |= {re.split(rb"\W", part.strip(b" \t(\\"), maxsplit=1)[0].decode("utf-8", "replace") for part in parts}
    return names - {""}


def own_paths() -> list[str]:
    """Return the entries of sys.path that hold neither Python nor installed packages, as absolute paths."""
    installed = installed_folders()
    paths = (os.path.abspath(path) for path in sys.path)  # noqa: PTH100 - must not follow links
    return [path for path in dict.fromkeys(paths) if Path(path).exists() and not is_below(path, installed)]


def is_users(module: Any, installed: tuple[str, ...]) -> bool:
    """Return whether a module is the user's own file rather than an installed package or part of Python."""
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", None)
    if not isinstance(module, types.ModuleType) or not file or not name or name == "__main__":
        return False
    # cloudpickle finds registered modules by name.
    if sys.modules.get(name) is not module or name.partition(".")[0] == "seer_nb":
        return False
    return not is_below(str(file), installed)


def can_send(module: types.ModuleType) -> bool:
    """Return whether workers can import a module of the user's: whether it comes from a file that Python imports."""
    spec = _find(module.__name__.partition(".")[0])
    return spec is not None and (
        spec.submodule_search_locations is not None
        or _archive(spec) is not None
        or str(spec.origin).endswith(_SUFFIXES)
    )


def _find(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except (ImportError, ValueError, AttributeError):  # a module that was not imported from anywhere
        return None


def _is_users_spec(spec: ModuleSpec, installed: tuple[str, ...]) -> bool:
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations or []
    return any(place is not None and not is_below(place, installed) for place in places)


def _read(spec: ModuleSpec, before: ModuleFiles, *, shared: bool) -> ModuleFiles:
    """Return the files of one top-level module; none if workers import it from where it is."""
    if spec.name in sys.stdlib_module_names:
        raise ValueError(f"it uses {spec.origin}, which has the name of a module of Python; rename it")
    if (archive := _archive(spec)) is None:
        paths = dict(_paths(spec, shared=shared))
    else:
        paths = {} if shared else {archive.name: archive}
    size = sum(len(content) for _, content in before.values()) + sum(path.stat().st_size for path in paths.values())
    if size <= MAX_BYTES and len(before) + len(paths) <= MAX_FILES:
        return {name: (str(path), path.read_bytes()) for name, path in paths.items()}
    places = ", ".join([spec.origin] if spec.origin else spec.submodule_search_locations or [])
    what = f"it uses the module {spec.name!r} ({places})"
    limit = f"expected at most {MAX_FILES} files of {MAX_BYTES // 2**20} MiB"
    limits = f"with all modules {len(before) + len(paths)} files of {size / 2**20:.0f} MiB; {limit}"
    if not shared:
        raise ValueError(f"{what}, {limits}: move data out of the package")
    warnings.warn(f"{what}, {limits}: workers import its files as they are then", stacklevel=6)
    return {}


def _archive(spec: ModuleSpec) -> Path | None:
    """Return the zip archive that holds a module, if one does."""
    path = getattr(spec.loader, "archive", None)
    return Path(path) if isinstance(path, str) else None


def _paths(spec: ModuleSpec, *, shared: bool) -> Iterator[tuple[str, Path]]:
    """Yield the files of a module or package by their path relative to its folder of sys.path."""
    if spec.submodule_search_locations is None:
        if spec.origin is not None:
            path = Path(spec.origin)
            yield spec.name + path.name[path.name.index(".") :], path
        return
    for place in reversed(spec.submodule_search_locations):  # the first one counts
        for folder, inner, names in os.walk(place):
            inner[:] = [name for name in inner if not _is_skipped(Path(folder, name))]
            whole = not shared and any(name.startswith("__init__.") for name in names)
            for name in sorted(names):
                path = Path(folder, name)
                if (whole or name.endswith(_SUFFIXES)) and path.is_file():
                    yield (Path(spec.name) / path.relative_to(place)).as_posix(), path


def _is_skipped(folder: Path) -> bool:
    """Return whether a folder holds no modules: caches, environments, and studies."""
    return (
        folder.name.startswith(".")
        or folder.name in {"__pycache__", "node_modules", "site-packages", "seer_studies"}
        or (folder / "pyvenv.cfg").exists()
    )


def _warn_of_edited(origins: set[str]) -> None:
    """Warn about files that were edited after this process imported them: workers import what is on disk."""
    edited = [module.__file__ for module in list(sys.modules.values()) if _is_edited(module, origins)]
    if edited:
        warnings.warn(
            f"{', '.join(sorted(map(str, edited)))} changed after the import: the study uses the file as it is now; "
            "importlib.reload(...) has this process use it too",
            stacklevel=6,
        )


def _is_edited(module: Any, origins: set[str]) -> bool:
    """Return whether a loaded module's source is newer than the bytecode that Python cached at its import."""
    file, spec = getattr(module, "__file__", None), getattr(module, "__spec__", None)
    if file not in origins or spec is None or not spec.cached or type(spec.loader) is not SourceFileLoader:
        return False
    try:
        flags, modified, size = struct.unpack("<4x3L", Path(spec.cached).read_bytes()[:16])
        found = Path(file).stat()
    except (OSError, struct.error):
        return False
    return not flags and (modified, size) != (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
