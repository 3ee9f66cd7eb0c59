"""The machines of one study on a cloud, which only needs to create, find and delete machines."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from seer_nb._utils.aio import LoopThread
from seer_nb._utils.clock import steady_s
from seer_nb._utils.files import write_atomically
from seer_nb._utils.text import message_of
from seer_nb.providers._fleet import MachineFleet, RentedMachine
from seer_nb.providers.base import Adopted, SchedulerAddress
from seer_nb.providers.vm import tls
from seer_nb.providers.vm.bootstrap import is_listening, scheduler_url

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.vm import VMProvider
    from seer_nb.providers.vm.launcher import VMLauncher


logger = logging.getLogger(__name__)
FILE = "machines.json"
"""Name of the file that lists the machines that may exist, for a later runner."""
POLL_S, MAX_POLL_S = 0.5, 30.0
"""Seconds between two checks of a machine that is being deleted: usually, and at most after errors."""
DELETE_AGAIN_S = 60.0
"""Seconds after which a machine that still exists is deleted again."""
RECHECK_S = 5.0
"""Seconds after which a machine that was not launched is looked up again: a cloud's answers may lag behind."""
SCHEDULER_POLL_S, SCHEDULER_TIMEOUT_S = 5.0, 60.0
"""Seconds between two connections to the scheduler, and without a successful one until the scheduler counts as lost."""
CLEAN_UP_TIMEOUT_S = 60.0
"""Seconds that the cloud may take to remove what was created beside the machines."""
NO_CAPACITY = (
    "AllocationFailed",
    "No valid host",
    "RESOURCE_POOL_EXHAUSTED",
    "SkuNotAvailable",
    "resource_unavailable",
)
"""Words in clouds' error messages that mean that there is no capacity."""


class MachineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a machine that a later runner needs."""

    machine: int
    rented: float
    """Unix time of the rent, in seconds: no other clock runs on from one runner to the next."""
    ident: str = ""
    """Ident of the study that launched the machine: the file in a copy of a study lists another study's machines."""


class VM(RentedMachine):
    """One machine, until it has been deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.rented_unix_s = time.time()
        self.vm: Any = None
        """The machine object of dask-cloudprovider; None before it is made."""
        self.addresses = ("", "")
        """Addresses as other machines reach it, and as this computer does; empty before its launch."""
        self.launched = False
        """Whether the cloud has confirmed the launch."""
        self.inherited = False
        """Whether an earlier runner launched it."""

    @classmethod
    def from_record(cls, record: MachineRecord) -> VM:
        """Return a machine that an earlier runner has left behind; its termination counts as requested."""
        found = cls()
        found.rented_unix_s, found.inherited, found.launching = record.rented, True, False
        found.rented_at_s -= max(0.0, time.time() - record.rented)
        found.mark_ending()
        return found


class VMFleet(MachineFleet[VM]):
    """Launches and deletes machines with the classes of dask-cloudprovider; lifetimes are measured by the local clock.

    Running machines are not watched: a machine is lost when its worker has left the scheduler, or when the scheduler
    cannot be reached. The machines of an earlier runner are deleted.

    Cloud packages may block, so the launcher runs on the event loop of another thread.

    Args:
        context: What the fleet knows about its study.
        provider: The provider that the user configured.
    """

    end_timeout_s = 180.0

    def __init__(self, context: FleetContext, provider: VMProvider) -> None:
        super().__init__(context, VM)
        self._provider = provider
        self._file = tls.load(context.folder)
        self.side_loop = LoopThread()
        """Runs the launcher."""
        self.launcher: VMLauncher[Any] | None = None
        self._preparing = asyncio.Lock()
        self._scheduler_url = ""
        """Address of the scheduler as workers reach it."""

    # --- the protocol ---

    async def open(self) -> None:
        """Start nothing: the engine rents the scheduler machine."""

    async def adopt(self, machines: Collection[int]) -> Adopted:  # noqa: ARG002 - none can be kept
        """Delete all machines of an earlier runner; the study continues with new machines."""
        left = {record.machine: VM.from_record(record) for record in self._read_records()}
        self.rented |= left
        for machine, rented in left.items():
            await self._end(machine, rented, force=True)
        return Adopted(terminating=tuple(left))

    async def boot_scheduler(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        rented = await self._rent(machine, offer)
        self._scheduler_url, outer = (scheduler_url(address) for address in rented.addresses)
        while self._is_wanted(machine, rented):
            if await is_listening(outer):
                self.tasks.start(self._watch_scheduler(machine, rented, outer))
                return SchedulerAddress(outer, self._file.pem.security())
            await asyncio.sleep(POLL_S)
        return None

    # --- launching ---

    async def _open_launcher(self) -> VMLauncher[Any]:
        async with self._preparing:
            if self.launcher is None:

                async def make() -> VMLauncher[Any]:
                    launcher = self._provider.launcher(self.context.study, self._file)
                    await launcher.open()
                    return launcher

                self.launcher = await self.side_loop.run(make())
            return self.launcher

    async def _launch(self, machine: int, rented: VM, offer: Offer) -> None:
        def make(launcher: VMLauncher[Any]) -> Any:
            if offer.workers_per_machine:
                return launcher.worker(machine, offer, self._scheduler_url)
            return launcher.scheduler(machine, offer)

        launcher = await self._open_launcher()
        rented.vm = await self.side_loop.run(_call(make, launcher))
        self._write_records()
        async with asyncio.timeout(offer.boot_timeout_s):
            rented.addresses = await self.side_loop.run(launcher.create(rented.vm))
        rented.launched = True

    def _is_scarce(self, error: Exception) -> bool:
        return any(word in message_of(error) for word in NO_CAPACITY)

    # --- deleting ---

    async def _end(self, machine: int, rented: VM, *, force: bool) -> None:  # noqa: ARG002 - machines hold no state
        if not rented.launching:
            self.tasks.start(self._delete(machine, rented))

    async def _delete(self, machine: int, rented: VM) -> None:
        """Delete a machine and report its end when it is gone: then its billing has ended."""
        existed = (rented.inherited or rented.vm is not None) and await self._delete_until_gone(machine, rented)
        # Nobody knows whether a missing inherited machine ever existed, and when it was deleted.
        self.report_ended(machine, lived_s=rented.lived_s() if existed else None if rented.inherited else 0.0)
        self._write_records()

    async def _delete_until_gone(self, machine: int, rented: VM) -> bool:
        """Delete a machine, again if needed, until it is gone; return whether it existed."""
        existed = confirmed = rented.launched
        deleted_s, pause_s = float("-inf"), POLL_S
        while True:
            try:
                launcher, vm = await self._find(machine, rented)
                if not await self.side_loop.run(launcher.exists(vm)):
                    if confirmed:
                        return existed
                    confirmed, pause_s = True, RECHECK_S
                elif steady_s() - deleted_s > DELETE_AGAIN_S:
                    existed = confirmed = True
                    await self.side_loop.run(launcher.delete(vm))
                    deleted_s = steady_s()
            except Exception as error:  # noqa: BLE001 - every cloud has its own exceptions
                logger.warning("machine %s not deleted yet: %r", machine, error)
                pause_s = min(MAX_POLL_S, 2 * pause_s)
            await asyncio.sleep(pause_s)

    async def _find(self, machine: int, rented: VM) -> tuple[VMLauncher[Any], Any]:
        """Return the launcher and the object that delete a machine, also one that another runner launched."""
        launcher = await self._open_launcher()
        if rented.vm is None:
            offer = self._provider.offers()[0]
            rented.vm = await self.side_loop.run(_call(lambda found: found.worker(machine, offer), launcher))
        return launcher, rented.vm

    def _write_records(self) -> None:
        """Write the list of machines that may exist."""
        existing = {machine: x for machine, x in self.rented.items() if x.inherited or x.vm is not None}
        records = [
            MachineRecord(machine=machine, rented=existing[machine].rented_unix_s, ident=self._file.ident)
            for machine in sorted(existing)
        ]
        write_atomically(self.context.folder / FILE, msgspec.json.encode(records), private=True)

    def _read_records(self) -> list[MachineRecord]:
        path = self.context.folder / FILE
        records = msgspec.json.decode(path.read_bytes(), type=list[MachineRecord]) if path.exists() else []
        return [record for record in records if record.ident in {"", self._file.ident}]

    async def _clean_up(self) -> None:
        """Close the launcher; machines that are not deleted stay listed for a later runner."""
        try:
            if self.launcher is not None:
                async with asyncio.timeout(CLEAN_UP_TIMEOUT_S):
                    await self.side_loop.run(self.launcher.close())
        finally:
            self.side_loop.stop()

    # --- watching ---

    async def _watch_scheduler(self, machine: int, rented: VM, address: str) -> None:
        """Terminate the scheduler machine when its scheduler has been unreachable for too long."""
        reached_s = steady_s()

        async def check() -> None:
            nonlocal reached_s
            if await is_listening(address):
                reached_s = steady_s()

        while self._is_wanted(machine, rented):
            await asyncio.sleep(SCHEDULER_POLL_S)
            await self._attempt(check())
            if steady_s() - reached_s > SCHEDULER_TIMEOUT_S:
                await self._request_end(machine, f"the scheduler could not be reached for {SCHEDULER_TIMEOUT_S:.0f} s")


async def _call(make: Callable[[VMLauncher[Any]], Any], launcher: VMLauncher[Any]) -> Any:
    """Call a function on the event loop that awaits this."""
    return make(launcher)
