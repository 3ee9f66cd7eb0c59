"""Snapshots of a journal: state and history after one of its records, so that not all of them must be read again.

They lie in a file of their own beside the journal, so that nothing the runner writes ever waits for one, and so that
losing or damaging it loses nothing: whoever cannot use it reads the journal from its first record.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
import sqlite3
import threading
import zlib
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from seer_nb._utils.text import one_line, sentence
from seer_nb.core.curve import CHUNK, Chunk
from seer_nb.core.state import State
from seer_nb.storage import journal, snapshot_codec
from seer_nb.storage import journal as journal_files
from seer_nb.storage.snapshot_codec import Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from seer_nb import core
    from seer_nb.core.history import History
    from seer_nb.storage.journal import Entry, Journal


logger = logging.getLogger(__name__)
TABLES = frozenset({"head", "pieces"})


class ChunkStore:
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
        if not journal.holds_tables_only(self._db, TABLES):
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

    def piece(self, place: int) -> Chunk:
        """The piece at a place."""
        return Chunk(partial(self._read, place), place)

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
        return Chunk.of(self._anew.trials[trial].curve[first : first + size]).packed

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


def _settings(record: core.Event | core.Action) -> core.Settings:
    found: core.Settings = record.settings  # type: ignore[union-attr] # the first one is Began
    return found


FORMAT = 2
"""To be raised when the same records lead to another state than before."""
_SCHEMA = """
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), version TEXT NOT NULL, seq INTEGER NOT NULL,
    mark TEXT NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE pieces (place INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL);
"""


class Found(NamedTuple):
    """A study as a snapshot has it."""

    seq: int
    """Of the last record that is in it."""
    state: State
    history: History


def path_of(journal: Journal) -> Path:
    """Where the snapshot of a journal lies."""
    return journal.path.with_suffix(".snapshot")


@cache
def version() -> str:
    """Differs when a snapshot of another seer_nb cannot be read."""
    schema = msgspec.json.encode(msgspec.json.schema(snapshot_codec.Saved))
    return f"{FORMAT}-{hashlib.sha256(schema).hexdigest()[:16]}"


def load(journal: Journal) -> Found | None:
    """The study as the snapshot has it; None if there is none, or none that can be used."""
    path = path_of(journal)
    if not path.exists():
        return None
    if not journal_files.are_files(path):
        logger.warning("%s is no file, all records are read instead", path)
        return None
    try:
        with uncollected():
            return _load(path, journal)
    except Exception as error:  # noqa: BLE001 - nothing that is in it is needed, whatever is wrong with it
        said = one_line(sentence(error))
        logger.warning("%s cannot be used, all records are read instead: %s", path, said)
        return None


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """While many objects are made that all stay, looking for garbage among them takes longer than making them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _load(path: Path, journal: Journal) -> Found:
    shelf = ChunkStore(path, journal.read)
    told, seq, mark, crc, body = shelf.head()
    if told != version():
        raise ValueError("another version of seer_nb has written it")
    if journal.mark(seq) != mark:
        raise ValueError("it is of another journal")
    if zlib.crc32(body) != crc:
        raise ValueError("it is damaged")
    return Found(seq, *snapshot_codec.decode(body, shelf.piece))


def save(journal: Journal, found: Found, *, anew: bool) -> None:
    """Write a snapshot in the place of the one before, whole or not at all.

    Args:
        journal: Whose it is.
        found: What is to be in it; it must not change meanwhile.
        anew: Whether it does not follow from the one before, which could not be used.

    Raises:
        OSError, sqlite3.Error: It cannot be written.
        OverflowError: There is a number that has no place in it.
    """
    path = path_of(journal)
    if anew:
        _create(path)
    mark = journal.mark(found.seq)
    fresh: list[tuple[Chunk, int]] = []
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("BEGIN IMMEDIATE")

        def place(piece: Chunk) -> int:
            if piece.place is not None:
                return piece.place
            row = zlib.crc32(piece.packed), piece.packed
            number = int(db.execute("INSERT INTO pieces (crc, body) VALUES (?, ?)", row).lastrowid or 0)
            fresh.append((piece, number))
            return number

        body = snapshot_codec.encode(found.state, found.history, place)
        row = version(), found.seq, mark, zlib.crc32(body), body
        db.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?, ?)", row)
        db.execute("COMMIT")
    for piece, number in fresh:
        piece.place = number


def _create(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        # Whoever reads it does not wait for whoever writes it.
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(_SCHEMA)
