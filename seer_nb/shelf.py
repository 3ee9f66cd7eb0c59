"""The pieces of curves in a snapshot's file, each read when it is asked for."""

from __future__ import annotations

import logging
import sqlite3
import threading
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from seer_nb import foreign
from seer_nb.core.curve import CHUNK, Piece
from seer_nb.core.state import State
from seer_nb.saved import Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from seer_nb.core import model as m
    from seer_nb.journal import Entry

logger = logging.getLogger(__name__)
TABLES = frozenset({"head", "pieces"})


class Shelf:
    """A snapshot's file, kept open: what was found there stays readable when another one takes its place.

    Args:
        path: Of the file.
        records: Those of its journal, for pieces that are damaged.

    Raises:
        sqlite3.Error: It is none.
        ValueError: There is more in it than what a snapshot holds.
    """

    def __init__(self, path: Path, records: Callable[[], Iterator[Entry]]) -> None:
        self._path = path
        self._records = records
        self._lock = threading.Lock()
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30, check_same_thread=False)
        # The head of a snapshot that somebody else has made could be a view without an end.
        if not foreign.holds_tables_only(self._db, TABLES):
            self._db.close()
            raise ValueError("it has other tables")
        self._seq, self._body = 0, b""
        self._anew: State | None = None
        """All of it, once a piece was found damaged."""

    def head(self) -> tuple[Any, ...]:
        """(version, seq, mark, crc, body) as they are now. Raises LookupError if there are none."""
        with self._lock:
            row = self._db.execute("SELECT version, seq, mark, crc, body FROM head").fetchone()
        if row is None:
            raise LookupError("it is empty")
        self._seq, self._body = row[1], row[4]
        return tuple(row)

    def piece(self, place: int) -> Piece:
        """The piece at a place."""
        return Piece(partial(self._read, place), place)

    def _read(self, place: int) -> bytes:
        try:
            with self._lock:
                row = self._db.execute("SELECT crc, body FROM pieces WHERE place = ?", (place,)).fetchone()
            if row is not None and zlib.crc32(row[1]) == row[0]:
                return bytes(row[1])
        except (sqlite3.Error, TypeError):  # TypeError: there is something else than bytes
            logger.debug("piece %d cannot be read", place, exc_info=True)
        return self._mended(place)

    def _mended(self, place: int) -> bytes:
        """A piece that was lost, from the journal's records."""
        if self._anew is None:
            logger.warning("%s is damaged: all records are read instead", self._path)
            self._anew = self._replayed()
        trial, number, size = self._where(place)
        first = CHUNK * number
        return Piece.of(self._anew.trials[trial].curve[first : first + size]).packed

    def _where(self, place: int) -> tuple[int, int, int]:
        """(trial, number of the piece in its curve, its reports)."""
        for each in msgspec.msgpack.decode(self._body, type=Saved).trials:
            curve = each.curve
            if curve is None:
                continue
            if place in curve.pieces:
                return each.trial.id, curve.pieces.index(place), CHUNK
            if curve.rest == place:
                return each.trial.id, len(curve.pieces), curve.size
        raise LookupError(f"no curve has a piece {place}")

    def _replayed(self) -> State:
        state: State | None = None
        for entry in self._records():
            if entry.seq > self._seq:
                break
            state = State(_settings(entry.record)) if state is None else state
            state.apply(entry.record, entry.at_s)
        assert state is not None
        return state


def _settings(record: m.Event | m.Action) -> m.Settings:
    found: m.Settings = record.settings  # type: ignore[union-attr] # the first one is Began
    return found
