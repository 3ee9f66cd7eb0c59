"""The journal of a study: an append-only SQLite file, and the inbox for commands to its runner.

The runner is the only writer of records; any number of processes read them and put commands in. WAL mode lets
readers go on while the runner writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from seer_nb import foreign, snapshots
from seer_nb.core import model as m
from seer_nb.core.state import State
from seer_nb.core.units import one_line, show
from seer_nb.errors import SeerError, sentence
from seer_nb.history import History
from seer_nb.runner.files import placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE records (seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, wall REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE inbox (id INTEGER PRIMARY KEY, wall REAL NOT NULL, body TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0);
"""
PAGE = 5000
"""Records that are read at once."""
_TABLES = {"meta", "records", "inbox"}
_DAMAGE = (
    *(sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError, OverflowError),
    *(RecursionError, MemoryError),  # of what is nested too deep, or too large
)
"""What reading somebody else's file may raise."""
_encode = msgspec.json.Encoder().encode
_RECORD = msgspec.json.Decoder(m.Event | m.Action)
_COMMAND = msgspec.json.Decoder(m.Command)


class Entry(NamedTuple):
    """One record with its place and times."""

    seq: int
    at_s: float
    """Study seconds."""
    wall: float
    """Unix seconds."""
    record: m.Event | m.Action


class Journal:
    """One study's file. Safe to use from several threads; each process opens its own."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SeerError(f"there is no journal at {path}")
        if not foreign.are_files(path):
            raise SeerError(f"{path} is not a journal of seer_nb: what lies beside it is no file")
        self.path = path
        self._lock = threading.Lock()
        with self._damage_told():
            self._db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def _open(self) -> None:
        if not foreign.holds_tables_only(self._db, _TABLES):
            raise SeerError(f"{self.path} is not a journal of seer_nb: it has other tables")
        # A commit survives the death of the process; only a power cut may take the last ones, never corrupt the file.
        self._db.execute("PRAGMA synchronous=NORMAL")
        version = self._db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
        if version is None or version[0] != str(SCHEMA_VERSION):
            found = show(version[0]) if version else "none"
            raise SeerError(f"{self.path} has journal schema {found}; this seer_nb reads schema {SCHEMA_VERSION}")

    @classmethod
    def create(cls, path: Path, records: Sequence[tuple[float, m.Event | m.Action]]) -> Journal:
        """Make a new journal with its first records, readable by its owner only."""
        # Under another name: whoever finds a journal finds a whole one, whenever this was cut off.
        half_made = path.with_name(f"{path.name}.new")
        os.close(os.open(half_made, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        db = sqlite3.connect(half_made, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(_SCHEMA)
        db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
        db.close()
        half_made_journal = cls(half_made)
        half_made_journal.append(records)
        half_made_journal.close()
        half_made.rename(path)
        return cls(path)

    def append(self, records: Sequence[tuple[float, m.Event | m.Action]], taken: Sequence[int] = ()) -> None:
        """Add records, and mark the commands that they carry out, in one transaction.

        Raises:
            sqlite3.Error: They cannot be written, as on a full disk: then none of them is.
        """
        wall = time.time()
        rows = [(at_s, wall, _encode(record).decode()) for at_s, record in records]
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT INTO records (at_s, wall, body) VALUES (?, ?, ?)", rows)
                self._db.executemany("UPDATE inbox SET taken = 1 WHERE id = ?", [(number,) for number in taken])
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # some errors end it
                    self._db.execute("ROLLBACK")
                raise

    def read(self, after: int = 0) -> Iterator[Entry]:
        """Records with a sequence number above ``after``, in order."""
        while rows := self._page(after):
            with self._damage_told():
                for seq, at_s, wall, body in rows:
                    yield Entry(seq, _number(at_s), _number(wall), _RECORD.decode(body))
            after = rows[-1][0]
            if len(rows) < PAGE:
                return

    def settings(self) -> m.Settings:
        """What the study was made with, wherever its folder was then.

        Raises:
            SeerError: It is no journal of a study.
        """
        rows = self._page(0, 1)
        with self._damage_told():
            record = _RECORD.decode(rows[0][-1]) if rows else None
        if not isinstance(record, m.Began):
            raise SeerError(f"{self.path} does not begin with the study's settings")
        return record.settings

    def _page(self, after: int, most: int = PAGE) -> list[tuple[int, float, float, str]]:
        query = "SELECT seq, at_s, wall, body FROM records WHERE seq > ? ORDER BY seq LIMIT ?"
        with self._damage_told(), self._lock:
            return self._db.execute(query, (after, most)).fetchall()

    def mark(self, seq: int) -> str | None:
        """Of a record: the same only in this journal, or in a copy of it. None if there is no such record."""
        with self._damage_told(), self._lock:
            row = self._db.execute("SELECT at_s, wall, body FROM records WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else hashlib.sha256(repr(row).encode()).hexdigest()

    def send(self, command: m.Command) -> int:
        """Put a command into the runner's inbox; returns its number there."""
        row = time.time(), _encode(command).decode()
        with self._damage_told("written to"), self._lock:
            return int(self._db.execute("INSERT INTO inbox (wall, body) VALUES (?, ?)", row).lastrowid or 0)

    def inbox(self) -> list[tuple[int, m.Command | None]]:
        """Commands that no runner has carried out yet, oldest first; None for one that this version does not know."""
        with self._damage_told(), self._lock:
            rows = self._db.execute("SELECT id, body FROM inbox WHERE taken = 0 ORDER BY id").fetchall()
        return [(number, _command(body)) for number, body in rows]

    @contextlib.contextmanager
    def _damage_told(self, what: str = "read") -> Iterator[None]:
        """One sentence for whatever is wrong with the file."""
        try:
            yield
        except _DAMAGE as error:
            raise SeerError(f"the journal {self.path} cannot be {what}: {one_line(sentence(error))}") from error

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._db.close()


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
        found = snapshots.load(self.journal)
        if found is not None:
            self.seq = self.resumed = found.seq
            self._state, self.history = found.state, found.history
            # Not the snapshot's: in that of a copy, the store was placed already.
            self._state.settings = placed(self.journal.settings(), self.journal.path.parent)
            self.wall = next(self.journal.read(found.seq - 1)).wall
            with snapshots.uncollected():
                self._catch_up()

    def _catch_up(self) -> None:
        for entry in self.journal.read(self.seq):
            if self._state is None:
                if not isinstance(entry.record, m.Began):
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


def _command(body: str) -> m.Command | None:
    try:
        command: m.Command = _COMMAND.decode(body)
    except _DAMAGE as error:
        said = one_line(sentence(error))
        logger.warning("a command is not understood, perhaps that of another version: %s", said)
        return None
    return command


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{show(value)} is no time")
    return float(value)
