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
from seer_nb._utils.processes import WORKER_CLOSED, end_process

if TYPE_CHECKING:
    from seer_nb.providers.base import SchedulerAddress


logger = logging.getLogger(__name__)


def serve(scheduler: SchedulerAddress, name: str, folder: str, environment: dict[str, str]) -> None:
    """Be a Dask worker until told to end, or until the runner dies."""
    os.environ.update(environment)
    # A group of its own, so that what a training function starts can be ended with it.
    os.setsid()
    _log_to(Path(folder) / "logs" / f"worker-{name}.log")
    log_context.of_worker(Path(folder).name, name)
    # Ctrl-C in a terminal is for the person's process, not for the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Modules that a training function imports when it runs; last, so that they hide nothing.
    sys.path.append(str(Path.cwd()))
    threading.Thread(target=_end_with_runner, name="seer-parent", daemon=True).start()
    try:
        asyncio.run(_work(scheduler, name, Path(folder) / "scratch"))
    except BaseException:
        logger.exception("the worker has failed")
    finally:
        # A training function may have left threads behind that would keep the process from ending.
        end_process(WORKER_CLOSED)


async def _work(scheduler: SchedulerAddress, name: str, scratch: Path) -> None:
    settings = {
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
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


def _end_with_runner() -> None:
    """End at once when the runner has died: whatever was reported is stored already."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    with contextlib.suppress(OSError):
        multiprocessing.connection.wait([parent.sentinel])
    logger.warning("the runner has ended, and this worker with it")
    end_process(WORKER_CLOSED)


def _log_to(path: Path) -> None:
    """Send all that the process prints to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # The fork server's streams are block-buffered copies of nothing: make them anew on the file.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
