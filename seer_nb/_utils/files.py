"""Atomic writes of files."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def write_atomically(path: Path, content: bytes | Iterable[bytes | memoryview], *, private: bool = False) -> None:
    """Write a file so that readers find either the old content or the whole new content.

    Args:
        path: The file; its folder must exist.
        content: The new content, as one object or in parts.
        private: Whether the file is readable by its owner only, and synced to the disk before it replaces the old one.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    # O_EXCL: in a folder that others can write to, someone may have placed a link under any name.
    number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    try:
        with os.fdopen(number, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            if private:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
