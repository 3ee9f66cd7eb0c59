"""SQLite files that somebody else may have made: looked at first, for reading one can mean running a program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
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
