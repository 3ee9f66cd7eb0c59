"""End processes, and the exit codes by which workers say why they exited."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

LEASE_ENDED = 86
"""Exit code of a worker that ended itself because its runner was silent."""
WORKER_CLOSED = 87
"""Exit code of a worker whose Dask worker has closed, by itself or because its scheduler has."""


def end_process(code: int) -> NoReturn:
    """End this worker at once, and with it the processes that a training function has started."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(code)
