"""Redirects what a training function prints to the trial's log.

Only the training thread is redirected: other threads of the worker (Dask's, the lease's) keep printing to its output.
contextlib.redirect_stdout would redirect them all. Output that bypasses Python's streams, and output of threads that
the function starts, stays in the worker's output.
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
"""Bytes of a log at most; further output is dropped."""
NOTE = f"\n[seer_nb: this log is full ({LIMIT // 1024} KiB); the rest is dropped]\n".encode()


class Log:
    """A file of limited size, opened at the first write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._left = LIMIT
        self._opened = False

    def write(self, text: str) -> None:
        """Append text, or drop it. Never raises: a full disk must not end the training."""
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
            if "\n" in text:  # so that users can follow the log while the trial runs
                self._file.flush()

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None

    def _open(self) -> None:
        self._opened = True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        self._left -= self._file.tell()


class _Redirected(io.TextIOBase):
    """Replaces sys.stdout or sys.stderr: one thread's text goes to the log, other threads' text to the original."""

    def __init__(self, original: TextIO, log: Log) -> None:
        self._original = original
        self._log: Log | None = log
        self._thread = threading.get_ident()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        log = self._log
        if log is not None and threading.get_ident() == self._thread:
            log.write(text)
        else:
            self._original.write(text)
        return len(text)

    def flush(self) -> None:
        log = self._log
        if log is not None and threading.get_ident() == self._thread:
            log.flush()
        else:
            self._original.flush()

    def fileno(self) -> int:
        """Return the file descriptor of the worker's own output, for child processes."""
        return self._original.fileno()

    def release(self) -> None:
        """Send all text to the original from now on: a logging handler of the function may have kept this stream."""
        self._log = None


@contextlib.contextmanager
def to_log(path: Path | None) -> Iterator[None]:
    """Append what this thread prints to a file; None leaves it in the worker's output."""
    if path is None:
        yield
        return
    log = Log(path)
    before = sys.stdout, sys.stderr
    redirected = _Redirected(sys.stdout, log), _Redirected(sys.stderr, log)
    sys.stdout, sys.stderr = redirected
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in redirected:
            stream.release()
        log.close()
