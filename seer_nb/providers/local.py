"""This machine's cores (or GPUs) as rented workers: real Dask worker processes, each billed like a machine."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb.core.model import MachineEnded
from seer_nb.core.money import Offer
from seer_nb.core.units import parse_money
from seer_nb.providers.base import LEASE_ENDED, WORKER_CLOSED, SchedulerAddress

if TYPE_CHECKING:
    from collections.abc import Collection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from distributed import Scheduler
    from distributed.security import Security

    from seer_nb.providers.base import FleetContext

BOOT_S = 3.0
RELEASE_S = 0.5
END_TIMEOUT_S = 5.0
_OWN_ENDS: dict[int | None, str] = {
    LEASE_ENDED: "its lease ended: no word from the runner",
    WORKER_CLOSED: "its Dask worker closed",
}


class Local:
    """Workers on this machine, one thread each, at a notional price.

    Args:
        max_workers: The most worker processes at once. Default: the number of NVIDIA GPUs, or of usable cores if
            there is none.
        price_per_hour: Dollars per worker and hour, a number or text such as "$0.05". 0 makes money free; then only
            the deadline binds.

    Raises:
        ValueError: For fewer than one worker or a negative price.
    """

    shares_files: bool = True
    host: Offer | None = None

    def __init__(self, max_workers: int | None = None, price_per_hour: str | float = 0.05) -> None:
        if max_workers is not None and (
            not isinstance(max_workers, int) or isinstance(max_workers, bool) or max_workers < 1
        ):
            raise ValueError(f"max_workers={max_workers!r} is not a number of workers: give a whole number from 1 on")
        self.gpus = _gpus()
        self.max_workers = max_workers or self.gpus or _cores()
        self.price = parse_money(price_per_hour, "price_per_hour", zero=True)

    def __repr__(self) -> str:
        """As it is written in a notebook."""
        return f"Local(max_workers={self.max_workers}, price_per_hour={self.price / 1e6:g})"

    def offers(self) -> tuple[Offer, ...]:
        """One: a worker process."""
        return (
            Offer(
                name="local",
                price_per_hour=self.price,
                boot_s=BOOT_S,
                boot_timeout_s=120.0,
                release_s=RELEASE_S,
                gpus=1 if self.gpus else 0,
                max_machines=self.max_workers,
            ),
        )

    def fleet(self, context: FleetContext) -> LocalFleet:
        """The worker processes of one study."""
        return LocalFleet(context, self.gpus)


class LocalFleet:
    """A scheduler in this process, and a process a worker.

    Dask's own LocalCluster is not used: its ``scale`` picks the workers to end by itself, and its nannies start lost
    workers anew, whereas here the engine decides on both.
    """

    def __init__(self, context: FleetContext, gpus: int) -> None:
        self._context = context
        self._gpus = gpus
        self._scratch = context.folder / "scratch"
        self._processes: dict[int, BaseProcess] = {}
        self._retired: set[int] = set()
        self._scheduler: Scheduler | None = None
        self._security: Security | None = None
        self._spawn = _spawner()

    async def open(self) -> SchedulerAddress:
        """Start the scheduler."""
        import dask
        from distributed import Scheduler
        from distributed.security import Security

        self._scratch.mkdir(mode=0o700, exist_ok=True)
        # Every user of this computer can reach the port, and who speaks to a scheduler can run anything as its user.
        self._security = Security.temporary()
        # Its pages, which are there without a dashboard too, would tell them what is trained.
        with dask.config.set({"distributed.scheduler.http.routes": []}):
            self._scheduler = await Scheduler(
                host="127.0.0.1", protocol="tls", port=0, dashboard=False, security=self._security
            )
        return SchedulerAddress(str(self._scheduler.address), self._security)

    async def adopt(self, machines: Collection[int]) -> None:
        """Workers end with their runner: there is none to be found."""

    async def host(self, machine: int, offer: Offer) -> SchedulerAddress:
        """The scheduler is in this process."""
        raise NotImplementedError(f"{offer.name!r} needs no machine {machine} for its scheduler")

    async def lost(self, machine: int) -> None:
        """Its process ends, or has ended, and that is seen."""

    async def rent(self, machine: int, offer: Offer) -> None:  # noqa: ARG002 - there is but one
        """Start a worker process."""
        from seer_nb.providers.local_worker import serve

        assert self._scheduler is not None
        process: Any = self._spawn.Process(  # type: ignore[attr-defined]
            target=serve,
            name=f"seer-worker-{machine}",
            args=(
                SchedulerAddress(self._scheduler.address, self._security),
                f"{machine}.0",
                str(self._context.folder),
                self._environment(),
            ),
        )
        # The first start waits until the fork server has imported torch: never on the event loop.
        await asyncio.get_running_loop().run_in_executor(None, process.start)
        self._processes[machine] = process
        asyncio.get_running_loop().add_reader(process.sentinel, self._ended, machine)
        if machine in self._retired:
            _kill(process)

    async def retire(self, machine: int, *, force: bool) -> None:  # noqa: ARG002 - nothing is kept on a worker
        """End a worker process. It holds nothing that is not stored, so there is nothing to wait for."""
        self._retired.add(machine)
        process = self._processes.get(machine)
        if process is not None:
            _kill(process)

    async def close(self) -> None:
        """End all worker processes and the scheduler."""
        for machine in list(self._processes):
            await self.retire(machine, force=True)
        async with asyncio.timeout(END_TIMEOUT_S):
            while self._processes:  # noqa: ASYNC110 - the sentinels' readers empty it
                await asyncio.sleep(0.005)
        if self._scheduler is not None:
            await self._scheduler.close(reason="the study has ended")
        await asyncio.get_running_loop().run_in_executor(None, _end_spawner)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def pid(self, machine: int) -> int | None:
        """The process that runs a machine's worker."""
        process = self._processes.get(machine)
        return process.pid if process is not None else None

    def _ended(self, machine: int) -> None:
        process = self._processes.pop(machine)
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join()
        _kill(process)  # what it has started may live on
        code, expected = process.exitcode, machine in self._retired
        reason = "" if expected else _OWN_ENDS.get(code, f"its process ended with exit code {code}")
        # A code of ours says that the training function had no part in it.
        told = None if code in _OWN_ENDS else code
        self._context.ended(MachineEnded(machine=machine, expected=expected, exit_code=told, reason=reason))
        process.close()

    def _environment(self) -> dict[str, str]:
        """What the worker's environment adds to this process's: a thread each, and a GPU of its own."""
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if self._gpus:
            used = {int(m) % self._gpus for m in self._processes}
            environment["CUDA_VISIBLE_DEVICES"] = str(next((g for g in range(self._gpus) if g not in used), 0))
        return environment


def _spawner() -> BaseContext:
    """How worker processes are made.

    On Linux they are forked from a server process that has imported torch and Dask once, so that a further worker is
    there in a fraction of a second. Elsewhere forking is not safe, and they start from scratch.
    """
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["seer_nb.providers.local_worker", "seer_nb.providers.warm"])
    # Begin to import now: the runner has other things to do meanwhile.
    forkserver.ensure_running()
    return context


def _kill(process: BaseProcess) -> None:
    """Kill a worker with all that it has started."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not made its group yet, or all of it is gone
        process.kill()


def _end_spawner() -> None:
    """End multiprocessing's own helpers now and wait for them: by themselves they would outlive the runner a moment."""
    _end_helper(forkserver._forkserver, "_forkserver_pid")  # noqa: SLF001 - there is no public way
    _end_helper(resource_tracker._resource_tracker, "_pid")  # noqa: SLF001


def _end_helper(helper: Any, pid_name: str) -> None:
    pid = getattr(helper, pid_name, None)
    if pid is not None and hasattr(helper, "_stop"):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            # Killed, for with torch in it the fork server takes long to leave.
            os.kill(pid, signal.SIGKILL)
            helper._stop()  # noqa: SLF001


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _gpus() -> int:
    """NVIDIA GPUs of this machine, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in {"", "-1"}])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])
