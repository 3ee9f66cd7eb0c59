"""Keeps a study's logs small, whoever writes to them, and however much.

Files are cut in place, as logrotate's copytruncate does: those who write to them, among them what a training function
has started, hold them open, and append. What comes between the copy and the cut is lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


logger = logging.getLogger(__name__)
MOST = 4 * 1024 * 1024
"""Bytes of a file; of a longer one the last so many are kept beside it ..."""
KEPT = ".1"
"""... under its name and this."""
ALL = 128 * 1024 * 1024
"""Bytes of all files of a study: beyond that, the oldest are emptied."""


def bound(folder: Path, most: int = MOST, all_of_them: int = ALL) -> None:
    """Cut what is too long.

    Args:
        folder: With the logs.
        most: Bytes of a file.
        all_of_them: Bytes of all files.
    """
    sizes: dict[Path, os.stat_result] = {}
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                continue  # what a link leads to is none of ours
            if found.st_size > most and path.suffix != KEPT:
                _turn(path, most)
                found = path.lstat()
            sizes[path] = found
    _empty_oldest(sizes, sum(found.st_size for found in sizes.values()) - all_of_them)


def _turn(path: Path, most: int) -> None:
    """Keep the end of a file beside it, and begin it anew."""
    kept = path.with_name(f"{path.name}{KEPT}")
    try:
        with path.open("rb") as file:
            file.seek(-most, os.SEEK_END)
            end = file.read(most)
        with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(end)
    finally:
        # Also on a full disk: above all it must not grow.
        os.truncate(path, 0)
    logger.info("%s was too long: its end is in %s", path.name, kept.name)


def _empty_oldest(sizes: dict[Path, os.stat_result], too_many: int) -> None:
    for path in sorted(sizes, key=lambda path: sizes[path].st_mtime):
        if too_many <= 0:
            return
        if path.suffix == KEPT:
            path.unlink(missing_ok=True)
        else:
            os.truncate(path, 0)
        too_many -= sizes[path].st_size
