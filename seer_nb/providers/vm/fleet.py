"""The machines of one study on a cloud of which no more is known than how a machine is made and deleted."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from seer_nb._utils.aio import SideLoop
from seer_nb._utils.clock import steady_s
from seer_nb._utils.files import write_atomically
from seer_nb._utils.text import sentence
from seer_nb.providers._fleet import MachineFleet, Rented
from seer_nb.providers.base import Adopted, SchedulerAddress
from seer_nb.providers.vm import tls as vm_tls
from seer_nb.providers.vm.bootstrap import listens, tls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.vm import VMProvider
    from seer_nb.providers.vm.launcher import VMLauncher


logger = logging.getLogger(__name__)
FILE = "machines.json"
"""The machines that may exist, for a later runner."""
KNOCK_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Between two looks at a machine that is to be deleted."""
AGAIN_S = 60.0
"""One that still exists so long after it was deleted is deleted again."""
UNSEEN_S = 5.0
"""One that could not be launched is looked for again after so long: a cloud's answers may lag behind."""
LISTEN_S, DEAF_S = 5.0, 60.0
"""Between two looks at the scheduler; it is lost when it could not be reached for so long."""
SHUT_S = 60.0
"""The cloud may take so long to take down what was made beside machines."""
SCARCE = ("RESOURCE_POOL_EXHAUSTED", "AllocationFailed", "SkuNotAvailable", "resource_unavailable", "No valid host")
"""What clouds say when they have no machine to give."""


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """What a later runner must know of a machine."""

    machine: int
    rented: float
    """Unix seconds: no other clock goes on from one runner to the next, whatever happens to this computer."""
    ident: str = ""
    """Under which it was launched: in a copy of a study, other machines are noted than its own."""


class VM(Rented):
    """One machine, until it is deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.rented = time.time()
        """Unix seconds."""
        self.vm: Any = None
        self.addresses = ("", "")
        """As other machines reach it, and as this one does."""
        self.launched = False
        """Whether the cloud has said so."""
        self.left = False
        """Whether an earlier runner has left it."""

    @classmethod
    def of(cls, noted: Noted) -> VM:
        """One that an earlier runner has left."""
        found = cls()
        found.rented, found.left, found.launching = noted.rented, True, False
        found.begun_s -= max(0.0, time.time() - noted.rented)
        found.leave()
        return found


class VMFleet(MachineFleet[VM]):
    """Launches and deletes machines through dask-cloudprovider's classes; their time is measured by the own clock.

    Nothing is asked of machines that run: a machine is lost when its worker has left the scheduler, or when the
    scheduler can't be reached. Those of an earlier runner are deleted.

    Args:
        context: Of the study.
        provider: As the user gave it.
    """

    end_timeout_s = 180.0

    def __init__(self, context: FleetContext, provider: VMProvider) -> None:
        super().__init__(context, VM)
        self._provider = provider
        self._file = vm_tls.load(context.folder)
        self._side = SideLoop()
        self._launcher: VMLauncher | None = None
        self._preparing = asyncio.Lock()
        self._inner = ""
        """Address of the scheduler as workers reach it."""

    # --- the fleet ---

    async def open(self) -> None:
        """Nothing is rented yet: the scheduler's machine is the engine's to rent."""

    async def adopt(self, machines: Collection[int]) -> Adopted:  # noqa: ARG002 - none can be kept
        """Delete whatever an earlier runner has left; the study goes on with new machines."""
        left = {noted.machine: VM.of(noted) for noted in self._noted()}
        self._rented |= left
        for machine, rented in left.items():
            await self._end(machine, rented, force=True)
        return Adopted(left=tuple(left))

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Launch the scheduler's machine and wait until it listens."""
        rented = await self._begin(machine, offer)
        self._inner, outer = (tls(address) for address in rented.addresses)
        while self._stays(machine, rented):
            if await listens(outer):
                self._tasks.go(self._watch_scheduler(machine, rented, outer))
                return SchedulerAddress(outer, self._file.pem.security())
            await asyncio.sleep(KNOCK_S)
        return None

    # --- launching ---

    async def _ready_launcher(self) -> VMLauncher:
        async with self._preparing:
            if self._launcher is None:

                async def make() -> VMLauncher:
                    launcher = self._provider.launcher(self._context.study, self._file)
                    await launcher.open()
                    return launcher

                self._launcher = await self._side.run(make())
            return self._launcher

    async def _launch(self, machine: int, rented: VM, offer: Offer) -> None:
        def make(launcher: VMLauncher) -> Any:
            if offer.workers_per_machine:
                return launcher.worker(machine, offer, self._inner)
            return launcher.scheduler(machine, offer)

        launcher = await self._ready_launcher()
        rented.vm = await self._side.run(_made(launcher, make))
        self._note()
        async with asyncio.timeout(offer.boot_timeout_s):
            rented.addresses = await self._side.run(launcher.create(rented.vm))
        rented.launched = True

    def _is_scarce(self, error: Exception) -> bool:
        return any(word in sentence(error) for word in SCARCE)

    # --- ending ---

    async def _end(self, machine: int, rented: VM, *, force: bool) -> None:  # noqa: ARG002 - nothing is kept on one
        if not rented.launching:
            self._tasks.go(self._delete(machine, rented))

    async def _delete(self, machine: int, rented: VM) -> None:
        """Until it is gone; then its bill ends."""
        there = (rented.left or rented.vm is not None) and await self._deleted(machine, rented)
        # Whether one that an earlier runner has left was ever there, and when it went, nobody knows.
        self._ended(machine, lived_s=rented.lived_s() if there else None if rented.left else 0.0)
        self._note()

    async def _deleted(self, machine: int, rented: VM) -> bool:
        """Have a machine deleted, for as long as it takes until it is gone; whether there was one."""
        there = sure = rented.launched
        told_s, pause_s = float("-inf"), KNOCK_S
        while True:
            try:
                launcher, vm = await self._found(machine, rented)
                if not await self._side.run(launcher.exists(vm)):
                    if sure:
                        return there
                    sure, pause_s = True, UNSEEN_S
                elif steady_s() - told_s > AGAIN_S:
                    there = sure = True
                    await self._side.run(launcher.delete(vm))
                    told_s = steady_s()
            except Exception as error:  # noqa: BLE001 - every cloud has errors of its own
                logger.warning("machine %s could not be deleted yet: %r", machine, error)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            await asyncio.sleep(pause_s)

    async def _found(self, machine: int, rented: VM) -> tuple[VMLauncher, Any]:
        """By what a machine is deleted, also one that another runner has launched."""
        launcher = await self._ready_launcher()
        if rented.vm is None:
            offer = self._provider.offers()[0]
            rented.vm = await self._side.run(_made(launcher, lambda there: there.worker(machine, offer)))
        return launcher, rented.vm

    def _note(self) -> None:
        """Write down which machines may exist."""
        there = {machine: x for machine, x in self._rented.items() if x.left or x.vm is not None}
        ident = self._file.ident
        noted = [Noted(machine=machine, rented=there[machine].rented, ident=ident) for machine in sorted(there)]
        write_atomically(self._context.folder / FILE, msgspec.json.encode(noted), private=True)

    def _noted(self) -> list[Noted]:
        path = self._context.folder / FILE
        noted = msgspec.json.decode(path.read_bytes(), type=list[Noted]) if path.exists() else []
        return [x for x in noted if x.ident in {"", self._file.ident}]

    async def _shut(self) -> None:
        """What could not be deleted is noted for a later runner."""
        try:
            if self._launcher is not None:
                async with asyncio.timeout(SHUT_S):
                    await self._side.run(self._launcher.close())
        finally:
            self._side.stop()

    # --- watching ---

    async def _watch_scheduler(self, machine: int, rented: VM, address: str) -> None:
        heard_s = steady_s()

        async def look() -> None:
            nonlocal heard_s
            if await listens(address):
                heard_s = steady_s()

        while self._stays(machine, rented):
            await asyncio.sleep(LISTEN_S)
            await self._guarded(look())
            if steady_s() - heard_s > DEAF_S:
                await self._tell(machine, f"the scheduler could not be reached for {DEAF_S:.0f} s")


async def _made(launcher: VMLauncher, make: Callable[[VMLauncher], Any]) -> Any:
    return make(launcher)
