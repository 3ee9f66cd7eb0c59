"""How runner and workers log: a record a line, as ``key=value`` pairs (logfmt), with what it is about.

What a training function prints is no log: it goes to its trial's file as it is.
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
"""What a record may be about, beside its study."""
_BARE = re.compile(r"[!#-<>-\[\]-~]+")
"""ASCII that is seen, but for what quotes, parts and escapes."""
_about: ContextVar[Mapping[str, object]] = ContextVar("seer_about")


@contextlib.contextmanager
def about(**ids: object) -> Iterator[None]:
    """What is logged within, also by tasks that are begun there, is about these."""
    token = _about.set({**_about.get({}), **ids})
    try:
        yield
    finally:
        _about.reset(token)


def ids_of(record: object) -> dict[str, object]:
    """Those that a record of the journal, or an order, has."""
    return {name: found for name in IDS if (found := getattr(record, name, None)) is not None}


class Line(logging.Formatter):
    """Makes the line.

    Args:
        fixed: What all records of this process are about, such as the study.
    """

    def __init__(self, **fixed: object) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in it."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pairs: dict[str, object] = {"time": at, "level": record.levelname.lower(), "logger": record.name}
        pairs |= {**self._fixed, **_about.get({}), "message": record.getMessage()}
        if record.exc_info:
            pairs["error"] = self.formatException(record.exc_info)
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in pairs.items())


def of_runner(study: str) -> None:
    """Have all that this process logs written to its standard error so."""
    handler = logging.StreamHandler()
    handler.setFormatter(Line(study=study))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(capture=True)


def of_worker(study: str, worker: str) -> None:
    """The same for what seer_nb and Dask log: other loggers are the training function's, to set up as it likes."""
    # The stream of now: while a function trains, sys.stderr is its trial's.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line(study=study, worker=worker))
    for name in ("seer_nb", "distributed"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)


def in_lines(text: str) -> str:
    """A log for a person to read: with its tracebacks on lines of their own."""
    return "\n".join(
        line.replace("\\n", "\n").replace('\\"', '"') if line.startswith("time=") else line for line in text.split("\n")
    )


def _quoted(value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    # json.dumps leaves some characters as they are that steer a terminal, such as U+009B.
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in quoted)
