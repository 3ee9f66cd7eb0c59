"""The clock by which the lives of machines are measured."""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def age_s() -> float:
    """Seconds since some moment; they go on while this computer is suspended, where the system counts that."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
