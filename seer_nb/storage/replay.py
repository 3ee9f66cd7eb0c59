"""Replay a journal into the state and history of its study."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from seer_nb import core
from seer_nb.core.history import History
from seer_nb.core.state import State
from seer_nb.errors import SeerError
from seer_nb.storage import snapshot
from seer_nb.storage.layout import placed

if TYPE_CHECKING:
    from seer_nb.storage.journal import Entry, Journal


class View:
    """State and history of a study, kept up with its journal.

    Args:
        journal: The study's.
        resume: Whether to begin with its snapshot, if there is one, instead of its first record.
    """

    def __init__(self, journal: Journal, *, resume: bool = True) -> None:
        self.journal = journal
        self._lock = threading.Lock()
        self._resumes = resume
        self.seq = 0
        """Of the last record that the state has taken in."""
        self.resumed = 0
        """Of the last record that was in the snapshot; 0: none was used."""
        self._state: State | None = None
        self.history = History()
        """Of what the state has taken in."""
        self.wall = 0.0
        """Unix seconds of the last record."""

    def state(self) -> State:
        """The newest state. Raises SeerError for a journal without its first record."""
        with self._lock:
            if self._state is None and self._resumes:
                self._resume()
            self._catch_up()
            if self._state is None:
                raise SeerError(f"{self.journal.path} is empty")
            return self._state

    def _resume(self) -> None:
        found = snapshot.load(self.journal)
        if found is not None:
            self.seq = self.resumed = found.seq
            self._state, self.history = found.state, found.history
            # Not the snapshot's: in that of a copy, the store was placed already.
            self._state.settings = placed(self.journal.settings(), self.journal.path.parent)
            self.wall = next(self.journal.read(found.seq - 1)).wall
            with snapshot.uncollected():
                self._catch_up()

    def _catch_up(self) -> None:
        for entry in self.journal.read(self.seq):
            if self._state is None:
                if not isinstance(entry.record, core.Began):
                    raise SeerError(f"{self.journal.path} does not begin with the study's settings")
                self._state = State(placed(entry.record.settings, self.journal.path.parent))
            self._take(self._state, entry)
            self.seq, self.wall = entry.seq, entry.wall

    def _take(self, state: State, entry: Entry) -> None:
        try:
            state.apply(entry.record, entry.at_s)
            self.history.note(entry.record, state)
        except Exception as error:
            what = type(entry.record).__name__
            raise SeerError(
                f"the journal {self.journal.path} cannot be read: its record {entry.seq}, {what}, "
                "does not follow from those before it"
            ) from error
