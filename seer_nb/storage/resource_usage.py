"""What the runner and the workers use of their machines now: a small file that the runner replaces now and then.

It is no part of the journal: it is of no use when it is old, and there would be much of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from seer_nb._utils.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


FILE = "vitals.json"
EVERY_S = 3.0
FRESH_S = 15.0
"""What is older tells nothing of now."""
LARGEST = 8 * 1024 * 1024
"""Bytes that are read: a folder may come from somebody else."""
_MIB, _COARSE_MIB, _LARGE_MIB = 1024 * 1024, 10, 1000


class Use(msgspec.Struct, frozen=True, array_like=True):
    """What processes use."""

    cpu: float
    """Per cent of a core."""
    memory: int
    """Bytes."""

    def __add__(self, other: Use) -> Use:
        """Of both."""
        return Use(self.cpu + other.cpu, self.memory + other.memory)

    @property
    def cpu_in_words(self) -> str:
        """Rounded."""
        return f"{self.cpu:.0f} %"

    @property
    def memory_in_words(self) -> str:
        """So coarse that it does not change at every look."""
        mib = round(self.memory / _MIB / _COARSE_MIB) * _COARSE_MIB
        return f"{mib} MiB" if mib < _LARGE_MIB else f"{mib / 1024:.1f} GiB"


class Vitals(msgspec.Struct, frozen=True):
    """Of a study's processes."""

    wall: float
    """Unix seconds at which this was so."""
    runner: Use
    workers: dict[str, Use]
    """By the names that the engine knows them by."""

    def of(self, workers: tuple[str, ...]) -> Use | None:
        """Of some workers together; None if nothing is known of any."""
        found = [self.workers[worker] for worker in workers if worker in self.workers]
        return sum(found[1:], found[0]) if found else None


_encode = msgspec.json.Encoder().encode
_DECODER = msgspec.json.Decoder(Vitals)


def write(folder: Path, vitals: Vitals) -> None:
    """Put them in the place of those before. Not synced to the disk: nobody needs them after a power cut."""
    write_atomically(folder / FILE, _encode(vitals))


def read(folder: Path) -> Vitals | None:
    """Those of now; None if there are none."""
    path = folder / FILE
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        found = _DECODER.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    return found if abs(time.time() - found.wall) < FRESH_S else None
