"""The files in a study's folder, and who may write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from msgspec import structs

from seer_nb._utils import environment
from seer_nb._utils.text import short_repr
from seer_nb.errors import SeerError
from seer_nb.storage import object_store, signing

if TYPE_CHECKING:
    from seer_nb.core import Settings


JOURNAL = "journal.sqlite"
FUNCTION = "function.pkl"
OBJECTS = "objects.bin"
"""Content of large arrays and tensors of the function. It is not signed, because it is data and never unpickled."""
PARTS = "parts.pkl"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
CWD = "cwd.txt"
MOST_SQLITE_PATH = 512
"""Most bytes of a path that SQLite opens on Linux and macOS."""
SEALED = (FUNCTION, PARTS, CWD)
"""Signed files: the study runs or unpickles their content, so they must be the user's own."""


def home() -> Path:
    """Return the folder of all studies: SEER_HOME, or ./seer_studies.

    Raises:
        ValueError: No study can be stored there.
    """
    given = os.environ.get(environment.HOME) or "seer_studies"
    folder = Path(given).absolute()
    problem = object_store.folder_problem(folder)
    if not problem and _is_too_long(folder / "x"):
        problem = f"too long for SQLite, which opens paths of at most {MOST_SQLITE_PATH} bytes"
    if problem:
        raise ValueError(f"{environment.HOME}={short_repr(given)}: {problem}; expected a folder for studies")
    return folder


def study_folder(name: str) -> Path:
    """Return the folder of a study.

    Raises:
        ValueError: No study of this name can be stored there.
    """
    folder = home() / name
    if _is_too_long(folder):
        raise ValueError(
            f"name={short_repr(name)}: too long in the folder {short_repr(str(folder.parent))}, because SQLite opens "
            f"paths of at most {MOST_SQLITE_PATH} bytes; expected a shorter name, or a shorter folder in "
            f"{environment.HOME}"
        )
    return folder


def _is_too_long(folder: Path) -> bool:
    """Return whether SQLite cannot open the journal of a study's folder, or its draft with SQLite's own suffix."""
    return len(os.fsencode(folder / f"{JOURNAL}.new-journal")) > MOST_SQLITE_PATH


def with_present_store(settings: Settings, folder: Path) -> Settings:
    """Return settings whose default store is in the study's present folder.

    Guards a copied folder: it must not train into, or clean up, the checkpoints of the original study.

    Args:
        settings: Settings as they stand in the journal. Their default store is in the folder where the study was
            created; settings that this function returned no longer name that folder.
        folder: Folder of the journal.
    """
    created = Path(settings.store)
    own = not object_store.is_url(settings.store) and created.parts[-2:] == (settings.name, CHECKPOINTS)
    return structs.replace(settings, store=str(folder.absolute() / CHECKPOINTS)) if own else settings


def make_folder(folder: Path) -> None:
    """Create a study's folder, accessible only to its user.

    Raises:
        FileExistsError: The folder exists.
        SeerError: Other users could write to the folder, or the key to sign its files is missing.
    """
    signing.own_key()
    folder.mkdir(mode=0o700, parents=True)
    try:
        signing.check_private(folder)
    except SeerError:
        folder.rmdir()
        raise
    (folder / LOGS).mkdir(mode=0o700)


def sign(folder: Path) -> None:
    """Sign the files that a study runs or unpickles. Only call this right after writing them."""
    signing.sign(folder, SEALED)


def check_signatures(folder: Path) -> None:
    """Raise UntrustedError if the study's signed files may not be run."""
    signing.read_signed(folder, SEALED)


def read_function(folder: Path) -> bytes:
    """Return the pickled training function.

    Raises:
        UntrustedError: The file is not as the user signed it.
    """
    return _read(folder, FUNCTION)


def read_parts(folder: Path) -> dict[str, Any]:
    """Return the study's objects: sampler, policy, provider, space.

    Raises:
        UntrustedError: The file is not as the user signed it.
    """
    parts: dict[str, Any] = cloudpickle.loads(_read(folder, PARTS))
    return parts


def _read(folder: Path, name: str) -> bytes:
    found = signing.read_signed(folder, SEALED)
    if name not in found:
        raise SeerError(f"the folder {folder} of study {folder.name!r} has no {name}: the folder is incomplete")
    return found[name]
