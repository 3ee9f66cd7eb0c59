"""Study seconds: time in which a runner lives and the study is not paused, by a clock that nobody sets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from seer_nb._utils.clock import steady_s

if TYPE_CHECKING:
    from collections.abc import Callable


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


OVERSLEPT_S = 1.0
"""A timer is late by so much only if the computer has slept."""
CATCH_UP_S = 0.5
"""For so long this process listens after it stood still, before it takes anything for lost that was only not heard."""


class SuspendGuard:
    """Watches one process.

    Args:
        noticed: Called when it has stood still, with the seconds for which nothing is to be decided from then on.
    """

    def __init__(self, noticed: Callable[[float], None]) -> None:
        self._noticed = noticed
        self._beat_s = steady_s()
        """When this process has last been seen running."""
        self._settled_s = 0.0
        """Reading of steady_s() from which on what was said while it stood still has been heard."""

    def beat(self) -> None:
        """It runs now, and nobody need ask what it did before."""
        self._beat_s = steady_s()

    def left_s(self) -> float:
        """For how long still nothing is to be decided, because this process, or the computer, has just stood still."""
        if steady_s() - self._beat_s > OVERSLEPT_S:
            self.begin()
        self.beat()
        return self._settled_s - self._beat_s

    def begin(self) -> None:
        """It has stood still until now."""
        self._settled_s = steady_s() + CATCH_UP_S
        self._noticed(CATCH_UP_S)

    async def over(self) -> None:
        """What was said while this process stood still lies in its sockets, and is heard before anything is decided."""
        wait_s = self.left_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
