"""The runner's process: ``python -m seer_nb.runner FOLDER [--since SECONDS]``; started by Study.start."""

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
"""Exit code when another runner drives the study already."""


def main() -> int:
    """Drive the study in the folder given."""
    parser = argparse.ArgumentParser(prog="python -m seer_nb.runner")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--since", type=float, default=None)
    arguments = parser.parse_args()
    log_context.of_runner(arguments.folder.name)
    for name in ("distributed", "aiobotocore", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.umask(0o077)
    # A notebook's interrupt is for the cell, not for the study.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from seer_nb.storage.lock import RunnerLock

    lock = RunnerLock(arguments.folder)
    if not lock.take():
        return TAKEN
    from seer_nb.runner.loop import Runner

    try:
        asyncio.run(Runner(arguments.folder, arguments.since).run())
    except Exception:
        logging.getLogger(__name__).exception("the runner has failed")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is closed by now. Taking the interpreter apart as well would keep whoever waits for half a second, and for
    # ever where a library's exit waits for an event loop that has ended.
    os._exit(code)
