"""An event loop on a thread of its own, for coroutines that block now and then."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

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
