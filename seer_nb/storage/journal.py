"""The journal of a study: an append-only SQLite file of records, with an inbox for commands to the runner.

Only the runner writes records. Any number of processes read them and put commands into the inbox; in WAL mode they
never block the runner.
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
from seer_nb._utils.text import message_of, one_line, short_repr
from seer_nb.errors import SeerError

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
_TABLES = {"meta", "records", "inbox"}
PAGE = 5000
"""Number of records per query."""
_encode = msgspec.json.Encoder().encode
_RECORD = msgspec.json.Decoder(core.Event | core.Action)
_COMMAND = msgspec.json.Decoder(core.Command)


class Entry(NamedTuple):
    """One record with its number and times."""

    seq: int
    at_s: float
    """Study seconds."""
    wall: float
    """Unix seconds."""
    record: core.Event | core.Action


class Journal:
    """The journal of one study. Threads may share an instance; every process opens its own.

    Args:
        path: The SQLite file.

    Raises:
        SeerError: There is no such file, or it is not a journal that this version can read.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SeerError(f"there is no journal at {path}")
        if not _are_files(path):
            raise SeerError(f"{path} is not a journal of seer_nb: something beside it is not a regular file")
        self.path = path
        self._lock = threading.Lock()
        with damage_as_error(path):
            self._db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def _open(self) -> None:
        if not _holds_plain_tables(self._db):
            raise SeerError(f"{self.path} is not a journal of seer_nb: it has other tables")
        # A commit survives the death of the process. A power cut may lose the last commits but never damages the file.
        self._db.execute("PRAGMA synchronous=NORMAL")
        version = self._db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
        if version is None or version[0] != str(SCHEMA_VERSION):
            found = short_repr(version[0]) if version else "none"
            raise SeerError(f"{self.path} has journal schema {found}; this seer_nb reads schema {SCHEMA_VERSION}")

    @classmethod
    def create(cls, path: Path, records: Sequence[tuple[float, core.Event | core.Action]]) -> Journal:
        """Create a journal that only its owner can read.

        Args:
            path: The file to create.
            records: The first records, as for `append`.
        """
        # Under another name first: readers must never find an incomplete journal, whenever this is interrupted.
        draft = path.with_name(f"{path.name}.new")
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        db = sqlite3.connect(draft, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(_SCHEMA)
        db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
        db.close()
        journal = cls(draft)
        journal.append(records)
        journal.close()
        draft.rename(path)
        return cls(path)

    def append(self, records: Sequence[tuple[float, core.Event | core.Action]], taken: Sequence[int] = ()) -> None:
        """Add records, and mark the commands that they carry out as taken, in one transaction.

        Args:
            records: Pairs of study seconds and a record.
            taken: Numbers of the commands in the inbox.

        Raises:
            sqlite3.Error: Nothing was written, for example because the disk is full.
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
                if self._db.in_transaction:  # some errors end the transaction themselves
                    self._db.execute("ROLLBACK")
                raise

    def read(self, after: int = 0) -> Iterator[Entry]:
        """Yield the records with a number above ``after``, in order."""
        while rows := self._page(after):
            with damage_as_error(self.path):
                for seq, at_s, wall, body in rows:
                    yield Entry(seq, _finite(at_s), _finite(wall), _RECORD.decode(body))
            after = rows[-1][0]
            if len(rows) < PAGE:
                return

    def settings(self) -> core.Settings:
        """Return the settings with which the study was created.

        Raises:
            SeerError: The first record holds no settings.
        """
        rows = self._page(0, 1)
        with damage_as_error(self.path):
            record = _RECORD.decode(rows[0][-1]) if rows else None
        if not isinstance(record, core.Began):
            raise SeerError(f"{self.path} does not begin with the study's settings")
        return record.settings

    def _page(self, after: int, limit: int = PAGE) -> list[tuple[int, float, float, str]]:
        query = "SELECT seq, at_s, wall, body FROM records WHERE seq > ? ORDER BY seq LIMIT ?"
        with damage_as_error(self.path), self._lock:
            return self._db.execute(query, (after, limit)).fetchall()

    def fingerprint(self, seq: int) -> str | None:
        """Return a hash of one record that only this journal and its copies have; None if there is no such record."""
        with damage_as_error(self.path), self._lock:
            row = self._db.execute("SELECT at_s, wall, body FROM records WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else hashlib.sha256(repr(row).encode()).hexdigest()

    def send(self, command: core.Command) -> int:
        """Put a command into the runner's inbox; return its number there."""
        row = time.time(), _encode(command).decode()
        with damage_as_error(self.path, "written to"), self._lock:
            return int(self._db.execute("INSERT INTO inbox (wall, body) VALUES (?, ?)", row).lastrowid or 0)

    def inbox(self) -> list[tuple[int, core.Command | None]]:
        """Return the commands that no runner has taken, oldest first; None represents an unknown command."""
        with damage_as_error(self.path), self._lock:
            rows = self._db.execute("SELECT id, body FROM inbox WHERE taken = 0 ORDER BY id").fetchall()
        return [(number, _command(body)) for number, body in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _command(body: str) -> core.Command | None:
    try:
        command: core.Command = _COMMAND.decode(body)
    except _DAMAGE as error:
        reason = one_line(message_of(error))
        logger.warning("ignored an unknown command, perhaps of another version of seer_nb: %s", reason)
        return None
    return command


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{short_repr(value)} is not a time")
    return float(value)


# --- untrusted files ---

_DAMAGE = (
    *(sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError, OverflowError),
    *(RecursionError, MemoryError),  # for content that is nested too deep, or too large
)
"""Errors from reading an untrusted file."""
_COMPANIONS = ("", "-journal", "-wal", "-shm")
"""Suffixes of the files that SQLite opens together."""
_PLAIN = re.compile(r"CREATE (?:TABLE|(?:UNIQUE )?INDEX)\b", re.IGNORECASE)
_COMPUTED = re.compile(r"\bAS\b|\bVIRTUAL\b", re.IGNORECASE)


@contextlib.contextmanager
def damage_as_error(path: Path, action: str = "read") -> Iterator[None]:
    """Turn whatever a damaged journal raises into one SeerError.

    Args:
        path: The journal's file.
        action: What failed, as a past participle: "read" or "written to".
    """
    try:
        yield
    except _DAMAGE as error:
        raise SeerError(f"the journal {path} cannot be {action}: {one_line(message_of(error))}") from error


def _are_files(path: Path) -> bool:
    """Return whether SQLite would open regular files only: it would wait forever for a writer to a named pipe."""
    companions = (path.with_name(path.name + suffix) for suffix in _COMPANIONS)
    return path.is_file() and all(each.is_file() for each in companions if each.exists())


def _holds_plain_tables(db: sqlite3.Connection) -> bool:
    """Return whether a database has a journal's tables, and otherwise nothing but plain tables and indexes.

    Views, triggers and computed columns could run functions, or never end, when a table is read. This also turns off
    functions in the schema for the connection.
    """
    db.execute("PRAGMA trusted_schema=OFF")
    items = db.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    tables = {name for kind, name, _ in items if kind == "table"}
    return tables >= _TABLES and all(_is_plain(kind, sql) for kind, _, sql in items)


def _is_plain(kind: object, sql: object) -> bool:
    """Return whether an item of a database's schema only stores data."""
    if kind == "index" and sql is None:  # an index that SQLite created itself
        return True
    # SQLite follows the statement, not the kind; the author of the file can make them contradict each other.
    plain = kind in {"table", "index"} and isinstance(sql, str) and _PLAIN.match(sql)
    return bool(plain) and _COMPUTED.search(str(sql)) is None
