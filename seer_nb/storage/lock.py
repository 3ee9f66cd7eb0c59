"""One runner a study: a lock on a file, which the operating system lets go when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


LOCK = "runner.lock"
MOST_PID = 2**31 - 1
TRIES, TRY_AGAIN_S = 10, 0.02
"""Whoever asks for the runner's id holds the lock for a moment."""


class RunnerLock:
    """Held by the runner for its life."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file: int | None = None

    def take(self) -> bool:
        """Whether the lock is now ours; the file then names this process."""
        # Inheritable by nobody: a worker that outlives the runner for a moment must not hold its lock.
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _locked(file):
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        self._file = file
        return True


def _locked(file: int) -> bool:
    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_AGAIN_S)
        else:
            return True
    return False


def runner_pid(folder: Path) -> int | None:
    """Process id of the study's runner; None when none lives."""
    try:
        # Without waiting for a writer, should it be a pipe that somebody has put there.
        file = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.read(file, 32)
        # What others have written there is no process of any system.
        return int(told) if told.isdigit() and int(told) <= MOST_PID else 0
    finally:
        os.close(file)
    return None
