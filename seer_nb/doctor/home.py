"""Whether the folder of studies can hold them: room, rights, locks, and SQLite's journal."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from seer_nb.core.units import show
from seer_nb.doctor.finding import Finding, brief
from seer_nb.errors import SeerError
from seer_nb.runner import files, sealing

if TYPE_CHECKING:
    from collections.abc import Iterator

ELSEWHERE = "set SEER_HOME to a folder on a local disk that is yours"
LITTLE_MB, TOO_LITTLE_MB = 2048, 200
_MB = 1024 * 1024


def check() -> Iterator[Finding]:
    """Look at SEER_HOME, or ./seer_studies; where it is to be made if it is not there."""
    home = files.home()
    place = next(path for path in (home, *home.parents) if _seen(path))
    try:
        with tempfile.TemporaryDirectory(prefix=".seer-doctor-", dir=place) as folder:
            yield Finding("home", "ok", f"{home} {'can be written to' if place == home else 'can be made'}")
            yield from _folder(Path(folder))
    except OSError as error:
        yield Finding("home", "problem", f"{place} cannot be written to ({error.strerror})", ELSEWHERE)
    if place == home:
        yield from _open_to_others(home)
    yield room("disk", place)
    yield from _key()


def _seen(path: Path) -> bool:
    """Whether it is there, and may be looked at."""
    try:
        return path.exists()
    except PermissionError:  # of a folder that it is in
        return False


def room(name: str, place: Path) -> Finding:
    """How much a disk still takes."""
    free_mb = shutil.disk_usage(place).free // _MB
    told = f"{free_mb / 1024:.1f} GiB are free at {place}"
    if free_mb < TOO_LITTLE_MB:
        return Finding(name, "problem", told, "make room before a study stops for lack of it")
    if free_mb < LITTLE_MB:
        return Finding(name, "warning", told, "make room, or give store= a place with more for checkpoints")
    return Finding(name, "ok", told)


def _folder(folder: Path) -> Iterator[Finding]:
    """Of a folder that was made as a study's is."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
        text = f"a folder made there for you alone has mode {stat.S_IMODE(found.st_mode):o} of user {found.st_uid}"
        yield Finding("rights", "problem", text, ELSEWHERE)
    else:
        yield Finding("rights", "ok", "a study's folder there is open to you alone (mode 700)")
    yield _locks(folder / "lock")
    yield _journal(folder / files.JOURNAL)


def _locks(path: Path) -> Finding:
    """Whether one who has a lock keeps others out: two runners of one study would both spend its money."""
    one, other = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for _ in range(2))
    try:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Finding("locks", "ok", "files there can be locked")
    except OSError as error:
        return Finding("locks", "problem", f"files there cannot be locked ({error.strerror})", ELSEWHERE)
    finally:
        os.close(one)
        os.close(other)
    return Finding("locks", "problem", "a lock on a file there keeps nobody out", ELSEWHERE)


def _journal(path: Path) -> Finding:
    """Whether one can write a journal while another reads it."""
    try:
        with closing(sqlite3.connect(path)) as writer, closing(sqlite3.connect(path)) as reader:
            (mode,) = writer.execute("PRAGMA journal_mode=WAL").fetchone()
            writer.execute("CREATE TABLE records (body TEXT)")
            with writer:
                writer.execute("INSERT INTO records VALUES ('whole')")
            (body,) = reader.execute("SELECT body FROM records").fetchone()
    except sqlite3.Error as error:
        return Finding("journal", "problem", f"SQLite cannot keep a journal there ({brief(error)})", ELSEWHERE)
    if (mode, body) != ("wal", "whole"):
        return Finding("journal", "problem", f"SQLite's journal there is of the mode {show(mode)}", ELSEWHERE)
    return Finding("journal", "ok", "SQLite keeps a journal there that others can read meanwhile (WAL)")


def _open_to_others(home: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"other users may write to {home} (mode {mode:o})"
        yield Finding("rights", "warning", text, f"chmod 700 {home}")


def _key() -> Iterator[Finding]:
    """Of the key that studies are sealed with. It is not made for this."""
    path = sealing.key_path()
    if _seen(path):
        try:
            sealing.own_key()
        except SeerError as error:
            yield Finding("key", "problem", str(error))
        return
    place = next(found for found in path.parents if _seen(found))
    if not os.access(place, os.W_OK | os.X_OK):
        text = f"the key {path}, with which studies are sealed, cannot be made"
        yield Finding("key", "problem", text, f"set {sealing.KEY_VARIABLE} to a file that only you can read")
