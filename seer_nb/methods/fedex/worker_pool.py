"""Workers of a provider that do clients' work, many clients at once."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from seer_nb._utils.text import short_repr
from seer_nb._utils.validation import check_integer
from seer_nb.errors import SeerError
from seer_nb.methods.fedex.client import work
from seer_nb.providers.base import FleetContext

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from seer_nb.core import MachineEnded
    from seer_nb.methods.fedex.client import Errand, Vector, Visit
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.validation import Limits
    from seer_nb.providers.base import Fleet, Provider, SchedulerAddress


class TimeUpError(Exception):
    """The deadline, or the end of the money, has come: what is under way is given up."""


class Pool(Protocol):
    """Does errands, in any order and anywhere, and gives back what came of them in theirs."""

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Have clients visited.

        Args:
            weights: That each begins with.
            errands: One a client.

        Raises:
            TimeUpError: There is no time left for them.
        """
        ...


class Here:
    """In this process, one after the other.

    Args:
        federation: Whose clients are visited.
        check: Called before each client; raises TimeUpError when the time is up.
    """

    def __init__(self, federation: Federation, check: Callable[[], None] | None = None) -> None:
        self._federation = federation
        self._check = check

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Have clients visited."""
        bench = self._federation.bench
        if self._check is None:
            return bench.visit(weights, errands)
        visits = []
        for errand in errands:
            self._check()
            visits += bench.visit(weights, [errand])
        return visits


_T = TypeVar("_T")
TRIES = 3
"""Of a round whose workers were lost; clients' work can be done again, for it depends on nothing but its errand."""
LOOK_S = 0.5


@contextmanager
def pool_of(
    federation: Federation, provider: Provider | None, workers: int | None, useful: int, limits: Limits
) -> Iterator[Pool]:
    """Where work is done: workers of a provider, which are handed back at the end, or without one this process.

    Args:
        federation: Whose clients are visited.
        provider: Of workers, or None.
        workers: At most so many.
        useful: More would be idle.
        limits: That are kept.

    Raises:
        TypeError, ValueError: For what cannot be.
        SeerError: There is no worker to be had.
    """
    given = None if workers is None else check_integer(workers, "workers")
    if provider is None:
        if given is not None and given > 1:
            raise ValueError(f"workers={short_repr(workers)} needs a provider: give one such as seer.Local()")
        yield Here(federation, limits.check)
        return
    rental = Rental(federation, provider, min(given or provider.max_workers, provider.max_workers, useful), limits)
    with _quiet():
        try:
            rental.open()
            yield rental
        finally:
            rental.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from a notebook what a scheduler says of its doings; warnings are told."""
    logger = logging.getLogger("distributed")
    levels = {name: logging.getLogger(name).level for name in ("distributed.scheduler", "distributed.core")}
    for name in levels:
        logging.getLogger(name).setLevel(max(logging.WARNING, logger.level))
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class Rental:
    """Machines that are rented for one search; they end with it, and with its process.

    Args:
        federation: Whose clients are visited.
        provider: Of the machines.
        workers: How many, as far as the money goes.
        limits: With the ledger in which the machines are booked.

    Raises:
        ValueError: The provider's machines need a study's runner to keep their lease.
    """

    def __init__(self, federation: Federation, provider: Provider, workers: int, limits: Limits) -> None:
        for offer in provider.offers():
            if offer.boot_lease_s:
                raise ValueError(
                    f"provider={short_repr(provider)} rents machines that end unless a study's "
                    "runner keeps their lease: "
                    "fedex.Search(...) is such a study; here, give seer.Local() or seer.DaskCluster(...)"
                )
        self._federation, self._provider, self._workers, self._limits = federation, provider, workers, limits
        self._folder = Path(tempfile.mkdtemp(prefix="seer-fedex-"))
        (self._folder / "logs").mkdir()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="seer-fedex", daemon=True)
        self._thread.start()
        self._fleet: Fleet | None = None
        self._client: Any = None
        self._sent: Any = None
        """The federation, as the workers hold it."""
        self._next = 0
        self._ends: list[str] = []
        """Why machines have ended that were not told to."""

    def open(self) -> None:
        """Rent machines, and wait for the first of them to be there."""
        self._call(self._open())

    def visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit]:
        """Have clients visited, a share of them by each worker."""
        for _ in range(TRIES):
            self._limits.check()
            visits = self._call(self._visit(weights, errands))
            if visits is not None:
                return visits
        raise SeerError(f"the workers were lost {TRIES} times in one round: {'; '.join(self._ends[-TRIES:])}")

    def close(self) -> None:
        """Hand everything back."""
        try:
            self._call(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _open(self) -> None:
        from distributed import Client

        context = FleetContext(
            study=self._folder.name,
            folder=self._folder,
            lease_s=self._limits.ledger.lease_s,
            ended=self._ended,
        )
        self._fleet = self._provider.fleet(context)
        scheduler = await self._fleet.open() or await self._host()
        self._client = await Client(
            scheduler.address, security=scheduler.security, asynchronous=True, set_as_default=False
        )
        for _ in range(self._workers):
            await self._rent()
        await self._wait()

    async def _host(self) -> SchedulerAddress:
        assert self._fleet is not None
        offer = self._provider.host
        assert offer is not None
        found = await self._fleet.host(self._book(offer), offer)
        if found is None:
            raise SeerError(f"{self._provider} gave no scheduler: {'; '.join(self._ends)}")
        return found

    async def _rent(self) -> None:
        """One more machine, if the money is there for it."""
        assert self._fleet is not None
        offer = self._provider.offers()[0]
        if self._limits.ledger.affords(offer, self._limits.elapsed_s(), keep_s=offer.boot_s):
            await self._fleet.rent(self._book(offer), offer)

    def _book(self, offer: Any) -> int:
        machine, self._next = self._next, self._next + 1
        self._limits.ledger.open(machine, offer, self._limits.elapsed_s())
        return machine

    def _ended(self, told: MachineEnded) -> None:
        self._limits.ledger.close(told.machine, self._limits.elapsed_s(), lived_s=told.lived_s)
        if not told.expected:
            self._ends.append(told.reason)

    async def _wait(self) -> list[str]:
        """Addresses of the workers that are there; waits for the first one, and for all that still boot.

        Raises:
            SeerError: None comes any more.
        """
        offer = self._provider.offers()[0]
        until_s = self._limits.elapsed_s() + offer.boot_timeout_s
        while True:
            self._limits.check()
            found = sorted(await self._client.nthreads())
            coming = sum(x.offer.workers_per_machine > 0 for x in self._limits.ledger.accounts[0].values())
            if found and (len(found) >= coming or self._limits.elapsed_s() > until_s):
                return found
            if not coming or self._limits.elapsed_s() > until_s:
                why = "; ".join(self._ends) or "the budget is too small for one, or none came in time"
                raise SeerError(f"{self._provider} gave no worker: {why}")
            await asyncio.sleep(0.05)

    async def _visit(self, weights: Vector, errands: Sequence[Errand]) -> list[Visit] | None:
        """None: workers were lost meanwhile, and others are rented."""
        lost = len(self._ends)
        workers = await self._wait()
        if self._sent is None:
            self._sent = await self._client.scatter(self._federation, broadcast=True, hash=False)
        # Clients in turn, so that large ones, which often lie together, do not all come to one worker.
        shares = [errands[place :: len(workers)] for place in range(len(workers))]
        futures = [
            self._client.submit(work, self._sent, weights, share, workers=[worker], pure=False, retries=0)
            for worker, share in zip(workers, shares, strict=True)
            if share
        ]
        found = await self._gathered(futures, lost)
        if found is None:
            self._sent = None
            for _ in self._ends[lost:]:
                await self._rent()
            return None
        visits: list[Visit | None] = [None] * len(errands)
        for place, share in enumerate(found):
            visits[place :: len(workers)] = share
        return [visit for visit in visits if visit is not None]

    async def _gathered(self, futures: list[Any], lost: int) -> list[list[Visit]] | None:
        gathering = asyncio.ensure_future(self._client.gather(futures))
        try:
            while not gathering.done():
                self._limits.check()
                if len(self._ends) > lost:
                    return None
                # Whoever is done is waited for no longer than that.
                await asyncio.wait([gathering], timeout=LOOK_S)
            found: list[list[Visit]] = gathering.result()
        except TimeUpError:
            raise
        except Exception:
            # What a worker takes with it is told of in many ways; what the user's functions raise is the user's.
            await asyncio.sleep(LOOK_S)
            if len(self._ends) > lost:
                return None
            raise
        finally:
            if not gathering.done():
                gathering.cancel()
            await self._client.cancel(futures, force=True)
        return found

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.close()
        if self._fleet is not None:
            await self._fleet.close()
