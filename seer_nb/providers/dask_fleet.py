"""The machines of one study on a Dask cluster: each is one of its workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from seer_nb.core.model import MachineEnded
from seer_nb.errors import SeerError
from seer_nb.providers.base import SchedulerAddress
from seer_nb.runner.background import Background

if TYPE_CHECKING:
    from collections.abc import Collection

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.dask_cluster import DaskCluster
    from seer_nb.providers.dask_hand import Facts, Seen
    from seer_nb.providers.dask_line import Line

logger = logging.getLogger(__name__)
SOON_S, LATER_S = 0.2, 1.0
"""Between two looks at the workers: while one is on its way, and else."""
DEAF_S = 15.0
"""A scheduler that does not answer for so long is lost."""
LEFT = "its worker left the scheduler"


class Rented:
    """One machine: a worker, or one that is on its way."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Of its worker, for the engine."""
        self.key: str | None = None
        """What the cluster knows the worker by, if it was started for this machine and that can be told."""
        self.address = ""
        """Where the worker listens, once it is there."""
        self.asked = False
        """Whether the cluster is being asked for it."""
        self.kept = False
        """Whether the cluster keeps the worker when the machine ends."""
        self.told = False
        """Whether it was told to go."""
        self.expected = False
        """Whether that was asked for."""
        self.reason = ""


class DaskFleet:
    """Has a cluster start and end workers, and knows which of them is which machine.

    A Dask worker has a name of the cluster's own. The cluster is the scheduler's machine: it is made, or taken hold of,
    when the engine rents that, and ends with it.

    Args:
        context: Of the study.
        provider: As the user gave it.
    """

    def __init__(self, context: FleetContext, provider: DaskCluster) -> None:
        self._context = context
        self._provider = provider
        self._line: Line | None = None
        self._facts: Facts | None = None
        self._host: int | None = None
        self._rented: dict[int, Rented] = {}
        self._kept: dict[str, str] = {}
        """Address of each worker that the cluster keeps, by name; empty while it is started anew."""
        self._going: set[str] = set()
        """Addresses of workers that were told to go."""
        self._said: set[str] = set()
        """Addresses of workers that have said that they can train."""
        self._look = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._tasks = Background("the Dask cluster's fleet failed")

    # --- the fleet ---

    async def open(self) -> None:
        """Nothing runs yet: the engine says when it wants the cluster."""

    async def adopt(self, machines: Collection[int]) -> None:
        """A cluster goes with its runner, or is let go of: there is none to be found."""

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress | None:  # noqa: ARG002 - there is but one
        """Make the cluster, or take hold of it.

        Raises:
            SeerError: It cannot be had, or a study cannot use it.
        """
        self._host = machine
        line = self._provider.line()
        try:
            facts = await line.open(self._context.lease_s, self._lost_cluster)
        except BaseException:
            self._host = None
            raise
        if self._host != machine:
            await line.close()
            return None
        self._line, self._facts = line, facts
        self._kept = dict(facts.kept)
        self._watcher = asyncio.get_running_loop().create_task(self._watch(line))
        return SchedulerAddress(facts.address, facts.security)

    async def rent(self, machine: int, offer: Offer) -> None:  # noqa: ARG002 - there is but one
        """Take a worker that the cluster keeps, or have it start one."""
        rented = self._rented[machine] = Rented(f"{machine}.0")
        if self._line is None or self._facts is None:
            self._refused(machine, rented, "there is no Dask cluster")
        elif spare := self._spare():
            rented.kept = True
            self._bind(rented, spare)
        elif not self._facts.grows:
            why = f"the Dask cluster's {len(self._kept)} workers are in use, and it cannot start and end chosen ones"
            self._refused(machine, rented, why, scarce=True)
        else:
            await self._grow(machine, rented, self._line)

    async def retire(self, machine: int, *, force: bool) -> None:
        """End a worker, or give it back."""
        if machine == self._host:
            self._host = None
            await self._drop_line("the Dask cluster ends")
            self._context.ended(MachineEnded(machine=machine, expected=True))
            return
        rented = self._rented.get(machine)
        if rented is not None and not rented.told:
            rented.told = rented.expected = True
            await self._end_worker(machine, rented, force=force)

    async def lost(self, machine: int) -> None:
        """Have the cluster not start a worker anew that has left."""
        rented = self._rented.get(machine)
        if rented is not None and not rented.told:
            rented.told, rented.reason = True, LEFT
            await self._end_worker(machine, rented, force=True)

    async def close(self) -> None:
        """End all workers that were started for the study, and its cluster, if it has made that."""
        await asyncio.gather(*(self.retire(machine, force=True) for machine in list(self._rented)))
        if self._host is not None:
            await self.retire(self._host, force=True)
        self._tasks.cancel()

    def name_of(self, worker: str, address: str) -> str | None:  # noqa: ARG002 - one address, one worker
        """Name of a worker as the engine knows it; None for one that is not rented. See `DaskGangs`."""
        if not address:  # nothing is announced of workers that have no machine of their own
            return None
        self._said.add(address)
        return next((x.name for x in self._rented.values() if x.address == address and not x.told), None)

    # --- which worker is which machine ---

    async def _watch(self, line: Line) -> None:
        """Look at the workers for as long as there is a cluster."""
        loop = asyncio.get_running_loop()
        heard_s = loop.time()
        while True:
            try:
                async with asyncio.timeout(DEAF_S):
                    found = await line.call("workers")
                heard_s = loop.time()
                self._sight(found)
            except (OSError, SeerError, TimeoutError) as error:
                logger.warning("the Dask cluster does not answer: %s", error)
                if loop.time() - heard_s > DEAF_S:
                    self._lost_cluster()
                    return
            waiting = any(not rented.address or rented.told for rented in self._rented.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SOON_S if waiting else LATER_S):
                    await self._look.wait()
            self._look.clear()

    def _sight(self, found: dict[str, Seen]) -> None:
        self._going &= found.keys()
        self._said &= found.keys()
        self._kept = {**dict.fromkeys(self._kept, ""), **self._kept_in(found)}
        for machine, rented in self._rented.items():
            if rented.address and rented.address not in found and not rented.told:
                self._tasks.go(self.lost(machine))
        taken = {rented.address for rented in self._rented.values()} | self._going
        for address, seen in found.items():
            if seen.name not in self._kept and address not in taken:
                self._welcome(address, seen)

    def _kept_in(self, found: dict[str, Seen]) -> dict[str, str]:
        return {seen.name: address for address, seen in found.items() if seen.name in self._kept}

    def _welcome(self, address: str, seen: Seen) -> None:
        """A worker has come: it is the machine's that it was started for, else of the one that waits longest."""
        waiting = [rented for rented in self._rented.values() if not rented.address]
        rented = next((x for x in waiting if (seen.key is None and not x.told) or x.key == seen.key), None)
        if rented is not None and not rented.told:
            self._bind(rented, address)
        elif rented is None and not any(x.asked for x in waiting):
            # Started anew after it was lost, or for a machine that has gone.
            self._going.add(address)
            self._tasks.go(self._call("end", seen.key, address, force=True))

    def _bind(self, rented: Rented, address: str) -> None:
        rented.address = address
        if address in self._said:
            self._tasks.go(self._call("speak", address))

    def _spare(self) -> str | None:
        """Address of a worker that the cluster keeps, and no machine is."""
        taken = {rented.address for rented in self._rented.values()}
        return next((address for address in self._kept.values() if address and address not in taken), None)

    # --- ends ---

    async def _grow(self, machine: int, rented: Rented, line: Line) -> None:
        rented.asked = True
        try:
            rented.key = await line.call("grow")
        except (OSError, SeerError) as error:
            self._refused(machine, rented, str(error))
        finally:
            rented.asked = False
        self._look.set()
        if rented.told:
            await self._end_worker(machine, rented, force=True)

    async def _end_worker(self, machine: int, rented: Rented, *, force: bool) -> None:
        """Have the worker of a machine end, or given back, and report it when that is done."""
        if rented.asked:  # it is ended as soon as it was asked for
            return
        if rented.address:
            self._going.add(rented.address)
        if rented.kept:
            if force:
                self._kept = {name: "" if at == rented.address else at for name, at in self._kept.items()}
            await self._call("release", rented.address, force=force)
            self._going.discard(rented.address)
        elif rented.key is not None or rented.address:
            await self._call("end", rented.key, rented.address or None, force=force)
        self._ended(machine, rented)

    async def _call(self, method: str, *args: Any, **named: Any) -> None:
        """Have the cluster do something; if it can't, it is lost, or its worker is."""
        if self._line is None:
            return
        try:
            await self._line.call(method, *args, **named)
        except (OSError, SeerError) as error:
            logger.warning("%s: %s", method, error)

    def _refused(self, machine: int, rented: Rented, reason: str, *, scarce: bool = False) -> None:
        self._ended(machine, rented, reason, lived_s=0.0, scarce=scarce)

    def _ended(self, machine: int, rented: Rented, reason: str = "", **more: Any) -> None:
        if self._rented.pop(machine, None) is not None:
            reason = "" if rented.expected else reason or rented.reason
            self._context.ended(MachineEnded(machine=machine, expected=rented.expected, reason=reason, **more))

    def _lost_cluster(self) -> None:
        """The scheduler is gone, or the process that the cluster lived in."""
        host, self._host = self._host, None
        if host is not None:
            self._tasks.go(self._report_loss(host))

    async def _report_loss(self, host: int) -> None:
        reason = "the Dask cluster has gone, or the process that it lived in"
        await self._drop_line(reason)
        self._context.ended(MachineEnded(machine=host, expected=False, reason=reason))

    async def _drop_line(self, reason: str) -> None:
        """Leave the cluster; machines that are left end with it."""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        line, self._line, self._facts = self._line, None, None
        if line is not None:
            with contextlib.suppress(OSError, SeerError):
                await line.close()
        for machine, rented in list(self._rented.items()):
            self._ended(machine, rented, reason)
        self._kept, self._going, self._said = {}, set(), set()
