"""The machines of one study on a cloud of which no more is known than how a machine is made and deleted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from seer_nb.core.model import MachineEnded
from seer_nb.errors import sentence
from seer_nb.providers import keys
from seer_nb.providers.base import SchedulerAddress
from seer_nb.providers.launch import PORT, listens
from seer_nb.providers.side_loop import SideLoop
from seer_nb.runner.background import Background
from seer_nb.runner.files import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.vm_launch import VMLauncher
    from seer_nb.providers.vm_provider import VMProvider

logger = logging.getLogger(__name__)
FILE = "machines.json"
"""Numbers of the machines that may exist, for a later runner."""
KNOCK_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Between two looks at a machine that is to be deleted."""
AGAIN_S = 60.0
"""One that still exists so long after it was deleted is deleted again."""
UNSEEN_S = 5.0
"""One that could not be launched is looked for again after so long: a cloud's answers may lag behind."""
END_TIMEOUT_S = 180.0
LISTEN_S, DEAF_S = 5.0, 60.0
"""Between two looks at the scheduler; it is lost when it could not be reached for so long."""
SCARCE = ("RESOURCE_POOL_EXHAUSTED", "AllocationFailed", "SkuNotAvailable", "resource_unavailable", "No valid host")
"""What clouds say when they have no machine to give."""


class Rented:
    """One machine, from before it is asked for until it is deleted."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.begun_s = time.monotonic()
        self.vm: Any = None
        self.launching = True
        self.launched = False
        """Whether the cloud has said so."""
        self.told = False
        """Whether it was told to go."""
        self.expected = False
        """Whether that was asked for."""
        self.reason = ""


class VMFleet:
    """Launches and deletes machines through dask-cloudprovider's classes; their time is measured by the own clock.

    Nothing is asked of machines that run: a machine is lost when its worker has left the scheduler, or when the
    scheduler can't be reached. Those of an earlier runner are deleted.

    Args:
        context: Of the study.
        provider: As the user gave it.
    """

    def __init__(self, context: FleetContext, provider: VMProvider) -> None:
        self._context = context
        self._provider = provider
        self._file = keys.load(context.folder)
        self._side = SideLoop()
        self._launcher: VMLauncher | None = None
        self._preparing = asyncio.Lock()
        self._rented: dict[int, Rented] = {}
        self._left: set[int] = set()
        """Machines of an earlier runner that are still to be deleted."""
        self._inner = ""
        """Address of the scheduler as workers reach it."""
        self._tasks = Background("the fleet failed")

    # --- the fleet ---

    async def open(self) -> None:
        """Nothing is rented yet: the scheduler's machine is the engine's to rent."""

    async def adopt(self, machines: Collection[int]) -> None:  # noqa: ARG002 - none can be kept
        """Delete whatever an earlier runner has left; the study goes on with new machines."""
        self._left = set(_noted(self._context))
        for machine in list(self._left):
            self._tasks.go(self._delete_left(machine))

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Launch the scheduler's machine and wait until it listens."""
        rented = self._rented[machine] = Rented(offer)
        addresses = await self._launch(machine, rented, lambda launcher: launcher.scheduler(machine, offer))
        if addresses is None:
            return None
        self._inner, outer = (f"tls://{address}:{PORT}" for address in addresses)
        while not rented.told:
            if await listens(outer):
                self._tasks.go(self._watch_scheduler(machine, rented, outer))
                return SchedulerAddress(outer, self._file.pem.security())
            await asyncio.sleep(KNOCK_S)
        return None

    async def rent(self, machine: int, offer: Offer) -> None:
        """Launch a machine that trains."""
        rented = self._rented[machine] = Rented(offer)
        await self._launch(machine, rented, lambda launcher: launcher.worker(machine, offer, self._inner))

    async def retire(self, machine: int, *, force: bool) -> None:  # noqa: ARG002 - nothing is kept on a machine
        """Delete a machine; one that is being launched, as soon as it was."""
        rented = self._rented.get(machine)
        if rented is not None and not rented.told:
            rented.told = rented.expected = True
            self._end(machine, rented)

    async def lost(self, machine: int) -> None:
        """Delete a machine whose worker has left."""
        rented = self._rented.get(machine)
        if rented is not None and not rented.told:
            self._lose(machine, rented, "its worker left the scheduler")

    async def close(self) -> None:
        """Delete whatever lives. What could not be deleted is noted for a later runner."""
        for machine in list(self._rented):
            await self.retire(machine, force=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                while self._rented or self._left:  # noqa: ASYNC110 - the tasks that delete them empty it
                    await asyncio.sleep(KNOCK_S / 5)
        if self._rented or self._left:
            logger.error("not deleted in time: machines %s", sorted({*self._rented, *self._left}))
        self._tasks.cancel()
        if self._launcher is not None:
            await self._side.run(self._launcher.close())
        self._side.stop()

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

    async def _launch(self, machine: int, rented: Rented, make: Callable[[VMLauncher], Any]) -> tuple[str, str] | None:
        """Its addresses; None if it could not be launched, or was told to go meanwhile."""
        addresses = None
        try:
            launcher = await self._ready_launcher()
            rented.vm = await self._side.run(_made(launcher, make))
            self._note()
            async with asyncio.timeout(rented.offer.boot_timeout_s):
                addresses = await self._side.run(launcher.create(rented.vm))
            rented.launched = True
        except Exception as error:  # noqa: BLE001 - every cloud has errors of its own
            logger.warning("machine %s could not be launched: %r", machine, error)
            rented.told, rented.reason = True, sentence(error)
        finally:
            rented.launching = False
        if rented.told:
            self._end(machine, rented)
            return None
        return addresses

    # --- ending ---

    def _lose(self, machine: int, rented: Rented, reason: str) -> None:
        rented.told, rented.reason = True, reason
        self._end(machine, rented)

    def _end(self, machine: int, rented: Rented) -> None:
        if not rented.launching:
            self._tasks.go(self._delete(machine, rented))

    async def _delete(self, machine: int, rented: Rented) -> None:
        """Until it is gone; then its bill ends."""
        there = rented.vm is not None and await self._deleted(rented.vm, launched=rented.launched)
        del self._rented[machine]
        self._note()
        self._context.ended(
            MachineEnded(
                machine=machine,
                expected=rented.expected,
                reason="" if rented.expected else rented.reason,
                lived_s=time.monotonic() - rented.begun_s if there else 0.0,
                scarce=not rented.launched and any(word in rented.reason for word in SCARCE),
            )
        )

    async def _deleted(self, vm: Any, *, launched: bool) -> bool:
        """Have a machine deleted, for as long as it takes until it is gone; whether there was one."""
        launcher = await self._ready_launcher()
        there = sure = launched
        told_s, pause_s = float("-inf"), KNOCK_S
        while True:
            try:
                if not await self._side.run(launcher.exists(vm)):
                    if sure:
                        return there
                    sure, pause_s = True, UNSEEN_S
                elif time.monotonic() - told_s > AGAIN_S:
                    there = sure = True
                    await self._side.run(launcher.delete(vm))
                    told_s = time.monotonic()
            except Exception as error:  # noqa: BLE001 - every cloud has errors of its own
                logger.warning("%s could not be deleted yet: %r", vm.name, error)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            await asyncio.sleep(pause_s)

    async def _delete_left(self, machine: int) -> None:
        launcher = await self._ready_launcher()

        async def make() -> Any:
            return launcher.worker(machine, self._provider.offers()[0])

        await self._deleted(await self._side.run(make()), launched=False)
        self._left.discard(machine)
        self._note()

    def _note(self) -> None:
        """Write down which machines may exist."""
        numbers = sorted({*self._left, *(machine for machine, rented in self._rented.items() if rented.vm is not None)})
        write_private(self._context.folder / FILE, msgspec.json.encode(numbers))

    # --- watching ---

    async def _watch_scheduler(self, machine: int, rented: Rented, address: str) -> None:
        heard_s = time.monotonic()
        while not rented.told:
            await asyncio.sleep(LISTEN_S)
            if await listens(address):
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > DEAF_S and not rented.told:
                self._lose(machine, rented, f"the scheduler could not be reached for {DEAF_S:.0f} s")


async def _made(launcher: VMLauncher, make: Callable[[VMLauncher], Any]) -> Any:
    return make(launcher)


def _noted(context: FleetContext) -> list[int]:
    path = context.folder / FILE
    return msgspec.json.decode(path.read_bytes(), type=list[int]) if path.exists() else []
