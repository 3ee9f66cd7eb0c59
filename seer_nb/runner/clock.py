"""Study seconds: monotonic time in which a runner lives and the study is not paused."""

from __future__ import annotations

import time


class StudyClock:
    """Goes on from the seconds that were consumed before.

    Args:
        consumed_s: Study seconds at which the study stood when this runner took it up.
        since: Reading of time.monotonic() from which to count; it is common to all processes of a machine.
    """

    def __init__(self, consumed_s: float = 0.0, since: float | None = None) -> None:
        self._base_s = consumed_s
        self._since: float | None = time.monotonic() if since is None else since

    def now_s(self) -> float:
        """Study seconds now."""
        return self._base_s + (0.0 if self._since is None else time.monotonic() - self._since)

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
            self._since = time.monotonic()
