"""Coroutines that run beside their maker."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine


logger = logging.getLogger(__name__)


class Background:
    """Tasks on the running loop: held until they have ended, for asyncio does not; what they raise is logged.

    Args:
        failed: What has happened when one of them raises.
    """

    def __init__(self, failed: str) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def go(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Begin to run it."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def cancel(self) -> None:
        """Cancel those that still run."""
        for task in self._tasks:
            task.cancel()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error(self._failed, exc_info=task.exception())


_T = TypeVar("_T")


class SideLoop:
    """Most of dask-cloudprovider's classes ask their cloud without letting the event loop go on meanwhile."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="seer-cloud", daemon=True)
        self._thread.start()

    async def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Have a coroutine run there; when this one is cancelled, so is that."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def stop(self) -> None:
        """Have it end as soon as what it does now is done."""
        self._loop.call_soon_threadsafe(self._loop.stop)
