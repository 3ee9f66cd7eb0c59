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
import re
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from seer_nb import core
from seer_nb._utils.text import one_line, sentence, show
from seer_nb.errors import SeerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path


BESIDE = ("", "-journal", "-wal", "-shm")
"""Endings of the files that SQLite opens together."""
_PLAIN = re.compile(r"CREATE (?:TABLE|(?:UNIQUE )?INDEX)\b", re.IGNORECASE)
_COMPUTED = re.compile(r"\bAS\b|\bVIRTUAL\b", re.IGNORECASE)


def are_files(path: Path) -> bool:
    """Whether all that SQLite would open are files: it would wait for ever for somebody to write to a pipe."""
    every = (path.with_name(path.name + ending) for ending in BESIDE)
    return path.is_file() and all(each.is_file() for each in every if each.exists())


def holds_tables_only(db: sqlite3.Connection, needed: AbstractSet[str]) -> bool:
    """Whether a database has the tables that are needed, and nothing in it does more than hold something.

    Views, triggers and computed columns could do anything when a table is read, or take for ever. From now on nothing
    in it is called as a function.
    """
    db.execute("PRAGMA trusted_schema=OFF")
    made = db.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    tables = {name for kind, name, _ in made if kind == "table"}
    return tables >= needed and not any(_odd(kind, sql) for kind, _, sql in made)


def _odd(kind: object, sql: object) -> bool:
    """Whether there is more to a part of a database than what it holds."""
    if kind == "index" and sql is None:  # one that SQLite has made by itself
        return False
    # Not by its kind alone: SQLite goes by the statement, and both can be written by whoever makes the file.
    plain = kind in {"table", "index"} and isinstance(sql, str) and _PLAIN.match(sql)
    return not plain or _COMPUTED.search(str(sql)) is not None


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
_RECORD = msgspec.json.Decoder(core.Event | core.Action)
_COMMAND = msgspec.json.Decoder(core.Command)


class Entry(NamedTuple):
    """One record with its place and times."""

    seq: int
    at_s: float
    """Study seconds."""
    wall: float
    """Unix seconds."""
    record: core.Event | core.Action


class Journal:
    """One study's file. Safe to use from several threads; each process opens its own."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SeerError(f"there is no journal at {path}")
        if not are_files(path):
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
        if not holds_tables_only(self._db, _TABLES):
            raise SeerError(f"{self.path} is not a journal of seer_nb: it has other tables")
        # A commit survives the death of the process; only a power cut may take the last ones, never corrupt the file.
        self._db.execute("PRAGMA synchronous=NORMAL")
        version = self._db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
        if version is None or version[0] != str(SCHEMA_VERSION):
            found = show(version[0]) if version else "none"
            raise SeerError(f"{self.path} has journal schema {found}; this seer_nb reads schema {SCHEMA_VERSION}")

    @classmethod
    def create(cls, path: Path, records: Sequence[tuple[float, core.Event | core.Action]]) -> Journal:
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

    def append(self, records: Sequence[tuple[float, core.Event | core.Action]], taken: Sequence[int] = ()) -> None:
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

    def settings(self) -> core.Settings:
        """What the study was made with, wherever its folder was then.

        Raises:
            SeerError: It is no journal of a study.
        """
        rows = self._page(0, 1)
        with self._damage_told():
            record = _RECORD.decode(rows[0][-1]) if rows else None
        if not isinstance(record, core.Began):
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

    def send(self, command: core.Command) -> int:
        """Put a command into the runner's inbox; returns its number there."""
        row = time.time(), _encode(command).decode()
        with self._damage_told("written to"), self._lock:
            return int(self._db.execute("INSERT INTO inbox (wall, body) VALUES (?, ?)", row).lastrowid or 0)

    def inbox(self) -> list[tuple[int, core.Command | None]]:
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


def _command(body: str) -> core.Command | None:
    try:
        command: core.Command = _COMMAND.decode(body)
    except _DAMAGE as error:
        said = one_line(sentence(error))
        logger.warning("a command is not understood, perhaps that of another version: %s", said)
        return None
    return command


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{show(value)} is no time")
    return float(value)
