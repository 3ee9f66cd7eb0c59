"""Monitors a running study: reports silent gangs and resource use, and bounds the size of log files."""

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

    from seer_nb.runner.context import StudyContext
    from seer_nb.runner.gangs import DaskGangs


logger = logging.getLogger(__name__)
CHECK_S = 0.5
"""Seconds between two checks for silent gangs, and between two checks of the logs."""


class Monitor:
    """Checks a study periodically; a failed check never ends the study.

    Args:
        study: The study; its queue gets one ``Silent`` event per silence.
        gangs: Asked where silent gangs are, and what workers use.
    """

    def __init__(self, study: StudyContext, gangs: DaskGangs) -> None:
        self._folder, self._state, self._clock, self._events = study
        self._gangs = gangs
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call has no earlier reading to compare with
        self._reported: dict[int, float] = {}
        """By gang: time of its last message when its silence was last reported."""

    async def watch(self) -> None:
        """Run all checks until cancelled."""
        try:
            await asyncio.gather(
                self._repeat(CHECK_S, self._bound_logs),
                self._repeat(CHECK_S, self._report_silent_gangs),
                self._repeat(resource_usage.EVERY_S, self._write_resource_use),
            )
        finally:
            (self._folder / resource_usage.FILE).unlink(missing_ok=True)

    async def _repeat(self, seconds: float, check: Callable[[], Awaitable[None]]) -> None:
        """Repeat a check; of consecutive failures only the first is logged as a warning."""
        failed = False
        while True:
            await asyncio.sleep(seconds)
            try:
                await check()
            except Exception:
                logger.log(logging.DEBUG if failed else logging.WARNING, "a check of the study failed", exc_info=True)
                failed = True
            else:
                failed = False

    async def _bound_logs(self) -> None:
        await asyncio.to_thread(log_files.limit_size, self._folder / layout.LOGS)

    async def _write_resource_use(self) -> None:
        own = resource_usage.WorkerUsage(self._process.cpu_percent(), self._process.memory_info().rss)
        used = await self._gangs.resource_use()
        resource_usage.write(self._folder, resource_usage.ResourceUsage(time.time(), own, used))

    async def _report_silent_gangs(self) -> None:
        if self._clock.frozen:
            return
        gangs = self._state.gangs
        self._reported = {gang: reported_s for gang, reported_s in self._reported.items() if gang in gangs}
        silent = liveness.silent_gangs(self._state, self._clock.now_s())
        unreported = [gang for gang in silent if self._reported.get(gang.id) != gang.last_message_s]
        await asyncio.gather(*map(self._report_silence, unreported))

    async def _report_silence(self, gang: core.Gang) -> None:
        where = await self._gangs.where_is_training(gang.id)
        current = self._state.gangs.get(gang.id)
        # The gang may have reported while its workers were asked.
        if current is not None and current.last_message_s == gang.last_message_s:
            self._reported[gang.id] = gang.last_message_s
            silent_s = self._clock.now_s() - gang.last_message_s
            self._events.put(core.Silent(gang=gang.id, silent_s=silent_s, where=where))
