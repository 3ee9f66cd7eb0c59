"""The machines of one study on EC2."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from seer_nb.core.model import MachineEnded
from seer_nb.errors import SeerError, sentence
from seer_nb.providers import ec2_instances, ec2_network, keys
from seer_nb.providers.base import SchedulerAddress
from seer_nb.providers.ec2_launch import NO_MACHINE, PORT, Launcher
from seer_nb.providers.launch import listens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.ec2 import EC2
    from seer_nb.providers.ec2_instances import Instance

logger = logging.getLogger(__name__)
SOON_S, LATER_S = 0.5, 5.0
"""Between two looks at the instances: while one is on its way in or out, and else."""
AGAIN_S = 5.0
"""An instance that still runs so long after it was told to go is told again."""
UNSEEN_S = 60.0
"""An instance may be missing from EC2's answers for so long after its launch: they lag behind."""
END_TIMEOUT_S = 60.0
KNOCK_S = 0.3


class Rented:
    """One machine, from before its launch until EC2 says that it is gone."""

    def __init__(self, offer: Offer | None = None, instance: str = "") -> None:
        self.offer = offer
        self.instance = instance
        """Its id; empty before it was launched."""
        self.begun_s = time.monotonic()
        self.told_s: float | None = None
        """When it was told to go last."""
        self.expected = False
        """Whether that was asked for."""
        self.reason = ""
        self.seen: Instance | None = None


class EC2Fleet:
    """Launches through dask-cloudprovider's classes, one machine at a time, and watches over what it has launched.

    Args:
        context: Of the study.
        provider: As the user gave it.
    """

    def __init__(self, context: FleetContext, provider: EC2) -> None:
        self._context = context
        self._provider = provider
        self._file = keys.load(context.folder)
        self._rented: dict[int, Rented] = {}
        self._launcher: Launcher | None = None
        self._stack = contextlib.AsyncExitStack()
        self._client: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._preparing = asyncio.Lock()

    # --- the fleet ---

    async def open(self) -> None:
        """Nothing is rented yet: the scheduler's machine is the engine's to rent."""
        self._client = await self._stack.enter_async_context(self._provider.client())
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def adopt(self, machines: Collection[int]) -> tuple[SchedulerAddress, tuple[int, ...]] | None:
        """Find the instances by their tag; whatever is not to be kept is terminated."""
        living = [x for x in (await ec2_instances.of_study(self._client, self._file.ident)).values() if not x.gone]
        scheduler, wanted = self._file.machine, set(machines)
        there = scheduler in wanted and any(x.machine == scheduler for x in living)
        if not (there and await listens(self._file.address)):
            wanted = set()
        kept = {x.machine: Rented(instance=x.ident) for x in living if x.machine in wanted}
        await self._terminate([x.ident for x in living if x.machine not in wanted])
        if not kept:
            return None
        self._rented |= kept
        self._look.set()
        return self._scheduler(), tuple(kept)

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Launch the scheduler's machine and wait until it listens."""
        rented = self._rented[machine] = Rented(offer)
        await self._launch(machine, lambda launcher, subnet: launcher.scheduler(machine, offer, subnet))
        while self._rented.get(machine) is rented:
            if rented.seen is not None and rented.seen.private and self._outer(rented.seen):
                self._remember(machine, rented.seen)
                if await listens(self._file.address):
                    return self._scheduler()
            await asyncio.sleep(KNOCK_S)
        return None

    async def rent(self, machine: int, offer: Offer) -> None:
        """Launch a machine that trains."""
        self._rented[machine] = Rented(offer)
        inner = self._file.inner
        await self._launch(machine, lambda launcher, subnet: launcher.worker(machine, offer, subnet, inner))

    async def retire(self, machine: int, *, force: bool) -> None:  # noqa: ARG002 - nothing is kept on a machine
        """Terminate a machine; one that is about to be launched, as soon as it was."""
        rented = self._rented.get(machine)
        if rented is not None:
            rented.expected = True
            await self._let_go(rented)

    async def lost(self, machine: int) -> None:
        """Terminate a machine whose worker has left."""
        rented = self._rented.get(machine)
        if rented is not None and rented.told_s is None:
            rented.reason = rented.reason or "its worker left the scheduler"
            await self._let_go(rented)

    async def close(self) -> None:
        """Terminate whatever lives, and take down what was made for it; what EC2 does not answer is left to leases."""
        try:
            if self._client is not None:
                async with asyncio.timeout(END_TIMEOUT_S):
                    await self._clear()
        except TimeoutError:
            logger.warning("EC2 did not take everything back within %.0f s", END_TIMEOUT_S)
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
            if self._launcher is not None:
                self._launcher.close()
            await self._stack.aclose()

    # --- launching ---

    async def _ready_launcher(self) -> Launcher:
        async with self._preparing:
            if self._launcher is None:
                site = await self._provider.site(self._client, self._context.study, self._file)
                keys.save(self._context.folder, self._file)
                self._launcher = Launcher(site)
            return self._launcher

    async def _launch(self, machine: int, make: Callable[[Launcher, str], Any]) -> None:
        """In the first zone that has room. If there is none, the machine is reported as ended, at no cost."""
        rented = self._rented[machine]
        try:
            error = await self._try_zones(rented, make)
        except _aws_errors() as caught:
            error = caught
        if error is None:
            return
        if rented.instance:
            rented.reason = sentence(error)
            await self._let_go(rented)
            return
        logger.warning("machine %s could not be launched: %s", machine, sentence(error))
        del self._rented[machine]
        self._context.ended(
            MachineEnded(
                machine=machine,
                expected=rented.expected,
                reason=sentence(error),
                lived_s=0.0,
                scarce=_code(error) in NO_MACHINE,
            )
        )

    async def _try_zones(self, rented: Rented, make: Callable[[Launcher, str], Any]) -> Exception | None:
        """What went wrong, if nothing was launched."""
        launcher = await self._ready_launcher()
        error: Exception = SeerError("it was handed back before it was launched")
        for subnet in launcher.site.subnets:
            if rented.told_s is not None:
                break
            failed = await self._try(rented, make(launcher, subnet))
            if failed is None:
                return None
            error = failed
            if rented.instance or _code(error) not in NO_MACHINE:
                break
        return error

    async def _try(self, rented: Rented, vm: Any) -> Exception | None:
        """Launch it; what went wrong, if anything did."""
        try:
            await vm.create_vm()
        except _aws_errors() as error:
            return error
        finally:
            if vm.instance is not None:  # also when it was launched, and something failed then
                rented.instance = str(vm.instance["InstanceId"])
                self._look.set()
        if rented.told_s is not None:
            await self._let_go(rented)
        return None

    def _remember(self, machine: int, instance: Instance) -> None:
        """Where the scheduler is reached; kept for a later runner."""
        if self._file.machine != machine:
            self._file.machine = machine
            self._file.inner = f"tls://{instance.private}:{PORT}"
            self._file.address = f"tls://{self._outer(instance)}:{PORT}"
            keys.save(self._context.folder, self._file)

    def _outer(self, instance: Instance) -> str:
        return instance.public if self._provider.public_address else instance.private

    def _scheduler(self) -> SchedulerAddress:
        return SchedulerAddress(self._file.address, self._file.pem.security())

    # --- watching ---

    async def _watch(self) -> None:
        """Look at the instances for as long as the fleet is open."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SOON_S if self._in_motion() else LATER_S):
                    await self._look.wait()
            self._look.clear()
            if any(rented.instance for rented in self._rented.values()):
                await self._guarded(self._sight)
            await asyncio.sleep(SOON_S / 2)

    def _in_motion(self) -> bool:
        """Whether an instance is on its way in or out."""
        return any(
            rented.told_s is not None or rented.seen is None or rented.seen.state == "pending"
            for rented in self._rented.values()
            if rented.instance
        )

    async def _sight(self) -> None:
        found = await ec2_instances.of_study(self._client, self._file.ident)
        now_s = time.monotonic()
        for machine, rented in list(self._rented.items()):
            if not rented.instance:
                continue
            instance = found.get(rented.instance)
            if instance is not None:
                rented.seen = instance
            lagging = instance is None and rented.seen is None and now_s - rented.begun_s < UNSEEN_S
            if lagging:
                continue
            if instance is None or instance.gone:
                self._ended(machine, rented)
            elif rented.told_s is not None and now_s - rented.told_s > AGAIN_S:
                await self._let_go(rented)

    def _ended(self, machine: int, rented: Rented) -> None:
        del self._rented[machine]
        seen = rented.seen
        reason = "" if rented.expected else rented.reason or (seen.reason if seen else "") or "EC2 has ended it"
        self._context.ended(
            MachineEnded(
                machine=machine,
                expected=rented.expected,
                reason=reason,
                lived_s=None if seen is None else seen.lived_s(datetime.now(UTC)),
            )
        )

    async def _guarded(self, act: Callable[[], Awaitable[None]]) -> None:
        """A call that fails is tried again at the next look: EC2 may be out of reach for a while."""
        try:
            await act()
        except _aws_errors() as error:
            logger.warning("EC2 does not answer: %s", sentence(error))

    # --- ending ---

    async def _let_go(self, rented: Rented) -> None:
        rented.told_s = time.monotonic()
        if rented.instance:
            await self._guarded(lambda: self._terminate([rented.instance]))
            self._look.set()

    async def _terminate(self, instances: list[str]) -> None:
        if instances:
            await self._client.terminate_instances(InstanceIds=instances)

    async def _clear(self) -> None:
        for machine in list(self._rented):
            await self.retire(machine, force=True)
        while any(rented.instance for rented in self._rented.values()):  # noqa: ASYNC110 - the watcher empties it
            await asyncio.sleep(SOON_S / 2)
        await self._guarded(self._sweep)
        self._file.machine, self._file.address, self._file.inner = None, "", ""
        if self._file.security_group:
            await self._guarded(lambda: ec2_network.drop_group(self._client, self._file.security_group))
            self._file.security_group = ""
        keys.save(self._context.folder, self._file)

    async def _sweep(self) -> None:
        """End whatever bears the study's tag, also what this runner has no record of."""
        living = [x for x in (await ec2_instances.of_study(self._client, self._file.ident)).values() if not x.gone]
        await self._terminate([x.ident for x in living])


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _aws_errors() -> tuple[type[Exception], ...]:
    """What a call to EC2 may raise that may be better next time."""
    from botocore.exceptions import BotoCoreError, ClientError

    return ClientError, BotoCoreError, OSError, TimeoutError, SeerError
