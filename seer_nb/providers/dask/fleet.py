"""The machines of one study on a Dask cluster: each is one of its workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from seer_nb._utils.clock import steady_s
from seer_nb.core.model import worker_name
from seer_nb.errors import SeerError
from seer_nb.providers._fleet import MachineFleet, Rented
from seer_nb.providers.base import SchedulerAddress

if TYPE_CHECKING:
    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext
    from seer_nb.providers.dask import DaskCluster
    from seer_nb.providers.dask.controller import Facts, Seen
    from seer_nb.providers.dask.rpc import Channel


logger = logging.getLogger(__name__)
SOON_S, LATER_S = 0.2, 1.0
"""Between two looks at the workers: while one is on its way, and else."""
DEAF_S = 15.0
"""A scheduler that does not answer for so long is lost."""
GONE = "the Dask cluster has gone, or the process that it lived in"


class FullError(SeerError):
    """The cluster has no more workers to give."""


class DaskMachine(Rented):
    """A worker, or one that is on its way; or the cluster itself."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Channel | None = None
        """To its cluster."""
        self.hosts = False
        """Whether it is the cluster."""
        self.key: str | None = None
        """What the cluster knows the worker by, if it was started for this machine and that can be told."""
        self.grown = False
        """Whether the cluster was asked for it."""
        self.address = ""
        """Where the worker listens, once it is there."""
        self.kept = False
        """Whether the cluster keeps the worker when the machine ends."""

    @property
    def nameless(self) -> bool:
        """Whether nobody can say of a worker that is on its way that it is this one's."""
        return self.grown and self.key is None


class DaskFleet(MachineFleet[DaskMachine]):
    """Has a cluster start and end workers, and knows which of them is which machine.

    A Dask worker has a name of the cluster's own. The cluster is the scheduler's machine: it is made, or taken hold of,
    when the engine rents that, and ends with it.

    Args:
        context: Of the study.
        provider: As the user gave it.
    """

    end_timeout_s = 600.0
    """A cluster that is being made can't be ended before that is over."""

    def __init__(self, context: FleetContext, provider: DaskCluster) -> None:
        super().__init__(context, DaskMachine)
        self._provider = provider
        self._line: Channel | None = None
        self._facts: Facts | None = None
        self._kept: dict[str, str] = {}
        """Address of each worker that the cluster keeps, by name; empty while it is started anew."""
        self._going: set[str] = set()
        """Addresses of workers that were told to go."""
        self._said: set[str] = set()
        """Addresses of workers that have said that they can train."""
        self._look = asyncio.Event()

    # --- the fleet ---

    async def open(self) -> None:
        """Nothing runs yet: the engine says when it wants the cluster."""

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Make the cluster, or take hold of it."""
        rented = await self._begin(machine, offer)
        if not self._stays(machine, rented) or self._facts is None:
            return None
        return SchedulerAddress(self._facts.address, self._facts.security)

    async def close(self) -> tuple[int, ...]:
        """End all workers that were started for the study, and its cluster, if it has made that."""
        workers = [machine for machine, rented in self._rented.items() if not rented.hosts]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEAF_S):
                await asyncio.gather(*(self.retire(machine, force=True) for machine in workers))
        return await super().close()

    def name_of(self, worker: str, address: str) -> str | None:  # noqa: ARG002 - one address, one worker
        """Name of a worker as the engine knows it."""
        if not address:  # nothing is announced of workers that have no machine of their own
            return None
        self._said.add(address)
        found = (machine for machine, x in self._rented.items() if x.address == address and x.told_s is None)
        return next((worker_name(machine, 0) for machine in found), None)

    # --- launching ---

    async def _launch(self, machine: int, rented: DaskMachine, offer: Offer) -> None:
        if not offer.workers_per_machine:
            await self._take_hold(machine, rented)
            return
        line, facts = self._line, self._facts
        if line is None or facts is None:
            raise SeerError("there is no Dask cluster")
        rented.line = line
        if spare := self._spare():
            rented.kept = True
            self._bind(rented, spare)
        elif not facts.grows:
            why = f"the Dask cluster's {len(self._kept)} workers are in use, and it cannot start and end chosen ones"
            raise FullError(why)
        else:
            rented.key = await line.call("grow")
            rented.grown = True
            self._look.set()

    async def _take_hold(self, machine: int, rented: DaskMachine) -> None:
        """Make the cluster, or take hold of it."""
        rented.hosts = True
        for other, x in list(self._rented.items()):
            if x.hosts and x is not rented:  # there is but one: nothing may keep the other alive
                await self._tell(other, "another Dask cluster has taken its place")
        line = rented.line = self._provider.line()
        lost = lambda: self._tasks.go(self._tell(machine, GONE))  # noqa: E731 - for the line
        facts = await line.open(self._context.lease_s, lost)
        if rented.told_s is None:
            self._line, self._facts = line, facts
            self._kept, self._going, self._said = dict(facts.kept), set(), set()
            self._tasks.go(self._watch(machine, line))

    def _is_scarce(self, error: Exception) -> bool:
        return isinstance(error, FullError)

    # --- which worker is which machine ---

    async def _watch(self, host: int, line: Channel) -> None:
        """Look at the workers for as long as there is this cluster."""
        heard_s = steady_s()
        while self._line is line:
            try:
                async with asyncio.timeout(DEAF_S):
                    found = await line.call("workers")
                heard_s = steady_s()
                self._sight(found)
            except Exception as error:  # noqa: BLE001 - it is looked at again
                logger.warning("the Dask cluster does not answer: %r", error)
                if steady_s() - heard_s > DEAF_S:
                    self._tasks.go(self._tell(host, GONE))
                    return
            waiting = any(not rented.address or rented.told_s is not None for rented in self._workers().values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SOON_S if waiting else LATER_S):
                    await self._look.wait()
            self._look.clear()

    def _sight(self, found: dict[str, Seen]) -> None:
        self._going &= found.keys()
        self._said &= found.keys()
        self._kept = {**dict.fromkeys(self._kept, ""), **self._kept_in(found)}
        for machine, rented in self._workers().items():
            if rented.address and rented.address not in found and rented.told_s is None:
                self._tasks.go(self.lost(machine))
        taken = {rented.address for rented in self._workers().values()} | self._going
        for address, seen in found.items():
            if seen.name not in self._kept and address not in taken:
                self._welcome(address, seen)
        self._forget()

    def _workers(self) -> dict[int, DaskMachine]:
        """The machines that are workers, of the cluster that there is."""
        return {machine: x for machine, x in self._rented.items() if x.line is self._line and not x.hosts}

    def _kept_in(self, found: dict[str, Seen]) -> dict[str, str]:
        return {seen.name: address for address, seen in found.items() if seen.name in self._kept}

    def _welcome(self, address: str, seen: Seen) -> None:
        """A worker has come: it is the machine's that it was started for, else of the one that waits longest."""
        waiting = {machine: x for machine, x in self._workers().items() if not x.address}
        fits = [m for m, x in waiting.items() if (x.grown if seen.key is None else x.key == seen.key)]
        # A machine that is to go takes what none other wants.
        fits.sort(key=lambda machine: waiting[machine].told_s is not None)
        if fits:
            rented = waiting[fits[0]]
            self._bind(rented, address)
            if rented.told_s is not None:
                self._tasks.go(self._end(fits[0], rented, force=True))
        elif not any(x.launching for x in waiting.values()):
            # Started anew after it was lost, or for a machine that has gone.
            self._going.add(address)
            self._tasks.go(self._call(self._line, "end", seen.key, address, force=True))

    def _bind(self, rented: DaskMachine, address: str) -> None:
        rented.address = address
        if address in self._said and rented.told_s is None:
            self._tasks.go(self._call(rented.line, "speak", address))

    def _spare(self) -> str | None:
        """Address of a worker that the cluster keeps, and no machine is."""
        taken = {rented.address for rented in self._rented.values()}
        return next((address for address in self._kept.values() if address and address not in taken), None)

    def _forget(self) -> None:
        """Machines that were to go as soon as they had come, and never came."""
        for machine, rented in self._workers().items():
            late = steady_s() - rented.begun_s > self._provider.boot_timeout_s
            if rented.nameless and not rented.address and rented.told_s is not None and late:
                self._ended(machine)

    # --- ends ---

    async def _end(self, machine: int, rented: DaskMachine, *, force: bool) -> None:
        if rented.launching:  # a cluster that is being made, and a worker that is asked for, ends when it is there
            return
        if rented.hosts:
            await self._end_cluster(machine, rented)
        elif not (rented.grown or rented.kept):
            self._ended(machine, lived_s=0.0)
        elif rented.nameless and not rented.address:
            self._look.set()
        else:
            await self._end_worker(machine, rented, force=force)

    async def _end_worker(self, machine: int, rented: DaskMachine, *, force: bool) -> None:
        """Have a worker end, or given back, and report it when that is done."""
        at = rented.address
        if at:
            self._going.add(at)
        if rented.kept:
            if force:
                self._kept = {name: "" if where == at else where for name, where in self._kept.items()}
            await self._call(rented.line, "release", at, force=force)
            self._going.discard(at)
        else:
            await self._call(rented.line, "end", rented.key, at or None, force=force)
        self._ended(machine)

    async def _end_cluster(self, machine: int, rented: DaskMachine) -> None:
        """Leave the cluster; workers that are left end with it."""
        line = rented.line
        if self._line is line:
            self._line = self._facts = None
            self._look.set()
        if line is not None:
            await self._guarded(line.close())
        for other in [other for other, x in self._rented.items() if x.line is line and not x.hosts]:
            self._ended(other, reason=rented.reason or "the Dask cluster ends")
        self._ended(machine)

    async def _call(self, line: Channel | None, method: str, *args: Any, **named: Any) -> None:
        """Have the cluster do something; if it can't, it is lost, or its worker is."""
        if line is not None:
            await self._guarded(line.call(method, *args, **named))

    async def _shut(self) -> None:
        """A cluster that is still being made ends as soon as it is there."""
        for rented in list(self._rented.values()):
            if rented.hosts and rented.line is not None:
                await self._guarded(rented.line.close())
