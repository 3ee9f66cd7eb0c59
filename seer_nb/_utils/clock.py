"""A monotonic clock that keeps counting while the computer sleeps."""

from __future__ import annotations

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
LATE_TIMER_S = 1.0
"""Delay in seconds of a timer that only a suspended process or computer explains."""


def steady_s() -> float:
    """Return seconds of a clock that cannot be set and that counts while the computer sleeps.

    Remote machines keep running while this computer sleeps, so their leases and bills need such a clock; on Linux
    `time.monotonic()` stops meanwhile. All processes of this computer share the clock.
    """
    return time.clock_gettime(_STEADY)
