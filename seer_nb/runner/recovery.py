"""A study as its journal has it, for a runner that takes it up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.engine import Engine
from seer_nb.errors import SeerError
from seer_nb.storage.replay import View

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from seer_nb import core
    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.providers.base import Fleet, SchedulerAddress
    from seer_nb.runner.checkpoint_gc import Janitor
    from seer_nb.runner.gangs import DaskGangs
    from seer_nb.storage.journal import Journal


class Restored(NamedTuple):
    """What was found."""

    engine: Engine
    unsaved: int
    """Records that are in no snapshot."""
    fresh: bool
    """Whether no runner was before."""
    unseen_s: float
    """Seconds since the last record, which no runner has seen."""


def restore(journal: Journal, policy: Policy, janitor: Janitor) -> Restored:
    """Read it, from the last snapshot on if there is one, and tell the janitor.

    Raises:
        SeerError: It is no journal of a study.
    """
    view = View(journal)
    state = view.load_snapshot()
    if state is not None:
        janitor.resume(state)
    for entry, state in view.advance():
        janitor.note(state, entry.record)
    if state is None:
        raise SeerError(f"{journal.path} is empty")
    engine = Engine(state.settings, policy)
    engine.state = state
    fresh = view.seq == 1
    return Restored(engine, view.seq - view.resumed, fresh, 0.0 if fresh else _since(view.wall, state.settings.lease_s))


def _since(wall: float, lease_s: float) -> float:
    """Seconds since then; a lease if the clock was set back so far that nobody can tell."""
    seconds = time.time() - wall
    return seconds if seconds >= 0 else lease_s


class Found(NamedTuple):
    """What there was."""

    adopted: tuple[int, ...] = ()
    """Machines that go on."""
    left: tuple[int, ...] = ()
    """Machines that were told to go."""


class TakingOver:
    """Finds them.

    Args:
        state: The study's, as the earlier runner has left it.
        lasts: Whether the money suffices now for all machines to get new leases.
        fleet: Of the machines.
        gangs: Of their workers.
        connect: Joins a scheduler.
    """

    def __init__(
        self,
        state: State,
        lasts: Callable[[], bool],
        fleet: Fleet,
        gangs: DaskGangs,
        connect: Callable[[SchedulerAddress], Awaitable[None]],
    ) -> None:
        self._state = state
        self._lasts = lasts
        self._fleet = fleet
        self._gangs = gangs
        self._connect = connect

    async def find(self) -> Found:
        """Keep those that can go on, and have the others end."""
        ready = [machine for machine in self._state.live.values() if machine.state == "ready"] if self._lasts() else []
        scheduler, alive, left = await self._fleet.adopt([machine.id for machine in ready])
        if scheduler is None:
            return Found(left=left)
        await self._connect(scheduler)
        kept: list[core.Machine] = []
        # To say hello renews their leases, and they have cost more while the scheduler was joined.
        if self._lasts():
            await self._gangs.adopt()
            kept = [x for x in ready if x.id in alive and all(map(self._gangs.knows, x.workers))]
        useless = await self._end(set(alive) - {machine.id for machine in kept})
        if not self._lasts():
            # It took too long to find them.
            useless += await self._end(machine.id for machine in kept)
            kept = []
        return Found(tuple(machine.id for machine in kept), (*left, *useless))

    async def _end(self, machines: Iterable[int]) -> list[int]:
        ended = sorted(machines)
        if any(self._state.machines[machine].hosts for machine in ended):
            # A client whose scheduler goes first tries for seconds to reach it again.
            await self._gangs.disconnect()
        for machine in ended:
            await self._fleet.retire(machine, force=True)
        return ended
