"""Looks now and then how a study gets on, and has it told when it does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from seer_nb.core import model as m
from seer_nb.core import stuck

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.state import State
    from seer_nb.runner.clock import StudyClock
    from seer_nb.runner.dask_gangs import DaskGangs

LOOK_S = 0.5


class Attendant:
    """Asks the members of gangs that are silent where they stand.

    Args:
        state: The study's.
        clock: Its time.
        gangs: What trains.
        emit: Takes the events.
    """

    def __init__(self, state: State, clock: StudyClock, gangs: DaskGangs, emit: Callable[[m.Event], None]) -> None:
        self._state = state
        self._clock = clock
        self._gangs = gangs
        self._emit = emit
        self._told: dict[int, float] = {}
        """By gang: since when it was silent when that was last told."""

    async def attend(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._clock.frozen:
                await self._look()

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
