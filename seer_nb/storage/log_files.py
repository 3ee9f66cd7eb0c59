"""Limits on the size of a study's log files.

A file is truncated in place, like logrotate's copytruncate, because the processes that append to it keep it open.
Whatever is written between the copy and the truncation is lost.
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
MAX_FILE = 4 * 1024 * 1024
"""Size limit of one log file in bytes."""
ROTATED = ".1"
"""Suffix of the file that keeps the end of a truncated log file."""
MAX_TOTAL = 128 * 1024 * 1024
"""Size limit of all log files of a study in bytes."""


def limit_size(folder: Path, max_file: int = MAX_FILE, max_total: int = MAX_TOTAL) -> None:
    """Truncate log files that are too long, and empty the oldest ones if all together are too large.

    Args:
        folder: Folder of the log files.
        max_file: Size limit of one file in bytes; its last `max_file` bytes are kept in a second file.
        max_total: Size limit of all files in bytes.
    """
    sizes: dict[Path, os.stat_result] = {}
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                continue  # never follow links out of the folder
            if found.st_size > max_file and path.suffix != ROTATED:
                _rotate(path, max_file)
                found = path.lstat()
            sizes[path] = found
    _empty_oldest(sizes, sum(found.st_size for found in sizes.values()) - max_total)


def _rotate(path: Path, max_file: int) -> None:
    """Copy the end of a file into the file beside it, and truncate it."""
    kept = path.with_name(f"{path.name}{ROTATED}")
    try:
        with path.open("rb") as file:
            file.seek(-max_file, os.SEEK_END)
            end = file.read(max_file)
        with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(end)
    finally:
        # On a full disk the copy fails, but the file must not grow.
        os.truncate(path, 0)
    logger.info("truncated %s; its end is in %s", path.name, kept.name)


def _empty_oldest(sizes: dict[Path, os.stat_result], excess: int) -> None:
    for path in sorted(sizes, key=lambda path: sizes[path].st_mtime):
        if excess <= 0:
            return
        if path.suffix == ROTATED:
            path.unlink(missing_ok=True)
        else:
            os.truncate(path, 0)
        excess -= sizes[path].st_size
