"""What is done to a Dask cluster, in the process that it lives in: one worker more, a chosen one less."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.errors import SeerError
from seer_nb.providers.vm.bootstrap import DEATH_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Collection


PLUGINS = ("seer_nb", "seer_nb-departures")
"""That the runner leaves on the workers and on the scheduler."""


def guard(lease_s: float) -> Any:
    """A scheduler plugin that closes the scheduler, and with it all workers, when nobody renews it for the lease.

    For schedulers that outlive the process that made them. Renewed by the scheduler's remote call ``seer_renew``.
    Pickled by value, for seer_nb may not be there.
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

            self._renewed = time.monotonic()

        async def _watch(self, scheduler: Any) -> None:
            import asyncio
            import time

            while (left_s := self._renewed + lease_s - time.monotonic()) > 0:  # noqa: ASYNC110 - for silence
                await asyncio.sleep(left_s)
            await scheduler.close(reason="no word from the runner of the study")

    return Guard()


def announce(dask_worker: Any) -> None:
    """Have a worker say again that it can train, if it can."""
    plugin = dask_worker.plugins.get(PLUGINS[0])
    if plugin is not None:
        plugin.agent.announce()


def let_go(dask_worker: Any) -> None:
    """No lease ends this worker any more."""
    plugin = dask_worker.plugins.get(PLUGINS[0])
    if plugin is not None:
        plugin.agent.lease_s = math.inf


logger = logging.getLogger(__name__)
MOVE_S = 5.0
"""For so long a worker that is to go may hand on what it holds for others."""
GUARD = 3 / 4
"""Of the lease, for which the scheduler waits. Workers wait for all of it, and had it renewed a sixth of it before at
most: so they are closed by their scheduler, and their nannies with them, before they end by themselves. A nanny whose
worker has ended by itself would start another one."""
CONNECT_S = 30.0
TRIES = 5
"""While some workers are told to go, others may come."""


class Facts(NamedTuple):
    """What the runner must know of a cluster."""

    address: str
    """Of its scheduler."""
    security: Any
    grows: bool
    """Whether it can start workers and end chosen ones."""
    kept: dict[str, str]
    """Addresses of the workers that it has already, and keeps, by name."""


class Seen(NamedTuple):
    """A worker, as the scheduler knows it."""

    name: str
    threads: int
    key: str | None
    """What the cluster knows it by; None if that cannot be told."""


class ClusterController:
    """Lives on the cluster's own event loop; whoever calls it from elsewhere goes there by ``call``.

    Dask's ``scale`` is only ever asked for more: downwards it chooses by itself which worker goes, and it takes
    workers that do not bear their spec's name for ones that were never started.

    Args:
        cluster: That runs.
        own: Whether the study has made it, so that all of it ends with the study.
    """

    def __init__(self, cluster: Any, *, own: bool) -> None:
        self._cluster = cluster
        self._own = own
        self._client: Any = None
        self._grown: set[str] = set()
        """Keys of workers that were started for the study, where the cluster knows them by a key."""
        self._before: set[str] = set()
        """Names of the workers that it had, and keeps."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """On which everything here runs."""
        loop: asyncio.AbstractEventLoop = self._cluster.loop.asyncio_loop
        return loop

    async def open(self, lease_s: float) -> Facts:
        """Get to know it.

        Args:
            lease_s: A cluster of the study's own ends when it was not looked at for so long.

        Raises:
            SeerError: A study cannot use it.
        """
        from distributed import Client

        cluster = self._cluster
        check(cluster)
        address = str(cluster.scheduler_address)
        self._client = await Client(
            address, security=cluster.security, asynchronous=True, set_as_default=False, timeout=CONNECT_S
        )
        grows = can_grow(cluster)
        if self._own:
            await self._client.register_plugin(guard(GUARD * lease_s))
            if grows:
                await self._drop(list(cluster.worker_spec) if _has_spec(cluster) else await self._names())
        found = await self.workers()
        _check_threads(max((seen.threads for seen in found.values()), default=1))
        self._before = {seen.name for seen in found.values()}
        return Facts(address, cluster.security, grows, {seen.name: place for place, seen in found.items()})

    async def workers(self) -> dict[str, Seen]:
        """All workers that the scheduler knows, by their address."""
        if self._own:
            await self._client.scheduler.seer_renew()
        found = (await self._client.scheduler.identity(n_workers=-1))["workers"]
        return {
            str(address): Seen(str(worker["name"]), int(worker["nthreads"]), self._key_of(str(worker["name"]), address))
            for address, worker in found.items()
        }

    async def grow(self) -> str | None:
        """Have one more worker started.

        Returns:
            What the cluster will know it by, if that can be told.
        """
        cluster = self._cluster
        if not _has_spec(cluster):
            # Those that are on their way are in its plan only.
            size = max(len(await self._names()), len(getattr(cluster, "plan", ())))
            await _waited(cluster.scale(size + 1))
            return None
        before = set(cluster.worker_spec)
        await _waited(cluster.scale(len(before) + 1))
        (key,) = cluster.worker_spec.keys() - before
        _name(cluster.worker_spec, key)
        self._grown.add(str(key))
        return str(key)

    async def end(self, key: str | None, address: str | None, *, force: bool) -> None:
        """End a worker that was started for the study; returns when it has ended.

        Args:
            key: What the cluster knows it by.
            address: Where it listens; None if it has not come yet.
            force: Without waiting for what it holds for others.
        """
        name = None if address is None else (await self.workers()).get(address, Seen("", 1, None)).name
        if address is not None and not (force and key is not None):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOVE_S):
                    # One that the cluster cannot name closes by itself.
                    await self._client.retire_workers([address], close_workers=key is None)
        if key is not None:
            await self._drop([key])
        elif name and not _has_spec(self._cluster):
            await self._drop([name])

    async def release(self, address: str, *, force: bool) -> None:
        """Give a worker back that the cluster keeps; ``force``: it does not come out of the training function."""
        if force and address in await self.workers():
            await self._client.restart_workers([address], timeout=MOVE_S, raise_for_error=False)

    async def speak(self, address: str) -> None:
        """Have a worker say again that it can train."""
        await self._client.run(announce, workers=[address], on_error="ignore")

    async def leave(self) -> None:
        """End what was started for the study, and leave the cluster to its owner."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            await self._drop_grown(client)
            await _leave_workers(client, await self._kept(client))
        finally:
            await client.close()

    async def _drop_grown(self, client: Any) -> None:
        """End what was started for the study, also what is on its way."""
        if _has_spec(self._cluster):
            await self._drop(list(self._grown))
        elif can_grow(self._cluster):
            for _ in range(TRIES):
                there = set((await _known(client)).values())
                if there <= self._before:
                    # All stay, so it has no choice to make; those on their way are not started any more.
                    await _waited(self._cluster.scale(len(there)))
                    return
                await self._drop(list(there - self._before))
            logger.warning("workers of the study are still there: they end when their lease does")

    async def _kept(self, client: Any) -> list[str]:
        return [address for address, name in (await _known(client)).items() if name in self._before]

    def close(self) -> None:
        """Leave it, or end it if it is the study's own. To be called on another thread than the cluster's."""
        try:
            self.call("leave").result(CONNECT_S)
        except Exception:
            logger.warning("the cluster could not be left in order", exc_info=True)
        if self._own:
            self._cluster.close()

    def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Have a method run on the cluster's loop; its result as a ``concurrent.futures.Future``."""
        return asyncio.run_coroutine_threadsafe(getattr(self, method)(*args, **named), self.loop)

    # --- helpers ---

    async def _names(self) -> list[str]:
        return list((await _known(self._client)).values())

    def _key_of(self, name: str, address: str) -> str | None:
        """What a cluster with a spec knows a worker by."""
        if not _has_spec(self._cluster):
            return None
        for key, spec in self._cluster.worker_spec.items():
            if name in {f"{key}{suffix}" for suffix in spec.get("group", ("",))}:
                return str(key)
        for key, process in self._cluster.workers.items():
            if name == str(getattr(process, "name", None)) or address == getattr(process, "worker_address", None):
                return str(key)
        return None

    async def _drop(self, keys: Collection[Any]) -> None:
        """Have the cluster end workers, and not start them anew."""
        cluster = self._cluster
        if not _has_spec(cluster):
            if keys:
                await _waited(cluster.scale_down(list(keys)))
            return
        names = {str(key) for key in keys}
        processes = [cluster.workers.pop(key) for key in list(cluster.workers) if str(key) in names]
        for key in [key for key in cluster.worker_spec if str(key) in names]:
            del cluster.worker_spec[key]
        self._grown -= names
        # Not by scale_down, which waits until all others have booted. One that boots itself is ended by it afterwards.
        await asyncio.gather(*(process.close() for process in processes))
        if len(processes) < len(names):
            await cluster.scale_down([])


def can_grow(cluster: Any) -> bool:
    """Whether it can start workers and end chosen ones."""
    able = callable(getattr(cluster, "scale", None)) and callable(getattr(cluster, "scale_down", None))
    return able and bool(getattr(cluster, "_supports_scaling", False))


def check(cluster: Any) -> None:
    """Raises SeerError: A study cannot use that cluster; the sentence says why, and what to change."""
    address = str(cluster.scheduler_address)
    if address.startswith("inproc"):
        raise SeerError(
            f"the Dask cluster's scheduler listens at {address}, where no other process can reach it: "
            "make it with processes=True"
        )
    if getattr(getattr(cluster, "_adaptive", None), "periodic_callback", None) is not None:
        raise SeerError("the Dask cluster adapts by itself, but the study decides on its workers: do not call adapt()")
    spec = getattr(cluster, "new_spec", None) or {}
    if len(spec.get("group", ("",))) > 1:
        raise SeerError(
            f"the Dask cluster starts {len(spec['group'])} workers at a time, but the study ends single ones: "
            "have it start one (processes=1)"
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


def _name(specs: dict[Any, Any], key: Any) -> None:
    """Have a worker bear its spec's name: SubprocessCluster forgets to tell it.

    And have it end when there is no scheduler to join, for by itself it would look for one for ever.
    """
    options = specs[key].get("options", {})
    if "worker_kwargs" in options:
        named = {"death_timeout": DEATH_TIMEOUT_S, **options["worker_kwargs"], "name": str(key)}
        specs[key] = {**specs[key], "options": {**options, "worker_kwargs": named}}


async def _waited(answer: Any) -> None:
    if answer is not None and hasattr(answer, "__await__"):
        await answer


async def _known(client: Any) -> dict[str, str]:
    """Name of each worker that a scheduler knows, by its address."""
    found = await client.scheduler.identity(n_workers=-1)
    return {str(address): str(worker["name"]) for address, worker in found["workers"].items()}


async def _leave_workers(client: Any, stay: list[str]) -> None:
    """Workers that stay are nobody's any more: no lease ends them. Those that should have gone keep theirs."""
    with contextlib.suppress(OSError, ValueError):
        if stay:
            await client.run(let_go, workers=stay, on_error="ignore")
        await client.unregister_worker_plugin(PLUGINS[0])
        await client.unregister_scheduler_plugin(PLUGINS[1])
