"""Looks after a study while it runs: tells when it does not get on, and what it uses, and keeps its logs small."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import psutil

from seer_nb import core
from seer_nb.core import liveness
from seer_nb.storage import layout, log_files, resource_usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from seer_nb.core.state import State
    from seer_nb.runner.clock import StudyClock
    from seer_nb.runner.gangs import DaskGangs


logger = logging.getLogger(__name__)
LOOK_S = 0.5


class Monitor:
    """Asks the members of gangs that are silent where they stand, and looks how long the logs are.

    Args:
        folder: The study's.
        state: The study's.
        clock: Its time.
        gangs: What trains.
        emit: Takes the events.
    """

    def __init__(
        self, folder: Path, state: State, clock: StudyClock, gangs: DaskGangs, emit: Callable[[core.Event], None]
    ) -> None:
        self._folder = folder
        self._state = state
        self._clock = clock
        self._gangs = gangs
        self._emit = emit
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first time, it has nothing to compare with
        self._told: dict[int, float] = {}
        """By gang: since when it was silent when that was last told."""

    async def attend(self) -> None:
        """Until it is cancelled."""
        try:
            await asyncio.gather(
                self._every(LOOK_S, self._bound_logs),
                self._every(LOOK_S, self._look),
                self._every(resource_usage.EVERY_S, self._tell_use),
            )
        finally:
            (self._folder / resource_usage.FILE).unlink(missing_ok=True)

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        """Nothing of this is worth ending a study for: what fails is logged, once in a row, and tried again."""
        failed = False
        while True:
            await asyncio.sleep(seconds)
            try:
                await act()
            except Exception:
                logger.log(logging.DEBUG if failed else logging.WARNING, "the study's attendant failed", exc_info=True)
                failed = True
            else:
                failed = False

    async def _tell_use(self) -> None:
        own = resource_usage.Use(self._process.cpu_percent(), self._process.memory_info().rss)
        resource_usage.write(self._folder, resource_usage.Vitals(time.time(), own, await self._gangs.used()))

    async def _bound_logs(self) -> None:
        await asyncio.to_thread(log_files.bound, self._folder / layout.LOGS)

    async def _look(self) -> None:
        if self._clock.frozen:
            return
        gangs = self._state.gangs
        self._told = {gang: heard_s for gang, heard_s in self._told.items() if gang in gangs}
        found = liveness.silent(self._state, self._clock.now_s())
        news = [gang for gang in found if self._told.get(gang.id) != gang.heard_s]
        await asyncio.gather(*map(self._tell, news))

    async def _tell(self, gang: core.Gang) -> None:
        where = await self._gangs.standing(gang.id)
        now = self._state.gangs.get(gang.id)
        # It may have reported while it was asked.
        if now is not None and now.heard_s == gang.heard_s:
            self._told[gang.id] = gang.heard_s
            self._emit(core.Silent(gang=gang.id, silent_s=self._clock.now_s() - gang.heard_s, where=where))
