"""Logging of runner and workers: one record per line as `key=value` pairs (logfmt), with the ids of its subject.

Output that a training function prints is not logged; it goes unchanged to the file of its trial.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


IDS = ("trial", "gang", "rank", "machine")
"""Ids of a record's subject, besides its study."""
_UNQUOTED = re.compile(r"[!#-<>-\[\]-~]+")
"""Values that need no quotes: visible ASCII without quotation mark, equals sign and backslash."""
_context: ContextVar[Mapping[str, object]] = ContextVar("seer_log_context")


@contextlib.contextmanager
def log_ids(**ids: object) -> Iterator[None]:
    """Add ids to all records that are logged in this context, also by tasks that are created in it."""
    token = _context.set({**_context.get({}), **ids})
    try:
        yield
    finally:
        _context.reset(token)


def ids_of(record: object) -> dict[str, object]:
    """Return the ids that an object such as a record of the journal has."""
    return {name: found for name in IDS if (found := getattr(record, name, None)) is not None}


class LogfmtFormatter(logging.Formatter):
    """Formats a record as one line of `key=value` pairs.

    Args:
        fixed: Pairs of all records of this process, such as the study.
    """

    def __init__(self, **fixed: object) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pairs: dict[str, object] = {"time": at, "level": record.levelname.lower(), "logger": record.name}
        pairs |= {**self._fixed, **_context.get({}), "message": record.getMessage()}
        if record.exc_info:
            pairs["error"] = self.formatException(record.exc_info)
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in pairs.items())


def configure_runner(study: str) -> None:
    """Write all log records of this process to its standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogfmtFormatter(study=study))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(capture=True)


def configure_worker(study: str, worker: str) -> None:
    """Write log records of seer_nb and Dask to standard error; other loggers belong to the training function."""
    # Bound now, because sys.stderr leads to the trial's file while a function trains.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogfmtFormatter(study=study, worker=worker))
    for name in ("seer_nb", "distributed"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)


def expand_tracebacks(text: str) -> str:
    """Return a log with its tracebacks on several lines, for people to read."""
    return "\n".join(
        line.replace("\\n", "\n").replace('\\"', '"') if line.startswith("time=") else line for line in text.split("\n")
    )


def _quoted(value: str) -> str:
    if _UNQUOTED.fullmatch(value):
        return value
    # json.dumps does not escape all control characters of terminals, such as U+009B.
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in quoted)
