"""What lies in a study's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cloudpickle

JOURNAL = "journal.sqlite"
FUNCTION = "function.pkl"
PARTS = "parts.pkl"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
CWD = "cwd.txt"


def home() -> Path:
    """The folder of all studies: SEER_HOME, or ./seer_studies."""
    return Path(os.environ.get("SEER_HOME", "seer_studies")).absolute()


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; it is there whole, or as it was before."""
    temporary = path.with_name(f".{path.name}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_parts(folder: Path) -> dict[str, Any]:
    """The study's objects. Only the runner reads them, from the folder of its own user."""
    parts: dict[str, Any] = cloudpickle.loads((folder / PARTS).read_bytes())
    return parts
