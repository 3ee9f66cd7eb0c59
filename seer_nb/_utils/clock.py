"""A clock that nobody sets and that keeps counting while the computer sleeps."""

from __future__ import annotations

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_s() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the computer sleeps: machines elsewhere do not.

    It is common to all processes of this computer. ``time.monotonic()`` stands still meanwhile on Linux.
    """
    return time.clock_gettime(_STEADY)
