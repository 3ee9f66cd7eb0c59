"""Redirects what a training function prints and logs to the trial's log.

Handlers of the worker's own loggers (seer_nb's, Dask's) are bound to the worker's output before. Output that bypasses
Python's streams, such as that of child processes, stays in the worker's output.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Buffer


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

    def write(self, data: bytes) -> None:
        """Append UTF-8 text, or drop it. Never raises: a full disk must not end the training."""
        with contextlib.suppress(OSError):
            if not self._opened:
                self._open()
            if self._file is None or self._left <= 0:
                return
            if len(data) >= self._left:
                data = data[: self._left].decode(errors="ignore").encode() + NOTE
            self._left -= len(data)
            self._file.write(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None

    def _open(self) -> None:
        self._opened = True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab", buffering=0)
        self._left -= self._file.tell()


class _Destination(io.BufferedIOBase):
    """Writes to the log of the trial that runs now in this process, or to the original stream while none runs.

    Streams of an earlier trial write there too, because a logging handler may have kept one.
    """

    def __init__(self, original: TextIO) -> None:
        self.original = original
        self.name = str(getattr(original, "name", "<stream>"))

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        data = bytes(data)
        if _log is not None:
            _log.write(data)
        else:
            self.original.write(data.decode(errors="replace"))
            self.original.flush()
        return len(data)

    def fileno(self) -> int:
        """Return the file descriptor of the worker's own output, for child processes."""
        return self.original.fileno()

    def close(self) -> None:
        """Do nothing: the handlers of later trials may write to it."""


class _Stream(io.TextIOWrapper):
    """A text stream like sys.stdout of a script whose output goes to a file."""

    mode = "w"

    def __init__(self, original: TextIO) -> None:
        # A line at a time, so that users can follow the log while the trial runs.
        super().__init__(_Destination(original), encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def close(self) -> None:
        """Flush only: the handlers of later trials may print to this stream."""
        with contextlib.suppress(ValueError):  # the function has detached it
            self.flush()


class _LastResort(logging.StreamHandler[TextIO]):
    """Prints records that no handler takes, as logging does, but also those of level INFO."""

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


_log: Log | None = None
"""The log of the trial that runs now in this process."""


@contextlib.contextmanager
def to_log(path: Path | None) -> Iterator[None]:
    """Append what is printed and logged to a file; None leaves it in the worker's output.

    The caller restores the settings of logging.
    """
    global _log  # noqa: PLW0603 - streams that were kept from an earlier trial find it here
    logging.lastResort = _LastResort()
    logging.root.setLevel(logging.INFO)
    if path is None:
        yield
        return
    before = sys.stdout, sys.stderr
    _log = log = Log(path)
    sys.stdout, sys.stderr = streams = _Stream(sys.stdout), _Stream(sys.stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr, *streams):  # the function may have replaced them
            with contextlib.suppress(Exception):
                stream.flush()
        sys.stdout, sys.stderr = before
        _log = None
        log.close()
