"""Sends what a training function prints to the trial's log.

Only the thread that trains is diverted: a worker's other threads (Dask's, the lease's) keep its own output. A proxy
that looks at the thread does this, where contextlib.redirect_stdout would divert them all. What is written below
Python, to the file descriptors themselves, stays with the worker, and so does what the function's own threads print.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


LIMIT = 1024 * 1024
"""Bytes of a log; what comes after is dropped."""
NOTE = f"\n[seer_nb: this log is full ({LIMIT // 1024} KiB); the rest is dropped]\n".encode()


class Log:
    """A file of limited size, opened when something is written to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._left = LIMIT
        self._opened = False

    def write(self, text: str) -> None:
        """Append text, or drop it. Never raises: a full disk must not end a training."""
        with contextlib.suppress(OSError):
            if not self._opened:
                self._open()
            if self._file is None or self._left <= 0:
                return
            data = text.encode(errors="backslashreplace")
            if len(data) >= self._left:
                data = data[: self._left].decode(errors="ignore").encode() + NOTE
            self._left -= len(data)
            self._file.write(data)
            if "\n" in text:  # so that it can be followed while the trial runs
                self._file.flush()

    def flush(self) -> None:
        """Write out what is held back."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.flush()

    def close(self) -> None:
        """Close the file, if it was opened."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None

    def _open(self) -> None:
        self._opened = True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        self._left -= self._file.tell()


class _Diverted(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr: one thread's text goes to the log, the others' where it went before."""

    def __init__(self, original: TextIO, log: Log) -> None:
        self._original = original
        self._log: Log | None = log
        self._thread = threading.get_ident()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As of the log."""
        return "utf-8"

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str, /) -> int:
        """Write to where this thread's output belongs."""
        log = self._log
        if log is not None and threading.get_ident() == self._thread:
            log.write(text)
        else:
            self._original.write(text)
        return len(text)

    def flush(self) -> None:
        """Write out what is held back."""
        log = self._log
        if log is not None and threading.get_ident() == self._thread:
            log.flush()
        else:
            self._original.flush()

    def fileno(self) -> int:
        """Of the worker's own output, for child processes."""
        return self._original.fileno()

    def release(self) -> None:
        """From now on everything goes where it went before: a logging handler of the function may keep this."""
        self._log = None


@contextlib.contextmanager
def to_log(path: Path | None) -> Iterator[None]:
    """Divert what this thread prints to a file, appended; None leaves it."""
    if path is None:
        yield
        return
    log = Log(path)
    before = sys.stdout, sys.stderr
    diverted = _Diverted(sys.stdout, log), _Diverted(sys.stderr, log)
    sys.stdout, sys.stderr = diverted
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in diverted:
            stream.release()
        log.close()
