"""A monotonic clock that keeps counting while the computer sleeps."""

from __future__ import annotations

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_s() -> float:
    """Return seconds of a clock that cannot be set and that counts while the computer sleeps.

    Remote machines keep running while this computer sleeps, so their leases and bills need such a clock; on Linux
    `time.monotonic()` stops meanwhile. All processes of this computer share the clock.
    """
    return time.clock_gettime(_STEADY)
