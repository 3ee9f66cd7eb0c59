"""The processes of a machine: found, and killed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil

from seer_nb.loopback.guard import PATIENCE_S, marked


def living(mark: str, root: int | None) -> set[int]:
    """All that lives on a machine.

    Found by the mark in the environment, which also what has been left by its parents still has; by the session of
    the machine's script; and among the script's descendants, for those that have shed both.
    """
    found = marked(mark)
    if root is not None:
        found |= {pid for pid in psutil.pids() if _session(pid) == root}
        with suppress(psutil.Error):
            found |= {child.pid for child in psutil.Process(root).children(recursive=True)}
    return {pid for pid in found if _alive(pid)}


def kill(mark: str, root: int | None) -> None:
    """Kill all that lives on a machine, and what that starts meanwhile."""
    end = time.monotonic() + PATIENCE_S
    while (left := living(mark, root)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _session(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None


def _alive(pid: int) -> bool:
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
