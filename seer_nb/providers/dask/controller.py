"""Control of a Dask cluster in the process that it lives in: start one more worker, terminate a chosen one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.errors import SeerError
from seer_nb.providers._dask_options import WORKER_DEATH_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Collection


logger = logging.getLogger(__name__)
PLUGINS = ("seer_nb", "seer_nb-events")
"""Names of the plugins that the runner installs on workers and on the scheduler."""
MOVE_TIMEOUT_S = 5.0
"""Seconds that a retiring worker may take to move data that others need."""
GUARD_SHARE = 3 / 4
"""Share of the lease after which an unrenewed scheduler closes. Workers close after the whole lease, of which at most a
sixth has passed at the last renewal. So the scheduler closes them, and their nannies, before they exit by themselves;
a nanny would replace a worker that exits by itself."""
CONNECT_TIMEOUT_S = 30.0
MAX_ATTEMPTS = 5
"""Attempts to terminate all workers of the study: new ones may join while others are terminated."""


class ClusterInfo(NamedTuple):
    """Facts about a cluster that the runner needs."""

    address: str
    """Address of its scheduler."""
    security: Any
    can_scale: bool
    """Whether it can start workers and terminate chosen ones."""
    existing: dict[str, str]
    """Addresses of the workers that it had before the study and keeps, by name."""


class WorkerInfo(NamedTuple):
    """A worker as the scheduler knows it."""

    name: str
    threads: int
    key: str | None
    """The cluster's key of the worker; None if it is unknown."""


class ClusterController:
    """Runs on the cluster's own event loop; other threads use ``call``.

    Dask's ``scale`` is used only to add workers. When it removes some, it chooses them itself, and treats workers
    without their spec's name as never started.

    Args:
        cluster: A running Dask cluster.
        own: Whether the cluster was made for the study and ends with it.
    """

    def __init__(self, cluster: Any, *, own: bool) -> None:
        self.cluster = cluster
        self._own = own
        self._client: Any = None
        self._started: set[str] = set()
        """Keys of the workers that were started for the study, if the cluster has keys."""
        self._existing: set[str] = set()
        """Names of the workers that the cluster had before the study."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The cluster's event loop."""
        loop: asyncio.AbstractEventLoop = self.cluster.loop.asyncio_loop
        return loop

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method on the cluster's event loop; return a ``concurrent.futures.Future``."""
        return asyncio.run_coroutine_threadsafe(getattr(self, method)(*args, **kwargs), self.loop)

    def close(self) -> None:
        """Leave the cluster, and close it if it is the study's own. Call this from another thread than the loop's."""
        try:
            self.call("leave").result(CONNECT_TIMEOUT_S)
        except Exception:
            logger.warning("Dask cluster not left cleanly", exc_info=True)
        if self._own:
            self.cluster.close()

    async def open(self, lease_s: float) -> ClusterInfo:
        """Connect to the cluster.

        Args:
            lease_s: A cluster of the study's own closes after this time without a call of ``workers``.

        Raises:
            SeerError: A study cannot use the cluster.
        """
        from distributed import Client

        cluster = self.cluster
        check(cluster)
        address = str(cluster.scheduler_address)
        self._client = await Client(
            address, security=cluster.security, asynchronous=True, set_as_default=False, timeout=CONNECT_TIMEOUT_S
        )
        scalable = can_scale(cluster)
        if self._own:
            await self._client.register_plugin(_scheduler_guard(GUARD_SHARE * lease_s))
            if scalable:
                await self._remove(list(cluster.worker_spec) if _has_spec(cluster) else await self._worker_names())
        found = await self.workers()
        _check_threads(max((worker.threads for worker in found.values()), default=1))
        self._existing = {worker.name for worker in found.values()}
        existing = {worker.name: address for address, worker in found.items()}
        return ClusterInfo(address, cluster.security, scalable, existing)

    async def workers(self) -> dict[str, WorkerInfo]:
        """Return all workers that the scheduler knows, by address; renew the lease of a cluster of the study's own."""
        if self._own:
            await self._client.scheduler.seer_renew()
        found = (await self._client.scheduler.identity(n_workers=-1))["workers"]
        return {
            str(address): WorkerInfo(
                str(worker["name"]), int(worker["nthreads"]), self._find_key(str(worker["name"]), address)
            )
            for address, worker in found.items()
        }

    async def start_worker(self) -> str | None:
        """Start one more worker.

        Returns:
            The cluster's key of the worker; None if the cluster has no keys.
        """
        cluster = self.cluster
        if not _has_spec(cluster):
            # Workers that are being started are only in the cluster's plan.
            size = max(len(await self._worker_names()), len(getattr(cluster, "plan", ())))
            await _await_if_needed(cluster.scale(size + 1))
            return None
        before = set(cluster.worker_spec)
        await _await_if_needed(cluster.scale(len(before) + 1))
        (key,) = cluster.worker_spec.keys() - before
        _set_worker_name(cluster.worker_spec, key)
        self._started.add(str(key))
        return str(key)

    async def end_worker(self, key: str | None, address: str | None, *, force: bool) -> None:
        """Terminate a worker that was started for the study; return when it has exited.

        Args:
            key: The cluster's key of the worker, if it has one.
            address: The worker's address; None if it has not joined yet.
            force: Whether to skip moving the data that it holds for others.
        """
        name = None if address is None else (await self.workers()).get(address, WorkerInfo("", 1, None)).name
        if address is not None and not (force and key is not None):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOVE_TIMEOUT_S):
                    # Without a key the cluster cannot close the worker, so the scheduler does.
                    await self._client.retire_workers([address], close_workers=key is None)
        if key is not None:
            await self._remove([key])
        elif name and not _has_spec(self.cluster):
            await self._remove([name])

    async def release_worker(self, address: str, *, force: bool) -> None:
        """Return a worker to the cluster, which keeps it.

        Args:
            address: The worker's address.
            force: Whether to restart it, because it does not leave the training function.
        """
        if force and address in await self.workers():
            await self._client.restart_workers([address], timeout=MOVE_TIMEOUT_S, raise_for_error=False)

    async def announce_worker(self, address: str) -> None:
        """Make a worker report again that it is ready."""
        await self._client.run(_announce, workers=[address], on_error="ignore")

    async def leave(self) -> None:
        """Terminate what was started for the study, and leave the cluster to its owner."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            await self._remove_started(client)
            names = await _names_by_address(client)
            await _leave_workers(client, [address for address, name in names.items() if name in self._existing])
        finally:
            await client.close()

    # --- workers ---

    async def _remove_started(self, client: Any) -> None:
        """Terminate what was started for the study, including workers that have not joined yet."""
        if _has_spec(self.cluster):
            await self._remove(list(self._started))
        elif can_scale(self.cluster):
            for _ in range(MAX_ATTEMPTS):
                present = set((await _names_by_address(client)).values())
                if present <= self._existing:
                    # All of them stay, so scale() has nothing to choose; it cancels workers that have not joined.
                    await _await_if_needed(self.cluster.scale(len(present)))
                    return
                await self._remove(list(present - self._existing))
            logger.warning("workers of the study not terminated: they exit when their leases expire")

    async def _worker_names(self) -> list[str]:
        return list((await _names_by_address(self._client)).values())

    def _find_key(self, name: str, address: str) -> str | None:
        """Return the key of a worker in a cluster with a spec."""
        if not _has_spec(self.cluster):
            return None
        for key, spec in self.cluster.worker_spec.items():
            if name in {f"{key}{suffix}" for suffix in spec.get("group", ("",))}:
                return str(key)
        for key, process in self.cluster.workers.items():
            if name == str(getattr(process, "name", None)) or address == getattr(process, "worker_address", None):
                return str(key)
        return None

    async def _remove(self, keys: Collection[Any]) -> None:
        """Terminate workers without the cluster replacing them."""
        cluster = self.cluster
        if not _has_spec(cluster):
            if keys:
                await _await_if_needed(cluster.scale_down(list(keys)))
            return
        names = {str(key) for key in keys}
        processes = [cluster.workers.pop(key) for key in list(cluster.workers) if str(key) in names]
        for key in [key for key in cluster.worker_spec if str(key) in names]:
            del cluster.worker_spec[key]
        self._started -= names
        # Not by scale_down, which waits until all other workers have booted. Afterwards it terminates a worker that was
        # booting itself.
        await asyncio.gather(*(process.close() for process in processes))
        if len(processes) < len(names):
            await cluster.scale_down([])


# --- checks of a cluster ---


def can_scale(cluster: Any) -> bool:
    """Return whether a cluster can start workers and terminate chosen ones."""
    able = callable(getattr(cluster, "scale", None)) and callable(getattr(cluster, "scale_down", None))
    return able and bool(getattr(cluster, "_supports_scaling", False))


def check(cluster: Any) -> None:
    """Check that a study can use a cluster.

    Raises:
        SeerError: It cannot; the message says why and what to change.
    """
    address = str(cluster.scheduler_address)
    if address.startswith("inproc"):
        raise SeerError(
            f"the scheduler's address is {address}, which other processes cannot reach: make the cluster with "
            "processes=True"
        )
    if getattr(getattr(cluster, "_adaptive", None), "periodic_callback", None) is not None:
        raise SeerError("the Dask cluster scales itself, but the study decides on its workers: do not call adapt()")
    spec = getattr(cluster, "new_spec", None) or {}
    if len(spec.get("group", ("",))) > 1:
        raise SeerError(
            f"the Dask cluster starts {len(spec['group'])} workers at a time, but the study terminates single ones: "
            "configure it to start one (processes=1)"
        )
    options = spec.get("options", {})
    _check_threads({**options, **options.get("worker_kwargs", {})}.get("nthreads") or 1)


def _check_threads(threads: int) -> None:
    if threads > 1:
        raise SeerError(
            f"the Dask cluster's workers have {threads} threads each, but a worker trains one trial at a time: "
            "give them one thread (threads_per_worker=1, or cores=1)"
        )


def _has_spec(cluster: Any) -> bool:
    from distributed.deploy.spec import SpecCluster

    return isinstance(cluster, SpecCluster)


# --- helpers ---


def _set_worker_name(specs: dict[Any, Any], key: Any) -> None:
    """Give a worker its spec's name, which SubprocessCluster does not pass on, and a death timeout.

    Without the timeout, a worker whose scheduler is gone would never exit.
    """
    options = specs[key].get("options", {})
    if "worker_kwargs" in options:
        named = {"death_timeout": WORKER_DEATH_TIMEOUT_S, **options["worker_kwargs"], "name": str(key)}
        specs[key] = {**specs[key], "options": {**options, "worker_kwargs": named}}


async def _await_if_needed(result: Any) -> None:
    if result is not None and hasattr(result, "__await__"):
        await result


async def _names_by_address(client: Any) -> dict[str, str]:
    found = await client.scheduler.identity(n_workers=-1)
    return {str(address): str(worker["name"]) for address, worker in found["workers"].items()}


async def _leave_workers(client: Any, stay: list[str]) -> None:
    """Remove the study's plugins, and the leases of workers that stay; workers that were to be removed keep theirs."""
    with contextlib.suppress(OSError, ValueError):
        if stay:
            await client.run(_disable_lease, workers=stay, on_error="ignore")
        await client.unregister_worker_plugin(PLUGINS[0])
        await client.unregister_scheduler_plugin(PLUGINS[1])


# --- what runs on the scheduler and on workers ---


def _scheduler_guard(lease_s: float) -> Any:
    """Return a scheduler plugin that closes the scheduler, and with it all workers, unless it is renewed.

    The plugin is for schedulers that outlive the process that made them. The remote call ``seer_renew`` renews the
    lease. The plugin is pickled by value, because seer_nb may not be installed there.

    Args:
        lease_s: Seconds without a renewal after which the scheduler closes.
    """
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Guard(SchedulerPlugin):
        name = "seer_nb-guard"
        idempotent = True

        async def start(self, scheduler: Any) -> None:
            import asyncio

            self.renew()
            scheduler.handlers["seer_renew"] = self.renew
            self._task = asyncio.ensure_future(self._watch(scheduler))

        def renew(self) -> None:
            import time

            self._renewed_s = time.monotonic()

        async def _watch(self, scheduler: Any) -> None:
            import asyncio
            import time

            while (left_s := self._renewed_s + lease_s - time.monotonic()) > 0:  # noqa: ASYNC110 - no event to await
                await asyncio.sleep(left_s)
            await scheduler.close(reason="the runner of the study has not renewed the lease")

    return Guard()


def _announce(dask_worker: Any) -> None:
    """Make this worker report again that it is ready, if it is."""
    plugin = dask_worker.plugins.get(PLUGINS[0])
    if plugin is not None:
        plugin.agent.register_again()


def _disable_lease(dask_worker: Any) -> None:
    """Let this worker run without a lease."""
    plugin = dask_worker.plugins.get(PLUGINS[0])
    if plugin is not None:
        plugin.agent.lease_s = math.inf
