"""The machines of one study on EC2: launched one by one, watched, and terminated with certainty."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from seer_nb._utils.clock import steady_s
from seer_nb.core import MachineEnded
from seer_nb.errors import SeerError
from seer_nb.providers._fleet import MachineFleet, RentedMachine
from seer_nb.providers.aws import api
from seer_nb.providers.aws.launcher import NO_CAPACITY, NO_CAPACITY_IN_ZONE, EC2Launcher
from seer_nb.providers.base import Adopted, SchedulerAddress
from seer_nb.providers.vm import tls
from seer_nb.providers.vm.bootstrap import is_listening, scheduler_url

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from seer_nb.core.money import Offer
    from seer_nb.providers.aws import EC2
    from seer_nb.providers.aws.api import Instance
    from seer_nb.providers.base import FleetContext


logger = logging.getLogger(__name__)
FAST_POLL_S, SLOW_POLL_S = 0.5, 5.0
"""Seconds between two queries of the instances: while one is launching or terminating, and otherwise."""
TERMINATE_AGAIN_S = 5.0
"""Seconds after which an instance that still runs is terminated again."""
UNSEEN_TIMEOUT_S = 60.0
"""Seconds that an instance may be missing from EC2's answers after its launch or its last sighting: they lag behind."""
CONNECT_POLL_S = 0.3
"""Seconds between two checks whether the scheduler accepts connections."""


class EC2Machine(RentedMachine):
    """One machine; its instance is unknown until EC2 has answered.

    Args:
        ident: Id of the instance, if an earlier runner launched it.
    """

    def __init__(self, ident: str = "") -> None:
        super().__init__()
        self.vm: Any = None
        """The machine object of dask-cloudprovider, if this runner launched the machine."""
        self.unconfirmed = False
        """Whether the machine may have been launched although EC2 did not confirm it."""
        self.seen: Instance | None = None
        """The instance as EC2 described it last."""
        self.seen_s = self.rented_at_s
        """Steady-clock time of the last sighting, or of the launch."""
        self._ident = ident

    @property
    def instance(self) -> str:
        """Id of the instance; empty while it is unknown."""
        launched = None if self.vm is None else self.vm.instance
        return self._ident or (str(launched["InstanceId"]) if launched else "")

    def set_instance(self, ident: str) -> None:
        """Record the id of the instance."""
        self._ident = ident


class EC2Fleet(MachineFleet[EC2Machine]):
    """Launches instances with the classes of dask-cloudprovider and watches them through EC2's API.

    Args:
        context: What the fleet knows about its study.
        provider: The provider that the user configured.
    """

    def __init__(self, context: FleetContext, provider: EC2) -> None:
        super().__init__(context, EC2Machine)
        self._provider = provider
        self._file = tls.load(context.folder)
        self.launcher: EC2Launcher | None = None
        self._stack = contextlib.AsyncExitStack()
        self._client: Any = None
        self._wake_watcher = asyncio.Event()
        self._preparing = asyncio.Lock()

    # --- the protocol ---

    async def open(self) -> None:
        """Connect to EC2; the engine rents the scheduler machine."""
        self._client = await self._stack.enter_async_context(self._provider.client())
        self.tasks.start(self._watch())

    async def adopt(self, machines: Collection[int]) -> Adopted:
        """Find the instances by their tag, and terminate those that are not to be kept."""
        found = list((await self._instances()).values())
        living = [x for x in found if not x.gone]
        scheduler, wanted = self._file.scheduler_machine, set(machines)
        has_scheduler = scheduler in wanted and any(x.machine == scheduler for x in living)
        if not (has_scheduler and await is_listening(self._file.client_address)):
            wanted = set()
        self._report_ended_before(found, {x.machine for x in living})
        for instance in living:
            self._track(instance, keep=instance.machine in wanted)
        left = {machine: x for machine, x in self.rented.items() if x.end_requested_s is not None}
        # If this fails, the watcher tries again.
        await self._attempt(self._terminate([x.ident for x in living if x.machine not in wanted]))
        self._wake_watcher.set()
        kept = tuple(sorted(self.rented.keys() - left.keys()))
        return Adopted(self._scheduler() if kept else None, kept, tuple(sorted(left)))

    async def boot_scheduler(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        rented = await self._rent(machine, offer)
        while self._is_wanted(machine, rented):
            if rented.seen is not None and rented.seen.private and self._outer_address(rented.seen):
                self._save_scheduler(machine, rented.seen)
                if await is_listening(self._file.client_address):
                    return self._scheduler()
            await asyncio.sleep(CONNECT_POLL_S)
        return None

    def _track(self, instance: Instance, *, keep: bool) -> None:
        """Add an earlier runner's instance to the machines, at least until it has terminated."""
        rented = EC2Machine(instance.ident)
        rented.launching, rented.seen = False, instance
        if not keep:
            rented.mark_ending()
        if instance.machine >= 0:
            self.rented[instance.machine] = rented

    def _report_ended_before(self, found: Iterable[Instance], living: set[int]) -> None:
        """Report machines that terminated before this runner started; EC2 knows their lifetimes for a while."""
        for x in found:
            if x.dated and x.machine >= 0 and x.machine not in living:
                lived_s = x.lived_s(datetime.now(UTC))
                self.context.on_ended(MachineEnded(machine=x.machine, expected=True, reason=x.reason, lived_s=lived_s))

    # --- launching ---

    async def _open_launcher(self) -> EC2Launcher:
        async with self._preparing:
            if self.launcher is None:
                site = await self._provider.site(self._client, self.context.study, self._file)
                self.launcher = EC2Launcher(self._provider, site)
            return self.launcher

    async def _launch(self, machine: int, rented: EC2Machine, offer: Offer) -> None:
        """Launch an instance in the first zone that has capacity."""
        launcher = await self._open_launcher()
        error: Exception = SeerError("it was retired before it was launched")
        for subnet in launcher.site.subnets:
            if rented.end_requested_s is not None:
                break
            rented.vm = launcher.instance(machine, offer, subnet, self._file.worker_address)
            failed = await self._try_launch(rented)
            if failed is None:
                return
            error = failed
            if rented.instance or _code(error) not in NO_CAPACITY_IN_ZONE:
                break
        rented.unconfirmed = not rented.instance and not _is_refusal(error)
        raise error

    async def _try_launch(self, rented: EC2Machine) -> Exception | None:
        """Launch an instance; return the error if it failed."""
        try:
            await rented.vm.create_vm()
        except Exception as error:  # noqa: BLE001 - the caller raises it if no other zone succeeds
            return error
        finally:
            rented.seen_s = steady_s()
            self._wake_watcher.set()
        return None

    def _is_scarce(self, error: Exception) -> bool:
        return _code(error) in NO_CAPACITY

    def _save_scheduler(self, machine: int, instance: Instance) -> None:
        """Write the addresses of the scheduler for a later runner."""
        if self._file.scheduler_machine != machine:
            self._file.scheduler_machine = machine
            self._file.worker_address = scheduler_url(instance.private)
            self._file.client_address = scheduler_url(self._outer_address(instance))
            tls.save(self.context.folder, self._file)

    def _outer_address(self, instance: Instance) -> str:
        """Return the address by which this computer reaches an instance."""
        return instance.public if self._provider.public_address else instance.private

    def _scheduler(self) -> SchedulerAddress:
        return SchedulerAddress(self._file.client_address, self._file.pem.security())

    # --- watching ---

    async def _watch(self) -> None:
        """Query the instances for as long as the fleet is open."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAST_POLL_S if self._is_changing() else SLOW_POLL_S):
                    await self._wake_watcher.wait()
            self._wake_watcher.clear()
            if self.rented:
                await self._attempt(self._observe())
            await asyncio.sleep(FAST_POLL_S / 2)

    def _is_changing(self) -> bool:
        """Return whether an instance is launching or terminating."""
        return any(
            rented.end_requested_s is not None or rented.seen is None or rented.seen.state == "pending"
            for rented in self.rented.values()
        )

    async def _observe(self) -> None:
        found = await self._instances()
        for machine, rented in list(self.rented.items()):
            await self._attempt(self._update(machine, rented, found))
        await self._terminate([x.ident for x in found.values() if self._is_stray(x)])

    async def _update(self, machine: int, rented: EC2Machine, found: Mapping[str, Instance]) -> None:
        """Update a machine from EC2's description of its instance."""
        unseen = not rented.launching and steady_s() - rented.seen_s > UNSEEN_TIMEOUT_S
        if rented.unconfirmed and not rented.instance:
            rented.set_instance(next((x.ident for x in found.values() if x.machine == machine), ""))
        instance = found.get(rented.instance)
        if instance is not None:
            rented.seen, rented.seen_s = instance, steady_s()
            if instance.gone:
                self._report_gone(machine, rented)
            elif rented.end_requested_s is not None and steady_s() - rented.end_requested_s > TERMINATE_AGAIN_S:
                await self._end(machine, rented, force=True)
        elif unseen and rented.instance:
            # It may only be missing from EC2's answers, and still be billed.
            await self._terminate([rented.instance])
            self._report_gone(machine, rented)
        elif unseen and rented.unconfirmed:
            self.report_ended(machine, lived_s=0.0)

    def _is_stray(self, instance: Instance) -> bool:
        """Return whether an instance runs but belongs to no machine: EC2's answer to its launch was lost."""
        tracked = self.rented.get(instance.machine)
        # A machine that is being launched has no instance id until EC2 has answered.
        return not instance.gone and (
            tracked is None
            or (tracked.instance != instance.ident and (bool(tracked.instance) or not tracked.launching))
        )

    def _report_gone(self, machine: int, rented: EC2Machine) -> None:
        seen = rented.seen
        reason = (seen.reason if seen else "") or "EC2 has terminated it"
        self.report_ended(machine, reason=reason, lived_s=None if seen is None else seen.lived_s(datetime.now(UTC)))

    # --- terminating ---

    async def _end(self, machine: int, rented: EC2Machine, *, force: bool) -> None:  # noqa: ARG002 - machines hold no state
        rented.end_requested_s = steady_s()
        if rented.instance:
            await self._terminate([rented.instance])
            self._wake_watcher.set()
        elif not (rented.launching or rented.unconfirmed):
            self.report_ended(machine, lived_s=0.0)

    async def _instances(self) -> dict[str, Instance]:
        return await api.study_instances(self._client, self._file.ident)

    async def _terminate(self, instances: Iterable[str]) -> None:
        # One request each: if EC2 does not know one of several instances, it terminates none of them.
        await asyncio.gather(*(api.terminate(self._client, ident) for ident in instances))

    async def _clean_up(self) -> None:
        """Remove what was created for machines; if EC2 does not answer, the leases terminate them."""
        if self._client is None:
            return
        try:
            async with asyncio.timeout(self.end_timeout_s):
                await self._terminate_all()
            self._file.scheduler_machine, self._file.client_address, self._file.worker_address = None, "", ""
            tls.save(self.context.folder, self._file)
            if not self.rented:
                for group in await api.study_groups(self._client, self._file.ident):
                    await api.delete_group(self._client, group)
        finally:
            if self.launcher is not None:
                await self.launcher.close()
            await self._stack.aclose()

    async def _terminate_all(self) -> None:
        """Terminate every instance with the study's tag, including those that this runner has no record of."""
        await self._terminate([x.ident for x in (await self._instances()).values() if not x.gone])


def _code(error: Exception) -> str:
    # Some of botocore's errors have a response that is None.
    return str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))


def _is_refusal(error: Exception) -> bool:
    """Return whether an error proves that nothing was launched: EC2 refused the request, or never received it."""
    from botocore.exceptions import ClientError, ConnectionError, NoCredentialsError  # noqa: A004 - botocore's own

    return isinstance(error, ClientError | ConnectionError | NoCredentialsError | SeerError)
