"""Study seconds: time in which a runner lives and the study is not paused, by a clock that nobody sets."""

from __future__ import annotations

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_s() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the computer sleeps: machines elsewhere do not.

    It is common to all processes of this computer. ``time.monotonic()`` stands still meanwhile on Linux.
    """
    return time.clock_gettime(_STEADY)


class StudyClock:
    """Goes on from the seconds that were consumed before.

    Args:
        consumed_s: Study seconds at which the study stood when this runner took it up.
        since: Reading of steady_s() from which to count.
    """

    def __init__(self, consumed_s: float = 0.0, since: float | None = None) -> None:
        self._base_s = consumed_s
        self._since: float | None = steady_s() if since is None else since

    def now_s(self) -> float:
        """Study seconds now."""
        return self._base_s + (0.0 if self._since is None else steady_s() - self._since)

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return self._since is None

    def freeze(self) -> None:
        """Stand still."""
        self._base_s, self._since = self.now_s(), None

    def thaw(self) -> None:
        """Go on."""
        if self._since is None:
            self._since = steady_s()
