"""Findings of the doctor, and how its checks run."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from seer_nb._utils.text import one_line
from seer_nb.storage.object_store import without_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence


Level: TypeAlias = Literal["ok", "warning", "problem"]
MAX_ERROR_CHARACTERS = 400
"""Characters of a library's error message that a finding repeats."""
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|ACCOUNT_KEY|API_KEY", re.IGNORECASE)
MIN_SECRET_CHARACTERS = 6
"""Characters of the shortest value that is redacted; a shorter one could be part of any word."""
TIME_LIMIT_S = 26.0
"""Seconds for all checks together."""


class Finding(NamedTuple):
    """One line of the report."""

    check: str
    """Subject of the check, in one word."""
    level: Level
    text: str
    """The finding, in a sentence without a full stop."""
    advice: str = ""
    """What to do; empty if nothing is to be done."""

    @property
    def sentence(self) -> str:
        """Text and advice on one line, without secrets."""
        return redact(f"{self.text}: {self.advice}" if self.advice else self.text)


Check: TypeAlias = Callable[[], Iterator[Finding]]
"""Function that yields findings about one subject. An exception becomes a finding, too."""


def redact(text: str) -> str:
    """Remove credentials in URLs and of this process's environment from a text, and put it on one line."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= MIN_SECRET_CHARACTERS:
            text = text.replace(value, "***")
    return one_line(without_credentials(text))


def shorten(error: BaseException) -> str:
    """Return an error's message on one line, cut to MAX_ERROR_CHARACTERS."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message if len(message) <= MAX_ERROR_CHARACTERS else f"{message[:MAX_ERROR_CHARACTERS]}..."


class NamedCheck(NamedTuple):
    """A check with its name."""

    name: str
    check: Check
    timeout_level: Level = "problem"
    """Level of the finding when the check does not end in time."""
    timeout_advice: str = "run seer-nb doctor again, and find out what does not answer"
    """Advice of the finding when the check does not end in time."""


def run_checks(checks: Sequence[NamedCheck], limit_s: float = TIME_LIMIT_S) -> Iterator[Finding]:
    """Run checks at the same time; yield their findings in the order of the checks.

    Args:
        checks: The checks. Each runs on a daemon thread, so that a hung check does not block the exit.
        limit_s: Seconds until a check that has not ended is abandoned and reported.
    """
    end_s = time.monotonic() + limit_s
    started = [(named, _start(named)) for named in checks]
    for named, found in started:
        yield from _findings(named, found, end_s, limit_s)


def _start(named: NamedCheck) -> queue.SimpleQueue[Finding | None]:
    found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()
    threading.Thread(target=_run, args=(named, found), name=f"seer-doctor-{named.name}", daemon=True).start()
    return found


def _run(named: NamedCheck, found: queue.SimpleQueue[Finding | None]) -> None:
    try:
        for finding in named.check():
            found.put(finding)
    except Exception as error:  # noqa: BLE001 - the other checks must continue
        kind = type(error).__name__
        found.put(Finding(named.name, "problem", f"the check failed: {kind}: {shorten(error)}"))
    found.put(None)


def _findings(
    named: NamedCheck, found: queue.SimpleQueue[Finding | None], end_s: float, limit_s: float
) -> Iterator[Finding]:
    while True:
        try:
            finding = found.get(timeout=max(0.0, end_s - time.monotonic()))
        except queue.Empty:
            yield Finding(named.name, named.timeout_level, f"not finished after {limit_s:.0f} s", named.timeout_advice)
            return
        if finding is None:
            return
        yield finding
