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
import zlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from seer_nb import foreign, saved
from seer_nb.core.units import one_line
from seer_nb.errors import sentence
from seer_nb.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from seer_nb.core.curve import Piece
    from seer_nb.core.state import State
    from seer_nb.history import History
    from seer_nb.journal import Journal

logger = logging.getLogger(__name__)
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
    schema = msgspec.json.encode(msgspec.json.schema(saved.Saved))
    return f"{FORMAT}-{hashlib.sha256(schema).hexdigest()[:16]}"


def load(journal: Journal) -> Found | None:
    """The study as the snapshot has it; None if there is none, or none that can be used."""
    path = path_of(journal)
    if not path.exists():
        return None
    if not foreign.are_files(path):
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
    shelf = Shelf(path, journal.read)
    told, seq, mark, crc, body = shelf.head()
    if told != version():
        raise ValueError("another version of seer_nb has written it")
    if journal.mark(seq) != mark:
        raise ValueError("it is of another journal")
    if zlib.crc32(body) != crc:
        raise ValueError("it is damaged")
    return Found(seq, *saved.decode(body, shelf.piece))


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
    fresh: list[tuple[Piece, int]] = []
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("BEGIN IMMEDIATE")

        def place(piece: Piece) -> int:
            if piece.place is not None:
                return piece.place
            row = zlib.crc32(piece.packed), piece.packed
            number = int(db.execute("INSERT INTO pieces (crc, body) VALUES (?, ?)", row).lastrowid or 0)
            fresh.append((piece, number))
            return number

        body = saved.encode(found.state, found.history, place)
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
