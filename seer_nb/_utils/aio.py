"""Background coroutines: tasks on the running event loop, and an event loop on its own thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine


logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class BackgroundTasks:
    """Background tasks on the running event loop.

    The tasks are referenced until they end, which asyncio does not do. Their exceptions are logged.

    Args:
        failed: Log message for a task that raises.
    """

    def __init__(self, failed: str) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine as a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def cancel(self) -> None:
        """Cancel all tasks that have not ended."""
        for task in self._tasks:
            task.cancel()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error(self._failed, exc_info=task.exception())


class LoopThread:
    """An event loop on its own thread, for coroutines that block their loop, as most of dask-cloudprovider's do."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="seer-cloud", daemon=True)
        self._thread.start()

    async def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the side loop and return its result; cancelling the caller cancels the coroutine."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def stop(self) -> None:
        """Stop the side loop after its current step."""
        self._loop.call_soon_threadsafe(self._loop.stop)
