"""Looks after a study while it runs: tells when it does not get on, and what it uses, and keeps its logs small."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

import psutil

from seer_nb import vitals
from seer_nb.core import model as m
from seer_nb.core import stuck
from seer_nb.runner import files, log_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from seer_nb.core.state import State
    from seer_nb.runner.clock import StudyClock
    from seer_nb.runner.dask_gangs import DaskGangs

logger = logging.getLogger(__name__)
LOOK_S = 0.5


class Attendant:
    """Asks the members of gangs that are silent where they stand, and looks how long the logs are.

    Args:
        folder: The study's.
        state: The study's.
        clock: Its time.
        gangs: What trains.
        emit: Takes the events.
    """

    def __init__(
        self, folder: Path, state: State, clock: StudyClock, gangs: DaskGangs, emit: Callable[[m.Event], None]
    ) -> None:
        self._folder = folder
        self._state = state
        self._clock = clock
        self._gangs = gangs
        self._emit = emit
        self._process = psutil.Process()
        self._told: dict[int, float] = {}
        """By gang: since when it was silent when that was last told."""

    async def attend(self) -> None:
        """Until it is cancelled."""
        try:
            await asyncio.gather(self._watch(), self._tell_use())
        finally:
            (self._folder / vitals.FILE).unlink(missing_ok=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self._bound_logs)
            if not self._clock.frozen:
                await self._look()

    async def _tell_use(self) -> None:
        self._process.cpu_percent()  # the first time, it has nothing to compare with
        while True:
            await asyncio.sleep(vitals.EVERY_S)
            own = vitals.Use(self._process.cpu_percent(), self._process.memory_info().rss)
            # A full disk is no reason to end.
            with contextlib.suppress(OSError):
                vitals.write(self._folder, vitals.Vitals(time.time(), own, await self._gangs.used()))

    def _bound_logs(self) -> None:
        try:
            log_files.bound(self._folder / files.LOGS)
        except OSError:
            logger.debug("the logs could not be looked at", exc_info=True)

    async def _look(self) -> None:
        gangs = self._state.gangs
        self._told = {gang: heard_s for gang, heard_s in self._told.items() if gang in gangs}
        found = stuck.silent(self._state, self._clock.now_s())
        news = [gang for gang in found if self._told.get(gang.id) != gang.heard_s]
        await asyncio.gather(*map(self._tell, news))

    async def _tell(self, gang: m.Gang) -> None:
        where = await self._gangs.standing(gang.id)
        now = self._state.gangs.get(gang.id)
        # It may have reported while it was asked.
        if now is not None and now.heard_s == gang.heard_s:
            self._told[gang.id] = gang.heard_s
            self._emit(m.Silent(gang=gang.id, silent_s=self._clock.now_s() - gang.heard_s, where=where))
