"""The machines of one study on EC2: launched one by one, watched, and ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from seer_nb._utils.clock import steady_s
from seer_nb.core import MachineEnded
from seer_nb.errors import SeerError
from seer_nb.providers._fleet import MachineFleet, Rented
from seer_nb.providers.aws import api
from seer_nb.providers.aws.launcher import NO_MACHINE, SCARCE, Launcher
from seer_nb.providers.base import Adopted, SchedulerAddress
from seer_nb.providers.vm import tls as vm_tls
from seer_nb.providers.vm.bootstrap import listens, tls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from seer_nb.core.money import Offer
    from seer_nb.providers.aws import EC2
    from seer_nb.providers.aws.api import Instance
    from seer_nb.providers.base import FleetContext


logger = logging.getLogger(__name__)
SOON_S, LATER_S = 0.5, 5.0
"""Between two looks at the instances: while one is on its way in or out, and else."""
AGAIN_S = 5.0
"""An instance that still runs so long after it was told to go is told again."""
UNSEEN_S = 60.0
"""An instance may be missing from EC2's answers for so long after its launch, or between two: they lag behind."""
KNOCK_S = 0.3


class EC2Machine(Rented):
    """One machine: nothing is known of its instance before EC2 has answered."""

    def __init__(self, ident: str = "") -> None:
        super().__init__()
        self.vm: Any = None
        """dask-cloudprovider's object, if this runner has launched it."""
        self.doubtful = False
        """Whether it may have been launched, though EC2 did not say so."""
        self.seen: Instance | None = None
        self.seen_s = self.begun_s
        """When it was seen last, or must have been launched."""
        self._ident = ident

    @property
    def instance(self) -> str:
        """Its id; empty before that is known."""
        launched = None if self.vm is None else self.vm.instance
        return self._ident or (str(launched["InstanceId"]) if launched else "")

    def found(self, ident: str) -> None:
        """That is its instance."""
        self._ident = ident


class EC2Fleet(MachineFleet[EC2Machine]):
    """Launches through dask-cloudprovider's classes, one machine at a time, and watches over what it has launched.

    Args:
        context: Of the study.
        provider: As the user gave it.
    """

    def __init__(self, context: FleetContext, provider: EC2) -> None:
        super().__init__(context, EC2Machine)
        self._provider = provider
        self._file = vm_tls.load(context.folder)
        self._launcher: Launcher | None = None
        self._stack = contextlib.AsyncExitStack()
        self._client: Any = None
        self._look = asyncio.Event()
        self._preparing = asyncio.Lock()

    # --- the fleet ---

    async def open(self) -> None:
        """Nothing is rented yet: the scheduler's machine is the engine's to rent."""
        self._client = await self._stack.enter_async_context(self._provider.client())
        self._tasks.go(self._watch())

    async def adopt(self, machines: Collection[int]) -> Adopted:
        """Find the instances by their tag; whatever is not to be kept is terminated."""
        found = list((await self._instances()).values())
        living = [x for x in found if not x.gone]
        scheduler, wanted = self._file.machine, set(machines)
        there = scheduler in wanted and any(x.machine == scheduler for x in living)
        if not (there and await listens(self._file.address)):
            wanted = set()
        self._report_dead(found, {x.machine for x in living})
        for instance in living:
            self._hold(instance, keep=instance.machine in wanted)
        left = {machine: x for machine, x in self._rented.items() if x.told_s is not None}
        # If that fails the watcher tries again.
        await self._guarded(self._terminate([x.ident for x in living if x.machine not in wanted]))
        self._look.set()
        kept = tuple(sorted(self._rented.keys() - left.keys()))
        return Adopted(self._scheduler() if kept else None, kept, tuple(sorted(left)))

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Launch the scheduler's machine and wait until it listens."""
        rented = await self._begin(machine, offer)
        while self._stays(machine, rented):
            if rented.seen is not None and rented.seen.private and self._outer(rented.seen):
                self._remember(machine, rented.seen)
                if await listens(self._file.address):
                    return self._scheduler()
            await asyncio.sleep(KNOCK_S)
        return None

    def _hold(self, instance: Instance, *, keep: bool) -> None:
        """Have an earlier runner's instance be a machine again, until it has gone at least."""
        rented = EC2Machine(instance.ident)
        rented.launching, rented.seen = False, instance
        if not keep:
            rented.leave()
        if instance.machine >= 0:
            self._rented[instance.machine] = rented

    def _report_dead(self, found: Iterable[Instance], living: set[int]) -> None:
        """Of machines that have ended since, EC2 knows for a while how long they have lived."""
        for x in found:
            if x.dated and x.machine >= 0 and x.machine not in living:
                lived_s = x.lived_s(datetime.now(UTC))
                self._context.ended(MachineEnded(machine=x.machine, expected=True, reason=x.reason, lived_s=lived_s))

    # --- launching ---

    async def _ready_launcher(self) -> Launcher:
        async with self._preparing:
            if self._launcher is None:
                self._launcher = Launcher(await self._provider.site(self._client, self._context.study, self._file))
            return self._launcher

    async def _launch(self, machine: int, rented: EC2Machine, offer: Offer) -> None:
        """In the first zone that has room."""
        launcher = await self._ready_launcher()
        error: Exception = SeerError("it was handed back before it was launched")
        for subnet in launcher.site.subnets:
            if rented.told_s is not None:
                break
            if offer.workers_per_machine:
                rented.vm = launcher.worker(machine, offer, subnet, self._file.inner)
            else:
                rented.vm = launcher.scheduler(machine, offer, subnet)
            failed = await self._try(rented)
            if failed is None:
                return
            error = failed
            if rented.instance or _code(error) not in NO_MACHINE:
                break
        rented.doubtful = not rented.instance and not _is_refusal(error)
        raise error

    async def _try(self, rented: EC2Machine) -> Exception | None:
        """Launch it; what went wrong, if anything did."""
        try:
            await rented.vm.create_vm()
        except Exception as error:  # noqa: BLE001 - it is raised if no other zone will do
            return error
        finally:
            rented.seen_s = steady_s()
            self._look.set()
        return None

    def _is_scarce(self, error: Exception) -> bool:
        return _code(error) in SCARCE

    def _remember(self, machine: int, instance: Instance) -> None:
        """Where the scheduler is reached; kept for a later runner."""
        if self._file.machine != machine:
            self._file.machine = machine
            self._file.inner = tls(instance.private)
            self._file.address = tls(self._outer(instance))
            vm_tls.save(self._context.folder, self._file)

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
            if self._rented:
                await self._guarded(self._sight())
            await asyncio.sleep(SOON_S / 2)

    def _in_motion(self) -> bool:
        """Whether an instance is on its way in or out."""
        return any(
            rented.told_s is not None or rented.seen is None or rented.seen.state == "pending"
            for rented in self._rented.values()
        )

    async def _sight(self) -> None:
        found = await self._instances()
        for machine, rented in list(self._rented.items()):
            await self._guarded(self._compare(machine, rented, found))
        await self._terminate([x.ident for x in found.values() if self._is_stray(x)])

    async def _compare(self, machine: int, rented: EC2Machine, found: Mapping[str, Instance]) -> None:
        """What EC2 says of a machine."""
        unseen = not rented.launching and steady_s() - rented.seen_s > UNSEEN_S
        if rented.doubtful and not rented.instance:
            rented.found(next((x.ident for x in found.values() if x.machine == machine), ""))
        instance = found.get(rented.instance)
        if instance is not None:
            rented.seen, rented.seen_s = instance, steady_s()
            if instance.gone:
                self._gone(machine, rented)
            elif rented.told_s is not None and steady_s() - rented.told_s > AGAIN_S:
                await self._end(machine, rented, force=True)
        elif unseen and rented.instance:
            # EC2 may have lost it from sight only: nothing is given up that may live on.
            await self._terminate([rented.instance])
            self._gone(machine, rented)
        elif unseen and rented.doubtful:
            self._ended(machine, lived_s=0.0)

    def _is_stray(self, instance: Instance) -> bool:
        """Whether it lives and is no machine of ours: EC2's answer to its launch was lost."""
        held = self._rented.get(instance.machine)
        # One that is being launched has an id only when EC2's answer has come.
        return not instance.gone and (
            held is None or (held.instance != instance.ident and (bool(held.instance) or not held.launching))
        )

    def _gone(self, machine: int, rented: EC2Machine) -> None:
        seen = rented.seen
        reason = (seen.reason if seen else "") or "EC2 has ended it"
        self._ended(machine, reason=reason, lived_s=None if seen is None else seen.lived_s(datetime.now(UTC)))

    # --- ending ---

    async def _end(self, machine: int, rented: EC2Machine, *, force: bool) -> None:  # noqa: ARG002 - nothing is kept
        rented.told_s = steady_s()
        if rented.instance:
            await self._terminate([rented.instance])
            self._look.set()
        elif not (rented.launching or rented.doubtful):
            self._ended(machine, lived_s=0.0)

    async def _instances(self) -> dict[str, Instance]:
        return await api.of_study(self._client, self._file.ident)

    async def _terminate(self, instances: Iterable[str]) -> None:
        # One by one, for EC2 ends none of several if it does not know one of them.
        await asyncio.gather(*(api.terminate(self._client, ident) for ident in instances))

    async def _shut(self) -> None:
        """Take down what was made for machines; what EC2 does not answer is left to leases."""
        if self._client is None:
            return
        try:
            async with asyncio.timeout(self.end_timeout_s):
                await self._sweep()
            self._file.machine, self._file.address, self._file.inner = None, "", ""
            vm_tls.save(self._context.folder, self._file)
            if not self._rented:
                for group in await api.groups_of(self._client, self._file.ident):
                    await api.drop_group(self._client, group)
        finally:
            if self._launcher is not None:
                self._launcher.close()
            await self._stack.aclose()

    async def _sweep(self) -> None:
        """End whatever bears the study's tag, also what this runner has no record of."""
        await self._terminate([x.ident for x in (await self._instances()).values() if not x.gone])


def _code(error: Exception) -> str:
    # Some errors have a response, but none came.
    return str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))


def _is_refusal(error: Exception) -> bool:
    """Whether an error says that nothing was launched: EC2 has refused it, or was never asked."""
    from botocore.exceptions import ClientError, ConnectionError, NoCredentialsError  # noqa: A004 - botocore's own

    return isinstance(error, ClientError | ConnectionError | NoCredentialsError | SeerError)
