"""Garbage collection of checkpoints: finds and removes those that neither a trial nor the study's best needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from seer_nb import core
from seer_nb._utils.retry import LONGEST_PAUSE_S, PAUSE_S
from seer_nb._utils.text import message_of
from seer_nb.storage import checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seer_nb.core.state import State


logger = logging.getLogger(__name__)
PATIENCE_S = 45.0
"""Seconds of pauses after which failed removals wait for the next checkpoint that is removed, or for the end."""
RECENT = 3
"""Newest checkpoints of a trial that an earlier runner may have had no time to remove."""


class CheckpointCollector:
    """Records which checkpoints are stored, and finds those that can be removed.

    Live trials keep the best one, the latest and the one before; other trials only the study's best.
    """

    def __init__(self) -> None:
        self._stored: dict[int, set[str]] = {}
        """Paths of the stored checkpoints by trial."""
        self._touched: set[int] = set()
        """Trials whose checkpoints must be checked again."""
        self._best: int | None = None
        """The study's best trial."""

    def restore(self, state: State) -> None:
        """Start from a snapshot's state, without the records before it."""
        best = state.best
        self._best = None if best is None else best.id
        for trial in state.trials.values():
            if trial.resume is not None:
                # An earlier runner may have died before it removed the last ones.
                last = {report.checkpoint for report in trial.curve[-RECENT:] if report.checkpoint}
                self._stored[trial.id] = last | _kept(state, trial, self._best)
                self._touched.add(trial.id)

    def observe(self, state: State, record: core.Event | core.Action) -> None:
        """Take a record into account that the state has applied already."""
        if isinstance(record, core.Reported) and record.checkpoint:
            gang = state.gangs.get(record.gang) or state.ended_gangs.get(record.gang)
            if gang is not None:
                self._stored.setdefault(gang.trial, set()).add(record.checkpoint)
                self._touched.add(gang.trial)
        elif isinstance(record, core.EndTrial):
            self._touched.add(record.trial)
        elif isinstance(record, core.GangEnded) and record.gang in state.ended_gangs:
            # A trial that ended while its gang trained has kept two checkpoints until now.
            self._touched.add(state.ended_gangs[record.gang].trial)

    def removable(self, state: State) -> list[str]:
        """Return the paths, relative to the store, of checkpoints that can be removed now."""
        best = state.best
        if best is not None and best.id != self._best:
            # The former best trial may have kept its checkpoint only for being the best.
            self._touched |= {best.id} if self._best is None else {best.id, self._best}
            self._best = best.id
        removable: list[str] = []
        for trial in self._touched:
            stored = self._stored.get(trial, set())
            unneeded = stored - _kept(state, state.trials[trial], self._best)
            stored -= unneeded
            removable += sorted(unneeded)
        self._touched.clear()
        return removable


class CheckpointRemover:
    """Removes checkpoints in a thread; failed removals are repeated.

    Args:
        store: Folder or fsspec URL of the checkpoints.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._left: dict[str, str] = {}
        """Why the last attempt failed, by path of each checkpoint that is still to be removed."""
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def remove(self, paths: Iterable[str]) -> None:
        """Remove checkpoints, given as paths relative to the store, together with those left from earlier calls."""
        new = dict.fromkeys(paths, "")
        self._left |= new
        if new and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._try_repeatedly())

    async def close(self) -> None:
        """Try once more, and log which checkpoints are left."""
        self._closing.set()
        if self._task is not None:
            await self._task
        if self._left:
            await self._try()
        if self._left:
            why = next(iter(self._left.values()))
            logger.warning("checkpoints not removed from %s: %s: %s", self._store, ", ".join(sorted(self._left)), why)

    async def _try_repeatedly(self) -> None:
        pause_s, waited_s = PAUSE_S, 0.0
        await self._try()
        while self._left and waited_s < PATIENCE_S and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._closing.wait()
            waited_s, pause_s = waited_s + pause_s, min(LONGEST_PAUSE_S, 2 * pause_s)
            await self._try()

    async def _try(self) -> None:
        tried = list(self._left)
        failed = await asyncio.to_thread(_remove_each, self._store, tried)
        self._left = failed | {path: why for path, why in self._left.items() if path not in tried}


def _remove_each(store: str, paths: Iterable[str]) -> dict[str, str]:
    """Remove checkpoints; return why that failed, by path."""
    failed: dict[str, str] = {}
    for path in paths:
        try:
            checkpoints.remove(store, [path])
        except Exception as error:  # noqa: BLE001 - every file system has its own exceptions
            failed[path] = message_of(error)
    return failed


def _kept(state: State, trial: core.Trial, best: int | None) -> set[str]:
    kept = [trial.best] if trial.id == best or trial.alive or trial.state == "completed" else []
    # A gang that still trains may read its checkpoint, whatever was decided about its trial.
    if trial.alive or trial.gang in state.gangs:
        kept += [trial.resume, trial.fallback]
    return {report.checkpoint for report in kept if report is not None and report.checkpoint}
