"""A later runner takes a study over: it restores the state from the journal and adopts the machines that still live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.errors import SeerError
from seer_nb.storage.replay import JournalView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.runner.checkpoint_gc import CheckpointCollector
    from seer_nb.runner.machines import MachineManager
    from seer_nb.storage.journal import Journal


class Restored(NamedTuple):
    """A study as restored from its journal."""

    engine: Engine
    n_unsaved: int
    """Records that no snapshot contains."""
    fresh: bool
    """Whether no runner has driven the study before."""
    unseen_s: float
    """Seconds since the last record, in which no runner lived."""


def restore(journal: Journal, policy: Policy, collector: CheckpointCollector) -> Restored:
    """Restore a study from its journal, starting at the last snapshot if there is one.

    Args:
        journal: The study's journal.
        policy: The study's policy.
        collector: Records which checkpoints are stored.

    Raises:
        SeerError: The file is not the journal of a study.
    """
    view = JournalView(journal)
    state = view.load_snapshot()
    if state is not None:
        collector.restore(state)
    for entry, state in view.advance():
        collector.observe(state, entry.record)
    if state is None:
        raise SeerError(f"{journal.path} is empty")
    engine = Engine(state.settings, policy)
    engine.state = state
    fresh = view.seq == 1
    return Restored(
        engine, view.seq - view.snapshot_seq, fresh, 0.0 if fresh else _since(view.wall, state.settings.lease_s)
    )


def _since(wall: float, lease_s: float) -> float:
    """Return the seconds since a wall time; a whole lease if the clock was set back meanwhile."""
    seconds = time.time() - wall
    return seconds if seconds >= 0 else lease_s


class TakeOver:
    """Adopts the machines of an earlier runner that can be kept, and terminates the others.

    Args:
        state: State of the study as the earlier runner left it.
        machines: Machines of the study.
        unseen_s: Seconds in which no runner lived.
    """

    def __init__(self, state: State, machines: MachineManager, unseen_s: float) -> None:
        self._state = state
        self._machines = machines
        self._unseen_s = unseen_s

    async def run(self) -> core.RunnerStarted:
        """Return the first event of this runner, which names the machines adopted and those being terminated."""
        machines = self._machines
        machines.scheduler_machine = next(
            (machine.id for machine in self._state.live_machines.values() if machine.runs_scheduler), None
        )
        adopted, left = await self._adopt()
        if machines.scheduler_machine not in adopted:
            machines.scheduler_machine = None
        return core.RunnerStarted(unseen_s=self._unseen_s, adopted=adopted, retired=left)

    async def _adopt(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the machines adopted, and those being terminated."""
        ready = [m for m in self._state.live_machines.values() if m.state == "ready"] if self._can_afford() else []
        scheduler, alive, left = await self._machines.fleet.adopt([machine.id for machine in ready])
        if scheduler is None:
            return (), left
        await self._machines.connect(scheduler)
        kept: list[int] = []
        # Registering workers renews their leases, and connecting took time that has cost money: check again.
        if self._can_afford():
            await self._machines.gangs.register_workers()
            is_registered = self._machines.gangs.is_registered
            kept = [m.id for m in ready if m.id in alive and all(map(is_registered, m.workers))]
        terminated = await self._terminate(set(alive) - set(kept))
        if not self._can_afford():
            # Registering took too long.
            terminated += await self._terminate(kept)
            kept = []
        return tuple(kept), (*left, *terminated)

    def _can_afford(self) -> bool:
        return self._machines.can_afford_new_leases(self._unseen_s)

    async def _terminate(self, machines: Iterable[int]) -> list[int]:
        ended = sorted(machines)
        if any(self._state.machines[machine].runs_scheduler for machine in ended):
            # A client that loses its scheduler first tries for seconds to reconnect.
            await self._machines.gangs.disconnect()
        for machine in ended:
            await self._machines.fleet.retire(machine, force=True)
        return ended
