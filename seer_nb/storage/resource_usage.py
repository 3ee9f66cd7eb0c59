"""CPU and memory that the runner and the workers use now: a small file that the runner replaces every few seconds.

The journal does not record it, because old values are useless and would take much space.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from seer_nb._utils.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


FILE = "resource_usage.json"
EVERY_S = 3.0
"""Seconds between two updates."""
FRESH_S = 15.0
"""Age in seconds from which values are ignored."""
MAX_BYTES = 8 * 1024 * 1024
"""Size limit of the file: the folder may come from somebody else."""
_MIB, _COARSE_MIB, _LARGE_MIB = 1024 * 1024, 10, 1000


class WorkerUsage(msgspec.Struct, frozen=True, array_like=True):
    """CPU and memory that one or more processes use."""

    cpu: float
    """Percent of one core."""
    memory: int
    """Bytes."""

    def __add__(self, other: WorkerUsage) -> WorkerUsage:
        return WorkerUsage(self.cpu + other.cpu, self.memory + other.memory)

    @property
    def cpu_in_words(self) -> str:
        """CPU as text, such as "130 %"."""
        return f"{self.cpu:.0f} %"

    @property
    def memory_in_words(self) -> str:
        """Memory as text, so coarse that it rarely changes."""
        mib = round(self.memory / _MIB / _COARSE_MIB) * _COARSE_MIB
        return f"{mib} MiB" if mib < _LARGE_MIB else f"{mib / 1024:.1f} GiB"


class ResourceUsage(msgspec.Struct, frozen=True):
    """Resources that a study's processes use."""

    wall: float
    """Unix seconds of the measurement."""
    runner: WorkerUsage
    workers: dict[str, WorkerUsage]
    """By the worker's name, such as "3.0"."""

    def of(self, workers: tuple[str, ...]) -> WorkerUsage | None:
        """Return the sum over some workers; None if none of them was measured."""
        found = [self.workers[worker] for worker in workers if worker in self.workers]
        return sum(found[1:], found[0]) if found else None


_encode = msgspec.json.Encoder().encode
_DECODER = msgspec.json.Decoder(ResourceUsage)


def write(folder: Path, usage: ResourceUsage) -> None:
    """Replace the file, without syncing it to disk."""
    write_atomically(folder / FILE, _encode(usage))


def read(folder: Path) -> ResourceUsage | None:
    """Return the present values; None if the file is missing, old or damaged."""
    path = folder / FILE
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        found = _DECODER.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    return found if abs(time.time() - found.wall) < FRESH_S else None
