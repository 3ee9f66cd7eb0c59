"""Study time, and the detection of suspensions of this process or computer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from seer_nb._utils.clock import LATE_TIMER_S, steady_s

if TYPE_CHECKING:
    from seer_nb.core.engine import Engine


SETTLE_S = 0.5
"""Seconds after a suspension in which messages are received before anything counts as lost."""


class StudyClock:
    """Study seconds: the time in which a runner lives and the study is not paused, by a monotonic clock.

    Args:
        consumed_s: Study seconds that earlier runners consumed.
        start_s: Reading of `steady_s` from which to count; None for now.
    """

    def __init__(self, consumed_s: float = 0.0, start_s: float | None = None) -> None:
        self._consumed_s = consumed_s
        self._since: float | None = steady_s() if start_s is None else start_s

    def now_s(self) -> float:
        """Return the study seconds now."""
        return self._consumed_s + (0.0 if self._since is None else steady_s() - self._since)

    @property
    def frozen(self) -> bool:
        """Whether the clock is stopped, as while the study is paused."""
        return self._since is None

    def freeze(self) -> None:
        """Stop the clock."""
        self._consumed_s, self._since = self.now_s(), None

    def thaw(self) -> None:
        """Start the clock again, if it is stopped."""
        if self._since is None:
            self._since = steady_s()


class SuspendGuard:
    """Detects that this process or computer was suspended, and delays decisions until messages have been received.

    During a suspension, messages collect in sockets and workers seem silent. For `SETTLE_S` after it, nothing is to be
    decided.

    Args:
        engine: Its silence timers are reset after a suspension.
        clock: Clock of the study.
    """

    def __init__(self, engine: Engine, clock: StudyClock) -> None:
        self._engine = engine
        self._clock = clock
        self._heartbeat_s = steady_s()
        """Reading of `steady_s` when this process was last known to run."""
        self._settled_s = 0.0
        """Reading of `steady_s` from which on decisions are allowed."""

    def heartbeat(self) -> None:
        """Record that this process runs now; whatever took long before this call was not a suspension."""
        self._heartbeat_s = steady_s()

    def remaining_s(self) -> float:
        """Return for how many seconds nothing is to be decided yet; not positive if decisions are allowed."""
        if steady_s() - self._heartbeat_s > LATE_TIMER_S:
            self.note_suspension()
        self.heartbeat()
        return self._settled_s - self._heartbeat_s

    def note_suspension(self) -> None:
        """Record that this process did not run until now."""
        self._settled_s = steady_s() + SETTLE_S
        # Reset silence timers: no message could arrive before then.
        self._engine.reset_silence_timers(self._clock.now_s() + SETTLE_S)

    async def settle(self) -> None:
        """Wait until the messages that came during a suspension have been received."""
        wait_s = self.remaining_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
