"""What lies in a study's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from msgspec import structs

from seer_nb._utils import environment
from seer_nb.errors import SeerError
from seer_nb.storage import object_store, signing

if TYPE_CHECKING:
    from seer_nb.core import Settings


JOURNAL = "journal.sqlite"
FUNCTION = "function.pkl"
PARTS = "parts.pkl"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
CWD = "cwd.txt"
SEALED = (FUNCTION, PARTS, CWD)
"""What a study runs, and where: unpickled, so it must be the user's own."""


def home() -> Path:
    """The folder of all studies: SEER_HOME, or ./seer_studies."""
    return Path(os.environ.get(environment.HOME, "seer_studies")).absolute()


def placed(settings: Settings, folder: Path) -> Settings:
    """Settings as a study's journal has them, with its own checkpoints where its folder is now.

    A copy must not train into, nor tidy up, the checkpoints of the study that it was copied from.

    Args:
        settings: As the journal begins with them: there the store, if none was given, is that of the folder in which
            the study was made. Those that were placed once have lost that.
        folder: Where the journal lies.
    """
    made = Path(settings.store)
    own = not object_store.is_url(settings.store) and made.parts[-2:] == (settings.name, CHECKPOINTS)
    return structs.replace(settings, store=str(folder.absolute() / CHECKPOINTS)) if own else settings


def make_folder(folder: Path) -> None:
    """Make a study's folder, for nobody but its user.

    Raises:
        FileExistsError: There is one.
        SeerError: It would be open to others all the same, or there is no key to seal its files with.
    """
    signing.own_key()
    folder.mkdir(mode=0o700, parents=True)
    try:
        signing.check_private(folder)
    except SeerError:
        folder.rmdir()
        raise
    (folder / LOGS).mkdir(mode=0o700)


def seal(folder: Path) -> None:
    """Say that what is stored of a study is the user's own; to be called by who has just written it."""
    signing.seal(folder, SEALED)


def check(folder: Path) -> None:
    """Raise UntrustedError, with a sentence, if what is stored of a study may not be run."""
    signing.opened(folder, SEALED)


def read_function(folder: Path) -> bytes:
    """The training function, pickled.

    Raises:
        UntrustedError: It is not what the user has stored.
    """
    return _read(folder, FUNCTION)


def read_parts(folder: Path) -> dict[str, Any]:
    """The study's objects.

    Raises:
        UntrustedError: They are not those that the user has stored.
    """
    parts: dict[str, Any] = cloudpickle.loads(_read(folder, PARTS))
    return parts


def _read(folder: Path, name: str) -> bytes:
    found = signing.opened(folder, SEALED)
    if name not in found:
        raise SeerError(f"the folder {folder} of study {folder.name!r} has no {name}: it is not complete")
    return found[name]
