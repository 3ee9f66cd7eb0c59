"""The machines of a study as its runner sees them: from rental through leases to the end of their billing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from seer_nb import core
from seer_nb._utils.aio import BackgroundTasks
from seer_nb._utils.text import message_of
from seer_nb.providers.base import FleetContext
from seer_nb.runner.gangs import DaskGangs
from seer_nb.storage import layout
from seer_nb.worker import function

if TYPE_CHECKING:
    from seer_nb.core.money import Offer
    from seer_nb.core.state import State
    from seer_nb.providers.base import Fleet, Provider, SchedulerAddress
    from seer_nb.runner.clock import SuspendGuard
    from seer_nb.runner.context import StudyContext


logger = logging.getLogger(__name__)
FORGET_S = 1800.0
"""Seconds after a machine's end in which one of its workers may still reconnect and must not get a new lease."""


class _UnusableFleet:
    """Stands for the fleet that a provider could not make: the provider's error is raised when the fleet is opened."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def open(self) -> SchedulerAddress | None:
        raise self._error

    async def close(self) -> tuple[int, ...]:
        return ()


class MachineManager:
    """Rents and retires machines, renews their leases, and reports when each is ready and when it has ended.

    Args:
        study: The study.
        provider: Rents the machines.
        guard: Delays the ends of machines after a suspension of this process.
    """

    def __init__(self, study: StudyContext, provider: Provider, guard: SuspendGuard) -> None:
        self._folder, self._state, self._clock, self._events = study
        self._guard = guard
        self._tasks = BackgroundTasks("an action failed")
        self._delayed_ends: list[core.MachineEnded] = []
        """Ends that wait until the messages that came during a suspension have been received."""
        self._closing = False
        self.scheduler_machine: int | None = None
        """Machine that runs the scheduler to which the gangs are connected."""
        settings = study.state.settings
        context = FleetContext(
            study=settings.name, folder=study.folder, lease_s=settings.lease_s, on_ended=self.machine_ended
        )
        try:
            self.fleet: Fleet = provider.fleet(context)
        except Exception as error:  # noqa: BLE001 - the provider may be the user's code
            self.fleet = cast("Fleet", _UnusableFleet(error))
        self._shares_files = provider.shares_files
        logs = study.folder / layout.LOGS if self._shares_files else None
        self.gangs = DaskGangs(settings, self.fleet, self, logs)

    # --- rent and retire ---

    async def open(self) -> None:
        """Start the scheduler, unless it needs a machine of its own, which the engine rents later."""
        scheduler = await self.fleet.open()
        if scheduler is not None:
            await self.connect(scheduler)

    async def connect(self, scheduler: SchedulerAddress) -> None:
        """Connect to a scheduler, and have its workers load the training function."""
        await self.gangs.connect(scheduler, function.read(self._folder, shared=self._shares_files))

    def rent(self, action: core.Rent) -> None:
        """Rent a machine; it is reported as ready, or as ended if it could not be rented."""
        self._tasks.start(self._rent(action))

    def retire(self, action: core.Retire) -> None:
        """Terminate a machine; its end is reported."""
        self._tasks.start(self.terminate(action.machine, force=action.force))

    async def terminate(self, machine: int, *, force: bool) -> None:
        """Terminate a machine: with ``force`` also while its workers train."""
        if self._state.machines[machine].runs_scheduler:
            # A client that loses its scheduler first tries for seconds to reconnect.
            await self.gangs.disconnect()
        await self.fleet.retire(machine, force=force)

    async def close(self) -> tuple[int, ...]:
        """Terminate all machines, and report their ends without delay.

        Returns:
            Machines that may live on because they could not be terminated.
        """
        self._closing = True
        while self._delayed_ends:
            self._report_end(self._delayed_ends.pop(0))
        return await self.fleet.close()

    async def _rent(self, action: core.Rent) -> None:
        offer = self._state.offers[action.offer]
        try:
            if offer.workers_per_machine:
                await self.fleet.rent(action.machine, offer)
            else:
                await self._rent_scheduler_machine(action.machine, offer)
        except Exception as error:
            logger.warning("machine %s could not be rented", action.machine, exc_info=True)
            await self.fleet.discard(action.machine, message_of(error))

    async def _rent_scheduler_machine(self, machine: int, offer: Offer) -> None:
        scheduler = await self.fleet.boot_scheduler(machine, offer)
        if scheduler is None:
            return
        self.scheduler_machine = machine
        await self.connect(scheduler)
        self.gangs.renew_leases()
        self._report_ready(machine)

    # --- what machines and workers report ---

    def emit(self, event: core.Event) -> None:
        """Take an event from the gangs."""
        self._events.put(event)

    def worker_ready(self, worker: str) -> None:
        """Report the worker's machine as ready once all its workers are."""
        machine = self._state.machine_of(worker)
        if all(self.gangs.is_registered(name) for name in machine.workers):
            self._report_ready(machine.id)

    def worker_left(self, worker: str) -> None:
        """Have the fleet make sure that the machine of a lost worker ends."""
        machine = self._state.machine_of(worker)
        if machine.state == "ready":
            self._tasks.start(self.fleet.on_worker_lost(machine.id))

    def machine_ended(self, event: core.MachineEnded) -> None:
        """Report the end of a machine; after a suspension only when its last messages have been received."""
        wait_s = 0.0 if self._closing else self._guard.remaining_s()
        if wait_s > 0:
            self._delayed_ends.append(event)
            asyncio.get_running_loop().call_later(wait_s, self._end_delay, event)
        else:
            self._report_end(event)

    def _end_delay(self, event: core.MachineEnded) -> None:
        if event in self._delayed_ends:
            self._delayed_ends.remove(event)
            self.machine_ended(event)

    def _report_ready(self, machine: int) -> None:
        boot_s = self._clock.now_s() - self._state.machines[machine].rented_s
        self._events.put(core.MachineReady(machine=machine, boot_s=max(0.0, boot_s)))

    def _report_end(self, event: core.MachineEnded) -> None:
        self._events.put(event)
        self.gangs.machine_ended(event)
        # Not for the scheduler machine of an earlier runner: the gangs may be connected to another one by now.
        if event.machine == self.scheduler_machine:
            self._tasks.start(self.gangs.disconnect())

    # --- leases ---

    def can_afford_new_leases(self, unseen_s: float) -> bool:
        """Return whether the budget suffices for new leases of all machines that lived unseen for so many seconds."""
        return self._state.ledger.covers_new_leases(self._clock.now_s() + core.SLACK_S, unseen_s)

    async def keep_leases(self) -> None:
        """Renew leases, and report machines whose lease has expired, until cancelled."""
        while True:
            self.gangs.renew_leases(excluded=workers_without_lease(self._state))
            for event in expired_machines(self._state, self._clock.now_s()):
                self.machine_ended(event)
            await asyncio.sleep(self._state.settings.lease_s / 6)


def workers_without_lease(state: State) -> list[str]:
    """Return the workers of machines that are retiring, or that ended not long ago: their leases shall expire."""
    return [
        worker
        for machine in state.machines.values()
        if machine.state == "retiring" or (machine.ended_s is not None and state.now_s - machine.ended_s < FORGET_S)
        for worker in machine.workers
    ]


def expired_machines(state: State, now_s: float) -> list[core.MachineEnded]:
    """Return the ends of retiring machines whose lease has expired, even if their provider has not confirmed them.

    Args:
        state: State of the study.
        now_s: Study seconds.
    """
    ends = []
    for machine in state.live_machines.values():
        if machine.state != "retiring" or state.offers[machine.offer].billed_until_deleted:
            continue
        lives_s = state.ledger.alive_until_s(machine.id, now_s)
        if now_s > lives_s:
            lived_s = lives_s - machine.rented_s + machine.unseen_s
            reason = "no termination notice, but its lease has expired"
            ends.append(core.MachineEnded(machine=machine.id, expected=True, reason=reason, lived_s=lived_s))
    return ends
