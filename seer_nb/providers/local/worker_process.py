"""The process of one local worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import dask
from distributed import Worker

from seer_nb._utils import log_context
from seer_nb._utils.processes import WORKER_CLOSED, exit_process
from seer_nb._utils.text import message_of
from seer_nb.providers._dask_options import UNMANAGED_MEMORY

if TYPE_CHECKING:
    from seer_nb.providers.base import SchedulerAddress


logger = logging.getLogger(__name__)


def serve(scheduler: SchedulerAddress, name: str, folder: str, environment: dict[str, str]) -> None:
    """Run a Dask worker until it closes or the runner dies.

    Args:
        scheduler: Address of the scheduler.
        name: Name of the worker, "<machine>.0".
        folder: Folder of the study.
        environment: Environment variables to set.
    """
    os.environ.update(environment)
    # A process group of its own, so that it can be killed with all that a training function starts.
    os.setsid()
    _redirect_output(Path(folder) / "logs" / f"worker-{name}.log")
    log_context.configure_worker(Path(folder).name, name)
    # Ctrl-C in a terminal stops the user's process, not the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # For modules that a training function imports when it runs; last, so that they hide no other modules.
    sys.path.append(str(Path.cwd()))
    threading.Thread(target=_exit_with_runner, name="seer-parent", daemon=True).start()
    scratch = Path(folder) / "scratch"
    try:
        asyncio.run(_run_worker(scheduler, name, scratch))
    except BaseException as error:
        logger.exception("worker failed")
        with contextlib.suppress(OSError):
            error_file(scratch, name).write_text(f"{type(error).__name__}: {message_of(error)}", errors="replace")
    finally:
        # A training function may have left threads behind that would keep the process alive.
        exit_process(WORKER_CLOSED)


def error_file(scratch: Path, name: str) -> Path:
    """Return the file in which a worker leaves the error that ended it."""
    return scratch / f"{name}.error"


async def _run_worker(scheduler: SchedulerAddress, name: str, scratch: Path) -> None:
    settings = {
        **{f"distributed.worker.memory.{name}": value for name, value in UNMANAGED_MEMORY.items()},
        "distributed.worker.profile.enabled": False,
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(settings):
        worker = Worker(
            scheduler.address,
            security=scheduler.security,
            name=name,
            nthreads=1,
            memory_limit=0,
            host="127.0.0.1",
            dashboard=False,
            local_directory=str(scratch),
            death_timeout=60,
        )
        await worker
        await worker.finished()


def _exit_with_runner() -> None:
    """Exit at once when the runner has died: reported checkpoints are already stored."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    with contextlib.suppress(OSError):
        multiprocessing.connection.wait([parent.sentinel])
    logger.warning("worker exits: the runner has exited")
    exit_process(WORKER_CLOSED)


def _redirect_output(path: Path) -> None:
    """Redirect the process's output to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # The streams inherited from the fork server are block-buffered and lead nowhere: replace them.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
