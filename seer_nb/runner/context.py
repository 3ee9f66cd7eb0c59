"""State that the parts of a runner share: folder, engine state, clock, and the queue of events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from seer_nb import core
    from seer_nb.core.state import State
    from seer_nb.runner.clock import StudyClock


MAX_BATCH = 200
"""Events that the loop takes at once, before it writes their records and runs their actions."""


class EventQueue:
    """Events in the order in which they happened; filled and emptied on the event loop."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[core.Event | None] = asyncio.Queue()
        """None wakes the loop without an event."""

    def put(self, event: core.Event) -> None:
        self._queue.put_nowait(event)

    def wake(self) -> None:
        """Wake the loop, so that it recomputes its timeout."""
        self._queue.put_nowait(None)

    async def next_batch(self, timeout_s: float | None) -> list[core.Event]:
        """Wait for an event or a wake-up, and take what is there, at most `MAX_BATCH`.

        Args:
            timeout_s: Seconds to wait; None waits without limit.

        Returns:
            The events, oldest first; none after a mere wake-up.

        Raises:
            TimeoutError: Nothing came in time.
        """
        async with asyncio.timeout(timeout_s):
            taken = [await self._queue.get()]
        while not self._queue.empty() and len(taken) < MAX_BATCH:
            taken.append(self._queue.get_nowait())
        return [event for event in taken if event is not None]

    def drain(self) -> list[core.Event]:
        """Remove and return all queued events."""
        events = []
        while not self._queue.empty():
            event = self._queue.get_nowait()
            if event is not None:
                events.append(event)
        return events


class StudyContext(NamedTuple):
    """The study of a runner."""

    folder: Path
    state: State
    """State of the study; only the engine changes it."""
    clock: StudyClock
    events: EventQueue
    """Takes events for the loop."""
