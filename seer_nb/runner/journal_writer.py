"""Write-ahead journal: the runner's records are stored before its actions run. Snapshots are written beside it."""

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
from seer_nb.storage.replay import JournalView

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core.engine import Engine
    from seer_nb.core.state import State
    from seer_nb.runner.clock import StudyClock, SuspendGuard


logger = logging.getLogger(__name__)
RETRY_S = 0.25
"""Seconds between two attempts to write the journal on a full disk."""
SNAPSHOT_EVERY = 10_000
"""Records between two snapshots: reading them takes a quarter of a second, writing a snapshot at most seconds."""
LOCK = "snapshot.lock"
"""File in the study's folder that is locked while a snapshot is written."""


class JournalWriter:
    """Appends a runner's records to the journal of its study.

    Args:
        journal: Journal of the study.
        engine: Engine of the study; it knows how long a write may be retried.
        clock: Clock of the study.
        guard: Receives the seconds of each wait for the disk, in which no message was read.
    """

    def __init__(self, journal: Journal, engine: Engine, clock: StudyClock, guard: SuspendGuard) -> None:
        self._journal = journal
        self._engine = engine
        self._clock = clock
        self._guard = guard
        self._retries = True
        self._unwritten: list[core.Event] = []

    @property
    def is_behind(self) -> bool:
        """Whether the state contains events that could not be written: nothing may be decided on it any more."""
        return bool(self._unwritten)

    def stop_retrying(self) -> None:
        """Make only one attempt per write from now on, because the runner shuts down."""
        self._retries = False

    def begin(self, events: Sequence[core.Event]) -> None:
        """Note that the state is about to apply events, which the next `write` must contain."""
        if self._unwritten:
            raise RuntimeError("the journal lacks events that the state contains")
        self._unwritten = list(events)

    def write(self, records: Sequence[tuple[float, core.Event | core.Action]], taken: Sequence[int] = ()) -> None:
        """Append records in one transaction; on a full disk, wait and retry, but not beyond leases and limits.

        Args:
            records: Pairs of study seconds and record.
            taken: Numbers of commands in the inbox that the records answer.

        Raises:
            sqlite3.Error: The records could not be written.
        """
        end_s = steady_s() + self._patience_s()
        while True:
            try:
                self._journal.append(records, taken)
            except sqlite3.OperationalError as error:
                logger.warning("writing the journal failed, retrying: %s", error)
                if steady_s() > end_s:
                    raise
                time.sleep(RETRY_S)
                self._guard.note_suspension()
            else:
                self._unwritten = []
                return

    def write_undecided(self, events: Iterable[core.Event]) -> None:
        """Append events on which this runner decides nothing any more.

        If the state contains events that could not be written, the journal's own state counts, and of the unwritten
        events only ends of machines are appended.

        Args:
            events: What has happened.
        """
        now_s, state = self._clock.now_s(), self._engine.state
        if self._unwritten:
            events = [*(event for event in self._unwritten if isinstance(event, core.MachineEnded)), *events]
            state = JournalView(self._journal).state()
        records: list[tuple[float, core.Event | core.Action]] = []
        for event in events:
            if not isinstance(event, core.MachineEnded) or event.machine in state.machines:
                record = as_correction(state, event)
                records.append((now_s, record))
                state.apply(record, now_s)
        self.write(records)

    def _patience_s(self) -> float:
        """Seconds in which a write is retried: a lease at most, and not beyond the study's deadline and budget."""
        if not self._retries:
            return -1.0
        return min(self._engine.state.settings.lease_s, self._engine.force_retire_s() - self._clock.now_s())


def as_correction(state: State, event: core.Event) -> core.Event:
    """Turn a second end of a machine into a correction of its bill; return any other event as it is."""
    if not isinstance(event, core.MachineEnded) or event.machine in state.live_machines or event.lived_s is None:
        return event
    return core.MachineBilled(machine=event.machine, lived_s=event.lived_s)


class SnapshotWriter:
    """Starts a process that writes a snapshot after every `SNAPSHOT_EVERY` records.

    Args:
        folder: Folder of the study.
        n_new: Number of records that no snapshot contains yet.
    """

    def __init__(self, folder: Path, n_new: int) -> None:
        self._folder = folder
        self.n_new = n_new
        """Number of records that no snapshot contains, or is about to contain."""
        self.process: subprocess.Popen[bytes] | None = None
        """The process that was started last."""

    def count(self, records: int) -> None:
        """Count records that were written, and start a snapshot if one is due."""
        self.n_new += records
        if self.n_new >= SNAPSHOT_EVERY and (self.process is None or self.process.poll() is not None):
            self.n_new = 0
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "seer_nb.runner.journal_writer", str(self._folder)],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                # Not fatal: opening the study only takes longer.
                logger.warning("starting the process that writes a snapshot failed", exc_info=True)


def write_snapshot(folder: Path) -> int:
    """Write a snapshot of a study's journal; returns how many records readers can skip because of it."""
    journal = Journal(folder / layout.JOURNAL)
    try:
        view = JournalView(journal)
        state = view.state()
        if view.seq > view.snapshot_seq:
            snapshot.save(journal, snapshot.Snapshot(view.seq, state, view.history))
        return view.seq
    finally:
        journal.close()


def main(arguments: list[str]) -> int:
    """Write a snapshot of the study in the folder given, unless another process does so."""
    folder = Path(arguments[0])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(0o077)
    os.nice(10)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        write_snapshot(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
