"""Runs checks side by side, each with a limit of time, so that it always ends."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.doctor.finding import Finding, brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from seer_nb.doctor.finding import Check, Level

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
