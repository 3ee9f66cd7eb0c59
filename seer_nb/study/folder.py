"""The folder of one study: create it, compare it with the arguments of a new study, delete it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seer_nb import core
from seer_nb._utils import files
from seer_nb._utils.text import short_repr
from seer_nb.storage import layout, object_store
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import JournalView

if TYPE_CHECKING:
    from seer_nb.core import Settings
    from seer_nb.search_space import Space
    from seer_nb.study.serialization import Shipped


Exist = Literal["error", "resume", "overwrite"]
SAME = ("metric", "mode", "max_epochs", "seed", "policy")
"""Settings that a study must share with the study that it continues."""


def create(folder: Path, function: Shipped, parts: bytes, settings: Settings) -> JournalView:
    """Create a study's folder with its signed files and its journal.

    Args:
        folder: The folder.
        function: The training function for the workers.
        parts: The pickled objects of the study.
        settings: The study's settings.

    Raises:
        ValueError: The folder exists.
    """
    try:
        layout.make_folder(folder)
    except FileExistsError:
        refuse_used_name(folder)
    try:
        function.write(folder)
        files.write_atomically(folder / layout.CWD, str(Path.cwd()).encode(), private=True)
        files.write_atomically(folder / layout.PARTS, parts, private=True)
        layout.sign(folder)
        return JournalView(Journal.create(folder / layout.JOURNAL, [(0.0, core.Began(settings=settings))]))
    except BaseException:
        # Also on KeyboardInterrupt: the name must be free again.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def refuse_used_name(folder: Path) -> None:
    """Raise ValueError if the folder exists."""
    if folder.exists():
        name = folder.name
        raise ValueError(
            f"name={name!r} is already in use in {folder.parent}: seer.attach({name!r}) opens that study; else choose "
            'another name, or give exist="resume" or exist="overwrite"'
        )


def check_fits(folder: Path, earlier: Settings, given: Settings, space: Space) -> None:
    """Check that a new study with ``exist="resume"`` is the same as the one in its folder.

    Args:
        folder: The folder of the earlier study.
        earlier: Settings of the earlier study.
        given: Settings of the new one.
        space: Space of the new one.

    Raises:
        ValueError: A setting or the space differs.
        UntrustedError: The folder's files are not as the user signed them.
    """
    pairs = [(name, getattr(earlier, name), getattr(given, name)) for name in SAME]
    held: Space = layout.read_parts(folder)["space"]
    pairs.append(("space", _contents(held), _contents(space)))
    for name, old, new in pairs:
        if old != new:
            raise ValueError(
                f"{name}={short_repr(new)}: study {folder.name!r}, which exist='resume' continues, has "
                f"{name}={short_repr(old)}; expected the same, another name, or exist='overwrite'"
            )


def replace_function(folder: Path, function: Shipped) -> None:
    """Replace the training function of a study that does not run.

    Raises:
        UntrustedError: The folder's files are not as the user signed them.
    """
    layout.check_signatures(folder)
    function.write(folder)
    layout.sign(folder)


def _contents(space: Space) -> dict[str, object]:
    return {**space.domains, **space.constants}


def delete(folder: Path, settings: Settings) -> None:
    """Delete a study's checkpoints and its folder.

    Args:
        folder: The folder.
        settings: The study's settings.
    """
    # The journal names the store and may be untrusted, so only a folder that seer_nb makes for one study is deleted.
    own = re.fullmatch(rf"{re.escape(settings.name)}-[0-9a-f]{{8}}", settings.store.rstrip("/").rpartition("/")[2])
    if own and object_store.is_url(settings.store):
        fs, root = object_store.filesystem(settings.store)
        if fs.exists(root):
            fs.rm(root, recursive=True)
    elif own:
        shutil.rmtree(settings.store, ignore_errors=True)
    shutil.rmtree(folder)
