"""The lock that lets a study have one runner at most: the operating system releases it when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


LOCK = "runner.lock"
MAX_PID = 2**31 - 1
TRIES, RETRY_S = 10, 0.02
"""Attempts to take the lock, and seconds between them: `runner_pid` holds it for a moment."""


class RunnerLock:
    """A lock that a runner holds for its whole life.

    Args:
        folder: The study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file: int | None = None

    def take(self) -> bool:
        """Take the lock and write this process's id into its file; return False if another process holds it."""
        # Not inheritable: a worker that outlives its runner for a moment must not hold the lock.
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
            time.sleep(RETRY_S)
        else:
            return True
    return False


def runner_pid(folder: Path) -> int | None:
    """Return the process id of the study's runner: None if there is no runner, 0 if its id is unknown."""
    try:
        # Non-blocking: opening a named pipe that somebody put there would wait for a writer.
        file = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        written = os.read(file, 32)
        # The file may be untrusted and hold no valid process id.
        return int(written) if written.isdigit() and int(written) <= MAX_PID else 0
    finally:
        os.close(file)
    return None
