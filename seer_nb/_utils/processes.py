"""Exit of worker processes, and their exit codes."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

LEASE_ENDED = 86
"""Exit code of a worker whose lease expired because its runner was silent."""
WORKER_CLOSED = 87
"""Exit code of a worker whose Dask worker closed, by itself or because its scheduler closed."""


def exit_process(code: int) -> NoReturn:
    """Exit this process at once, after killing the processes that a training function has started."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(code)
