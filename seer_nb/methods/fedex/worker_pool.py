"""Pools that run client tasks: in this process, or on the Dask workers of a provider."""

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
from seer_nb.methods.fedex.client import run_client_tasks
from seer_nb.methods.fedex.limits import LimitReachedError
from seer_nb.providers.base import FleetContext

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from seer_nb.core import MachineEnded
    from seer_nb.core.money import Offer
    from seer_nb.methods.fedex.client import ClientOutcome, ClientTask, Vector
    from seer_nb.methods.fedex.federation import Federation
    from seer_nb.methods.fedex.limits import Limits
    from seer_nb.providers.base import Fleet, Provider, SchedulerAddress


_T = TypeVar("_T")
MAX_ATTEMPTS = 3
"""Attempts of a round whose workers are lost. A retry is safe, because an outcome depends only on its task."""
CHECK_INTERVAL_S = 0.5
"""Seconds between two checks of limits and machines while tasks run."""
READY_INTERVAL_S = 0.05
"""Seconds between two checks for workers that are ready."""


class WorkerPool(Protocol):
    """Runs client tasks, anywhere and in any order."""

    def run_tasks(self, weights: Vector, tasks: Sequence[ClientTask]) -> list[ClientOutcome]:
        """Run client tasks.

        Args:
            weights: Model that each client receives, shape (parameters,).
            tasks: At least one task.

        Returns:
            One outcome per task, in the order of the tasks.

        Raises:
            LimitReachedError: The deadline or the end of the budget is reached.
        """
        ...


class InProcessPool:
    """Runs client tasks in this process, one after the other.

    Args:
        federation: Federation whose clients train.
        check: Called before each task; raises LimitReachedError to end the search. Default: no check.
    """

    def __init__(self, federation: Federation, check: Callable[[], None] | None = None) -> None:
        self._federation = federation
        self._check = check

    def run_tasks(self, weights: Vector, tasks: Sequence[ClientTask]) -> list[ClientOutcome]:
        trainer = self._federation.trainer
        if self._check is None:
            return trainer.run_tasks(weights, tasks)
        outcomes = []
        for task in tasks:
            self._check()
            outcomes += trainer.run_tasks(weights, [task])
        return outcomes


@contextmanager
def open_pool(
    federation: Federation, provider: Provider | None, workers: int | None, useful: int, limits: Limits
) -> Iterator[WorkerPool]:
    """Open a pool for a block of code; a provider's machines are released at its end.

    Args:
        federation: Federation whose clients train.
        provider: Provider of the workers; None: this process.
        workers: Upper limit of the number of workers; None: the provider's limit.
        useful: Number of workers beyond which more would be idle.
        limits: Deadline and budget.

    Raises:
        TypeError: ``workers`` has the wrong type.
        ValueError: ``workers`` is out of range, or the provider's machines need a study's runner.
        SeerError: No worker became ready.
    """
    given = None if workers is None else check_integer(workers, "workers")
    if provider is None:
        if given is not None and given > 1:
            raise ValueError(f"workers={short_repr(workers)}: needs a provider; expected one such as seer.Local()")
        yield InProcessPool(federation, limits.check)
        return
    pool = DaskPool(federation, provider, min(given or provider.max_workers, provider.max_workers, useful), limits)
    with _scheduler_warnings_only():
        try:
            pool.open()
            yield pool
        finally:
            pool.close()


@contextmanager
def _scheduler_warnings_only() -> Iterator[None]:
    """Keep the scheduler's info messages out of a notebook; warnings still appear."""
    logger = logging.getLogger("distributed")
    levels = {name: logging.getLogger(name).level for name in ("distributed.scheduler", "distributed.core")}
    for name in levels:
        logging.getLogger(name).setLevel(max(logging.WARNING, logger.level))
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class DaskPool:
    """A Dask cluster on machines that are rented for one search, and that end with it or with its process.

    Args:
        federation: Federation whose clients train; it is scattered to the workers once.
        provider: Provider of the machines.
        workers: Number of workers to rent, as far as the budget allows.
        limits: Deadline and budget, with the ledger that the machines are booked in.

    Raises:
        ValueError: The provider's machines need a study's runner to renew their leases.
    """

    def __init__(self, federation: Federation, provider: Provider, workers: int, limits: Limits) -> None:
        for offer in provider.offers():
            if offer.boot_lease_s:
                raise ValueError(
                    f"provider={short_repr(provider)}: its machines end unless a study's runner renews their leases; "
                    "expected seer.Local() or seer.DaskCluster(...), or use fedex.Search(...), which is a study"
                )
        self._federation, self._provider, self._workers, self._limits = federation, provider, workers, limits
        self._folder = Path(tempfile.mkdtemp(prefix="seer-fedex-"))
        (self._folder / "logs").mkdir()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="seer-fedex", daemon=True)
        self._thread.start()
        self._fleet: Fleet | None = None
        self._client: Any = None
        self._scattered: Any = None
        """Future of the federation on the workers; None: it must be scattered."""
        self._next_machine = 0
        self._failures: list[str] = []
        """Reason of each machine that ended unexpectedly."""

    def open(self) -> None:
        """Start the cluster, and wait until its workers are ready.

        Raises:
            SeerError: No scheduler or worker became ready.
        """
        self._call(self._open())

    def run_tasks(self, weights: Vector, tasks: Sequence[ClientTask]) -> list[ClientOutcome]:
        """Run client tasks, divided evenly among the workers; see ``WorkerPool.run_tasks``.

        Raises:
            LimitReachedError: The deadline or the end of the budget is reached.
            SeerError: Workers were lost in each of several attempts.
        """
        for _ in range(MAX_ATTEMPTS):
            self._limits.check()
            outcomes = self._call(self._run_tasks(weights, tasks))
            if outcomes is not None:
                return outcomes
        causes = "; ".join(self._failures[-MAX_ATTEMPTS:])
        raise SeerError(f"workers were lost {MAX_ATTEMPTS} times in one round: {causes}")

    def close(self) -> None:
        """Terminate all machines, and stop the event loop."""
        try:
            self._call(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def fleet(self) -> Fleet | None:
        """Fleet of the rented machines; None before ``open``."""
        return self._fleet

    def _call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _open(self) -> None:
        from distributed import Client

        context = FleetContext(
            study=self._folder.name,
            folder=self._folder,
            lease_s=self._limits.ledger.lease_s,
            on_ended=self._machine_ended,
        )
        self._fleet = self._provider.fleet(context)
        scheduler = await self._fleet.open() or await self._rent_scheduler()
        self._client = await Client(
            scheduler.address, security=scheduler.security, asynchronous=True, set_as_default=False
        )
        for _ in range(self._workers):
            await self._rent_worker()
        await self._ready_workers()

    async def _rent_scheduler(self) -> SchedulerAddress:
        assert self._fleet is not None
        offer = self._provider.scheduler_offer
        assert offer is not None
        found = await self._fleet.boot_scheduler(self._book(offer), offer)
        if found is None:
            raise SeerError(f"{self._provider}: could not start a scheduler: {'; '.join(self._failures)}")
        return found

    async def _rent_worker(self) -> None:
        """Rent one more machine if the budget allows it."""
        assert self._fleet is not None
        offer = self._provider.offers()[0]
        if self._limits.ledger.affords(offer, self._limits.elapsed_s(), keep_s=offer.boot_s):
            await self._fleet.rent(self._book(offer), offer)

    def _book(self, offer: Offer) -> int:
        machine, self._next_machine = self._next_machine, self._next_machine + 1
        self._limits.ledger.open(machine, offer, self._limits.elapsed_s())
        return machine

    def _machine_ended(self, event: MachineEnded) -> None:
        self._limits.ledger.close(event.machine, self._limits.elapsed_s(), lived_s=event.lived_s)
        if not event.expected:
            self._failures.append(event.reason)

    async def _ready_workers(self) -> list[str]:
        """Wait for the first worker and for all that still boot, and return the addresses of the ready ones.

        Raises:
            SeerError: No worker is ready or booting.
        """
        offer = self._provider.offers()[0]
        until_s = self._limits.elapsed_s() + offer.boot_timeout_s
        while True:
            self._limits.check()
            ready = sorted(await self._client.nthreads())
            booked = sum(x.offer.workers_per_machine > 0 for x in self._limits.ledger.accounts[0].values())
            is_late = self._limits.elapsed_s() > until_s
            if ready and (len(ready) >= booked or is_late):
                return ready
            if not booked or is_late:
                cause = "; ".join(self._failures) or "the budget is too small for one, or none became ready in time"
                raise SeerError(f"{self._provider}: no worker became ready: {cause}")
            await asyncio.sleep(READY_INTERVAL_S)

    async def _run_tasks(self, weights: Vector, tasks: Sequence[ClientTask]) -> list[ClientOutcome] | None:
        """Run the tasks once; None: workers were lost, and replacements were rented."""
        failures_before = len(self._failures)
        workers = await self._ready_workers()
        if self._scattered is None:
            self._scattered = await self._client.scatter(self._federation, broadcast=True, hash=False)
        # Large clients are often neighbours; a round-robin assignment spreads them over the workers.
        shares = [tasks[index :: len(workers)] for index in range(len(workers))]
        futures = [
            self._client.submit(
                run_client_tasks, self._scattered, weights, share, workers=[worker], pure=False, retries=0
            )
            for worker, share in zip(workers, shares, strict=True)
            if share
        ]
        gathered = await self._gather(futures, failures_before)
        if gathered is None:
            self._scattered = None
            for _ in self._failures[failures_before:]:
                await self._rent_worker()
            return None
        outcomes: list[ClientOutcome | None] = [None] * len(tasks)
        for index, share in enumerate(gathered):
            outcomes[index :: len(workers)] = share
        return [outcome for outcome in outcomes if outcome is not None]

    async def _gather(self, futures: list[Any], failures_before: int) -> list[list[ClientOutcome]] | None:
        """Return the futures' results; None: a machine ended meanwhile."""
        gathering = asyncio.ensure_future(self._client.gather(futures))
        try:
            while not gathering.done():
                self._limits.check()
                if len(self._failures) > failures_before:
                    return None
                # ``wait`` returns early when the tasks are done.
                await asyncio.wait([gathering], timeout=CHECK_INTERVAL_S)
            found: list[list[ClientOutcome]] = gathering.result()
        except LimitReachedError:
            raise
        except Exception:
            # A lost worker surfaces as various exceptions, maybe before its machine's end is known. Without a lost
            # machine the exception comes from the user's functions.
            await asyncio.sleep(CHECK_INTERVAL_S)
            if len(self._failures) > failures_before:
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
