"""What a check has found, and what to do about it."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from seer_nb._utils.text import one_line
from seer_nb.storage.object_store import unnamed

if TYPE_CHECKING:
    from collections.abc import Sequence


Level: TypeAlias = Literal["ok", "warning", "problem"]
LONGEST = 400
"""Characters of what a library says that are repeated."""
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|ACCOUNT_KEY|API_KEY", re.IGNORECASE)
LEAST_SECRET = 6
"""Characters; what is shorter could be part of any word."""


class Finding(NamedTuple):
    """One line of the report."""

    check: str
    """What was looked at, in one word."""
    level: Level
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty where nothing is to be done."""

    @property
    def sentence(self) -> str:
        """Both, without anything secret, on one line."""
        return discreet(f"{self.text}: {self.advice}" if self.advice else self.text)


Check: TypeAlias = Callable[[], Iterator[Finding]]
"""Looks at one thing. Whatever it raises becomes a problem of its own."""


def discreet(text: str) -> str:
    """A text on one line, without the credentials that a URL in it, or this process's environment, holds."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= LEAST_SECRET:
            text = text.replace(value, "***")
    return one_line(unnamed(text))


def brief(error: BaseException) -> str:
    """What an error says, cut short."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


LIMIT_S = 26.0
"""For all of it."""


class Named(NamedTuple):
    """A check with its name."""

    name: str
    check: Check
    late: Level = "problem"
    """What it is when it has not ended in time."""
    advice: str = "run it again, and find out what does not answer"
    """For that."""


def examine(checks: Sequence[Named], limit_s: float = LIMIT_S) -> Iterator[Finding]:
    """What the checks find, in their order, each as soon as it and those before it have ended.

    Args:
        checks: They run on threads of their own, which nobody waits for at the end of the process.
        limit_s: What has not ended by then is given up, and told as such.
    """
    end_s = time.monotonic() + limit_s
    waiting = [(named, _begun(named)) for named in checks]
    for named, found in waiting:
        yield from _found(named, found, end_s, limit_s)


def _begun(named: Named) -> queue.SimpleQueue[Finding | None]:
    found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()
    threading.Thread(target=_run, args=(named, found), name=f"seer-doctor-{named.name}", daemon=True).start()
    return found


def _run(named: Named, found: queue.SimpleQueue[Finding | None]) -> None:
    try:
        for finding in named.check():
            found.put(finding)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other checks go on
        kind = type(error).__name__
        found.put(Finding(named.name, "problem", f"it could not be looked at: {kind}: {brief(error)}"))
    found.put(None)


def _found(named: Named, found: queue.SimpleQueue[Finding | None], end_s: float, limit_s: float) -> Iterator[Finding]:
    while True:
        try:
            finding = found.get(timeout=max(0.0, end_s - time.monotonic()))
        except queue.Empty:
            yield Finding(named.name, named.late, f"it has not ended within {limit_s:.0f} s", named.advice)
            return
        if finding is None:
            return
        yield finding
