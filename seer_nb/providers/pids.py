"""Processes that a runner has made, in a file: one that stands still does not see that its runner has died."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from pathlib import Path

SAME_S = 1.0
"""Times at which a process began that differ by less are those of one process."""


class Known(NamedTuple):
    """A process; a number alone may be another one's by now."""

    pid: int
    began_s: float
    """Unix seconds."""
    inode: int
    """Of the file that it was written to: the processes in a copy of that are another study's."""


class Pids:
    """Those of one study.

    Args:
        path: Of the file. Losing it loses nothing but the knowledge of processes that a dead runner has left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, pid: int) -> None:
        """A process was made. On a full disk it is not noted: that is no reason to go without it."""
        with contextlib.suppress(psutil.Error, OSError), self._path.open("a") as file:
            file.write(f"{pid} {psutil.Process(pid).create_time()!r} {os.fstat(file.fileno()).st_ino}\n")

    def end_all(self) -> None:
        """Kill those that still live, each with its process group, and forget all."""
        for known in self._read():
            with contextlib.suppress(psutil.Error, OSError):
                if abs(psutil.Process(known.pid).create_time() - known.began_s) < SAME_S:
                    _kill(known.pid)
        self._path.unlink(missing_ok=True)

    def _read(self) -> list[Known]:
        try:
            lines, inode = self._path.read_text().splitlines(), self._path.stat().st_ino
        except OSError:
            return []
        found: list[Known] = []
        for line in lines:
            # The last one may have been cut off.
            with contextlib.suppress(ValueError):
                pid, began, own = line.split()
                found.append(Known(int(pid), float(began), int(own)))
        return [known for known in found if known.inode == inode]


def _kill(pid: int) -> None:
    """Each worker leads a group, with what its training function has started."""
    if os.getpgid(pid) == pid:
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
