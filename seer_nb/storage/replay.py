"""Replay a journal into the state and history of its study."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from seer_nb import core
from seer_nb.core.history import History
from seer_nb.core.state import State
from seer_nb.errors import SeerError
from seer_nb.storage import snapshot
from seer_nb.storage.layout import with_present_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.storage.journal import Entry, Journal


class JournalView:
    """State and history of a study, kept up to date with its journal.

    `state` may be called from several threads. A reader that must see each record calls `load_snapshot` and `advance`
    instead, from one thread.

    Args:
        journal: The study's journal.
        use_snapshot: Whether to start from the journal's snapshot, if there is one, rather than from the first record.
    """

    def __init__(self, journal: Journal, *, use_snapshot: bool = True) -> None:
        self.journal = journal
        self._lock = threading.Lock()
        self._uses_snapshot = use_snapshot
        self.seq = 0
        """Number of the last record that the state includes."""
        self.snapshot_seq = 0
        """Number of the last record in the snapshot; 0 if no snapshot was used."""
        self._state: State | None = None
        self.history = History()
        """History up to the same record."""
        self.wall = 0.0
        """Unix seconds of the last record."""

    def state(self) -> State:
        """Return the state after the journal's newest record.

        Raises:
            SeerError: The journal is empty or damaged.
        """
        with self._lock:
            if self._state is None and self._uses_snapshot and self.load_snapshot() is not None:
                with snapshot.paused_gc():
                    self._catch_up()
            else:
                self._catch_up()
            if self._state is None:
                raise SeerError(f"{self.journal.path} is empty")
            return self._state

    def load_snapshot(self) -> State | None:
        """Start from the journal's snapshot; return its state, or None if there is no usable snapshot."""
        found = snapshot.load(self.journal)
        if found is None:
            return None
        self.seq = self.snapshot_seq = found.seq
        self._state, self.history = found.state, found.history
        # The store comes from the journal: the snapshot of a copied study names that of the original.
        self._state.settings = with_present_store(self.journal.settings(), self.journal.path.parent)
        self.wall = next(self.journal.read(found.seq - 1)).wall
        return self._state

    def advance(self) -> Iterator[tuple[Entry, State]]:
        """Apply the records that are new, and yield each one with the state after it.

        Raises:
            SeerError: The journal does not begin with settings, or a record does not follow from those before it.
        """
        for entry in self.journal.read(self.seq):
            if self._state is None:
                if not isinstance(entry.record, core.Began):
                    raise SeerError(f"{self.journal.path} does not begin with the study's settings")
                self._state = State(with_present_store(entry.record.settings, self.journal.path.parent))
            self._apply(self._state, entry)
            self.seq, self.wall = entry.seq, entry.wall
            yield entry, self._state

    def _catch_up(self) -> None:
        for _ in self.advance():
            pass

    def _apply(self, state: State, entry: Entry) -> None:
        try:
            state.apply(entry.record, entry.at_s)
            self.history.add(entry.record, state)
        except Exception as error:
            kind = type(entry.record).__name__
            raise SeerError(
                f"the journal {self.journal.path} cannot be read: "
                f"record {entry.seq} ({kind}) does not follow from those before it"
            ) from error
