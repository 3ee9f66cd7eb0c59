"""The runner's process, started by `Study.start`: ``python -m seer_nb.runner FOLDER [--start-s SECONDS]``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from seer_nb._utils import log_context

TAKEN = 75
"""Exit code if another runner already drives the study."""


def main() -> int:
    """Drive the study in the folder given until it ends; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m seer_nb.runner")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start-s", type=float, default=None)
    arguments = parser.parse_args()
    log_context.configure_runner(arguments.folder.name)
    for name in ("distributed", "aiobotocore", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.umask(0o077)
    # An interrupt in the notebook is meant for its cell, not for the study.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from seer_nb.storage.lock import RunnerLock

    lock = RunnerLock(arguments.folder)
    if not lock.take():
        return TAKEN
    try:
        _preload_workers(arguments.folder)
        from seer_nb.runner.loop import Runner

        asyncio.run(Runner(arguments.folder, arguments.start_s).run())
    except Exception:
        logging.getLogger(__name__).exception("the runner failed")
        return 1
    return 0


def _preload_workers(folder: Path) -> None:
    """Start the process from which local workers are forked: its imports take longer than all else of the start."""
    from seer_nb.providers.local import Local, process_context
    from seer_nb.storage import layout

    if isinstance(layout.read_parts(folder)["provider"], Local):
        process_context()


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed by now. Finalizing the interpreter would take another half a second, or hang where a
    # library's exit handler waits for an event loop that has ended.
    os._exit(code)
