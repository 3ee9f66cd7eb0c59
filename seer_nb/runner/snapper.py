"""Has snapshots of the journal written now and then, by a process of its own: the runner never waits for one.

``python -m seer_nb.runner.snapper FOLDER`` writes one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

from seer_nb import snapshots
from seer_nb.journal import Journal, View
from seer_nb.runner import files

logger = logging.getLogger(__name__)
EVERY = 10_000
"""Records between two: they are read in a quarter of a second, and one is written in seconds at the most."""
LOCK = "snapshot.lock"


class Snapper:
    """Counts records, and starts that process.

    Args:
        folder: The study's.
        since: Records that are not in a snapshot yet.
    """

    def __init__(self, folder: Path, since: int) -> None:
        self._folder = folder
        self._since = since
        self._process: subprocess.Popen[bytes] | None = None

    def written(self, count: int) -> None:
        """There are so many more records."""
        self._since += count
        if self._since >= EVERY and (self._process is None or self._process.poll() is not None):
            self._since = 0
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "seer_nb.runner.snapper", str(self._folder)],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                # The study goes on without: whoever opens it reads more records.
                logger.warning("no snapshot can be written", exc_info=True)


def write(folder: Path) -> int:
    """Write a snapshot of a study's journal as it is now; returns how many records it spares whoever opens it."""
    journal = Journal(folder / files.JOURNAL)
    try:
        view = View(journal)
        state = view.state()
        if view.seq > view.resumed:
            snapshots.save(journal, snapshots.Found(view.seq, state, view.history), anew=not view.resumed)
        return view.seq
    finally:
        journal.close()


def main(arguments: list[str]) -> int:
    """Write one, unless another process does."""
    folder = Path(arguments[0])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(0o077)
    os.nice(10)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        write(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
