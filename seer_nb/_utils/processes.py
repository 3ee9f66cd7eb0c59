"""Exit of worker processes, their exit codes, and the processes that training functions start."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import psutil


logger = logging.getLogger(__name__)
LEASE_EXPIRED = 86
"""Exit code of a worker whose lease expired because its runner was silent."""
WORKER_CLOSED = 87
"""Exit code of a worker whose Dask worker closed, by itself or because its scheduler closed."""
KILL_S = 5.0
"""Seconds in which killed processes must exit."""
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux."""
_kept: Collection[psutil.Process] | None = None
"""Processes that this process had started before the training function; None while none trains."""


def exit_process(code: int) -> NoReturn:
    """Exit this process at once, after killing the processes that a training function has started."""
    kill(descendants(os.getpid()))
    os._exit(code)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent exits, as init is otherwise: they stay descendants. Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[psutil.Process]:
    """Return the processes that a process has started, directly or not; none if it is gone."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def kill(processes: Collection[psutil.Process]) -> None:
    """Kill processes that may have exited."""
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


@contextlib.contextmanager
def confined() -> Iterator[None]:
    """Kill on exit all processes that were started meanwhile; on Linux also detached ones, see `adopt_orphans`."""
    global _kept  # noqa: PLW0603 - a closing worker ends the processes too
    _kept = descendants(os.getpid()) if _has_children() else ()
    try:
        yield
    finally:
        end_confined()
        _kept = None


def end_confined() -> None:
    """Kill the processes that the training function has started."""
    kept, end_s = _kept, time.monotonic() + KILL_S
    if kept is None or not _has_children():
        return
    import psutil

    pids = {process.pid for process in kept}
    for child in multiprocessing.active_children():
        if child.pid not in pids:
            child.kill()
            child.join(KILL_S)
    if forkserver._forkserver._forkserver_pid not in pids:  # type: ignore[attr-defined] # noqa: SLF001 - no public way
        stop_helper(forkserver._forkserver, "_forkserver_pid")  # noqa: SLF001
    # The tracker serves the whole process, and exits with it.
    pids.add(getattr(resource_tracker._resource_tracker, "_pid", None) or 0)  # noqa: SLF001
    while left := [process for process in descendants(os.getpid()) if process.pid not in pids]:
        kill(left)
        psutil.wait_procs(left, timeout=max(0.0, end_s - time.monotonic()))
        if time.monotonic() > end_s:
            logger.warning("processes of the training function do not exit: %s", left)
            return


def _has_children() -> bool:
    """Return whether this process has children; without any it has no descendants, if it adopts orphans."""
    if not hasattr(os, "waitid"):  # macOS
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def stop_helper(helper: Any, pid_name: str) -> None:
    """Kill a helper process of multiprocessing with its descendants, and wait for it.

    Args:
        helper: The object that has started it.
        pid_name: Name of the attribute that holds its pid.
    """
    pid = getattr(helper, pid_name, None)
    if pid is not None and hasattr(helper, "_stop"):
        left = descendants(pid)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            # Killed, because the fork server takes long to exit after it has imported torch.
            os.kill(pid, signal.SIGKILL)
            helper._stop()  # noqa: SLF001 - there is no public way
        kill(left)
