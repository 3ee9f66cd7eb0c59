"""The journal as its runner keeps it: what the runner has in mind is acted on only once it is written down."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seer_nb import core
from seer_nb._utils.clock import steady_s
from seer_nb.storage import layout, snapshot
from seer_nb.storage.journal import Journal
from seer_nb.storage.replay import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from seer_nb.core.state import State


logger = logging.getLogger(__name__)
AGAIN_S = 0.25
"""How often the journal is tried again on a full disk."""


class JournalWriter:
    """Writes records down.

    Args:
        journal: The study's.
        patience_s: For how long a journal that cannot be written is tried again.
        waited: Called when it was waited for.
    """

    def __init__(self, journal: Journal, patience_s: Callable[[], float], waited: Callable[[], None]) -> None:
        self._journal = journal
        self._patience_s = patience_s
        self._waited = waited
        self._unwritten: list[core.Event] = []

    @property
    def behind(self) -> bool:
        """Whether the state has taken in what could not be written: nothing may be decided on that state any more."""
        return bool(self._unwritten)

    def open(self, events: Sequence[core.Event]) -> None:
        """The state begins to take events in; what follows is to be written next."""
        if self._unwritten:
            raise RuntimeError("the journal lacks what was taken in before")
        self._unwritten = list(events)

    def write(self, records: Sequence[tuple[float, core.Event | core.Action]], taken: Sequence[int] = ()) -> None:
        """Wait while the disk is full, for nothing is done that is not written down; not beyond leases and limits.

        Raises:
            sqlite3.Error: It could not be written.
        """
        end_s = steady_s() + self._patience_s()
        while True:
            try:
                self._journal.append(records, taken)
            except sqlite3.OperationalError as error:
                logger.warning("the journal cannot be written, which is tried again: %s", error)
                if steady_s() > end_s:
                    raise
                time.sleep(AGAIN_S)
                self._waited()
            else:
                self._unwritten = []
                return

    def add(self, events: Iterable[core.Event], now_s: float, state: State) -> None:
        """Write down what nothing is to be decided on any more.

        Args:
            events: What has happened.
            now_s: Study seconds.
            state: The study's. If it has taken in more than was written, what the journal makes of it counts, and what
                has ended by what was not written is added too.
        """
        if self._unwritten:
            events = [*(event for event in self._unwritten if isinstance(event, core.MachineEnded)), *events]
            state = View(self._journal).state()
        records: list[tuple[float, core.Event | core.Action]] = []
        for event in events:
            if not isinstance(event, core.MachineEnded) or event.machine in state.machines:
                records.append((now_s, told := news(state, event)))
                state.apply(told, now_s)
        self.write(records)


def news(state: State, event: core.Event) -> core.Event:
    """What a machine that was thought to have ended has really cost is not its end once more."""
    if not isinstance(event, core.MachineEnded) or event.machine in state.live or event.lived_s is None:
        return event
    return core.MachineBilled(machine=event.machine, lived_s=event.lived_s)


EVERY = 10_000
"""Records between two: they are read in a quarter of a second, and one is written in seconds at the most."""
LOCK = "snapshot.lock"


class SnapshotWriter:
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
                    [sys.executable, "-P", "-m", "seer_nb.runner.journal_writer", str(self._folder)],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                # The study goes on without: whoever opens it reads more records.
                logger.warning("no snapshot can be written", exc_info=True)


def write(folder: Path) -> int:
    """Write a snapshot of a study's journal as it is now; returns how many records it spares whoever opens it."""
    journal = Journal(folder / layout.JOURNAL)
    try:
        view = View(journal)
        state = view.state()
        if view.seq > view.resumed:
            snapshot.save(journal, snapshot.Snapshot(view.seq, state, view.history))
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
