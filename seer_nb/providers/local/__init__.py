"""This machine's cores (or GPUs) as rented workers: real Dask worker processes, each billed like a machine."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from seer_nb._utils.processes import LEASE_ENDED, WORKER_CLOSED
from seer_nb._utils.units import parse_money
from seer_nb._utils.validation import whole
from seer_nb.core.model import worker_name
from seer_nb.core.money import Offer
from seer_nb.providers._fleet import MachineFleet, Rented
from seer_nb.providers.base import SchedulerAddress
from seer_nb.providers.local import gpus as gpu_info
from seer_nb.providers.vm.bootstrap import HERE_ONLY

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from distributed import Scheduler
    from distributed.security import Security

    from seer_nb.providers.base import FleetContext


SAME_S = 1.0
"""Times at which a process began that differ by less are those of one process."""


class Known(NamedTuple):
    """A process; a number alone may be another one's by now."""

    pid: int
    began_s: float
    """Unix seconds."""
    inode: int
    """Of the file that it was written to: the processes in a copy of that are another study's."""


class Pids:
    """Those of one study.

    Args:
        path: Of the file. Losing it loses nothing but the knowledge of processes that a dead runner has left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, pid: int) -> None:
        """A process was made. On a full disk it is not noted: that is no reason to go without it."""
        with contextlib.suppress(psutil.Error, OSError), self._path.open("a") as file:
            file.write(f"{pid} {psutil.Process(pid).create_time()!r} {os.fstat(file.fileno()).st_ino}\n")

    def end_all(self) -> None:
        """Kill those that still live, each with its process group, and forget all."""
        for known in self._read():
            with contextlib.suppress(psutil.Error, OSError):
                if abs(psutil.Process(known.pid).create_time() - known.began_s) < SAME_S:
                    _kill_process(known.pid)
        self._path.unlink(missing_ok=True)

    def _read(self) -> list[Known]:
        try:
            lines, inode = self._path.read_text().splitlines(), self._path.stat().st_ino
        except OSError:
            return []
        found: list[Known] = []
        for line in lines:
            # The last one may have been cut off.
            with contextlib.suppress(ValueError):
                pid, began, own = line.split()
                found.append(Known(int(pid), float(began), int(own)))
        return [known for known in found if known.inode == inode]


def _kill_process(pid: int) -> None:
    """Each worker leads a group, with what its training function has started."""
    if os.getpgid(pid) == pid:
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)


BOOT_S = 3.0
RELEASE_S = 0.5
_OWN_ENDS: dict[int | None, str] = {
    LEASE_ENDED: "its lease ended: no word from the runner",
    WORKER_CLOSED: "its Dask worker closed",
    # What multiprocessing says of all processes whose fork server was killed, perhaps for want of memory.
    255: "the process that had made it has died",
}


class Local:
    """Workers on this machine, one thread each, at a notional price.

    Args:
        max_workers: The most worker processes at once. Default: the number of NVIDIA GPUs that CUDA_VISIBLE_DEVICES
            allows, or of usable cores if there is none. If there are more workers than GPUs, they share these.
        price_per_hour: Dollars per worker and hour, a number or text such as "$0.05". 0 makes money free; then only
            the deadline binds.

    Raises:
        ValueError: For fewer than one worker or a negative price.
    """

    shares_files: bool = True
    host: Offer | None = None

    def __init__(self, max_workers: int | None = None, price_per_hour: str | float = 0.05) -> None:
        given = None if max_workers is None else whole(max_workers, "max_workers", what="a number of workers")
        self.gpus = gpu_info.usable()
        self.max_workers = given or len(self.gpus) or _cores()
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


class Worker(Rented):
    """One process."""

    def __init__(self) -> None:
        super().__init__()
        self.process: BaseProcess | None = None
        self.gpu = ""
        """As CUDA_VISIBLE_DEVICES names it."""


class LocalFleet(MachineFleet[Worker]):
    """A scheduler in this process, and a process a worker. They end with their runner.

    Dask's own LocalCluster is not used: its ``scale`` picks the workers to end by itself, and its nannies start lost
    workers anew, whereas here the engine decides on both.
    """

    end_timeout_s = 5.0

    def __init__(self, context: FleetContext, gpus: tuple[str, ...]) -> None:
        super().__init__(context, Worker)
        self._gpus = gpus
        self._scratch = context.folder / "scratch"
        self._pids = Pids(context.folder / "workers.pids")
        self._scheduler: Scheduler | None = None
        self._security: Security | None = None
        self._spawn = spawner()

    async def open(self) -> SchedulerAddress:
        """Start the scheduler."""
        import dask
        from distributed import Scheduler
        from distributed.security import Security

        self._scratch.mkdir(mode=0o700, exist_ok=True)
        self._pids.end_all()
        # Every user of this computer can reach the port, and who speaks to a scheduler can run anything as its user.
        self._security = Security.temporary()
        # Its pages, which are there without a dashboard too, would tell them what is trained.
        with dask.config.set({"distributed.scheduler.http.routes": []}):
            self._scheduler = await Scheduler(
                host="127.0.0.1",
                protocol="tls",
                port=0,
                dashboard=False,
                dashboard_address=HERE_ONLY,
                security=self._security,
            )
        return SchedulerAddress(str(self._scheduler.address), self._security)

    async def lost(self, machine: int) -> None:
        """Its process ends, or has ended, and that is seen."""

    async def _launch(self, machine: int, rented: Worker, offer: Offer) -> None:  # noqa: ARG002 - there is but one
        from seer_nb.providers.local.worker_process import serve

        assert self._scheduler is not None
        process: Any = self._spawn.Process(  # type: ignore[attr-defined]
            target=serve,
            name=f"seer-worker-{machine}",
            args=(
                SchedulerAddress(self._scheduler.address, self._security),
                worker_name(machine, 0),
                str(self._context.folder),
                self._environment(rented),
            ),
        )
        # The first start waits until the fork server has imported torch: never on the event loop.
        await asyncio.get_running_loop().run_in_executor(None, process.start)
        rented.process = process
        # First of all: whatever fails from here on, its end is seen.
        asyncio.get_running_loop().add_reader(process.sentinel, self._seen_to_end, machine, process)
        self._pids.add(process.pid)

    async def _end(self, machine: int, rented: Worker, *, force: bool) -> None:  # noqa: ARG002 - nothing is kept on one
        if rented.process is not None:
            _kill(rented.process)
        elif not rented.launching:
            self._ended(machine, lived_s=0.0)

    async def _shut(self) -> None:
        if self._scheduler is not None:
            await self._scheduler.close(reason="the study has ended")
        await asyncio.get_running_loop().run_in_executor(None, end_spawner)
        self._pids.end_all()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _seen_to_end(self, machine: int, process: BaseProcess) -> None:
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join()
        _kill(process)  # what it has started may live on
        code = process.exitcode
        reason = _OWN_ENDS.get(code, f"its process ended with exit code {code}")
        # A code of ours says that the training function had no part in it.
        self._ended(machine, reason=reason, exit_code=None if code in _OWN_ENDS else code)
        process.close()

    def _environment(self, rented: Worker) -> dict[str, str]:
        """What the worker's environment adds to this process's: a thread each, and the GPU that the fewest use."""
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if self._gpus:
            used = Counter(other.gpu for other in self._rented.values())
            rented.gpu = min(self._gpus, key=lambda gpu: used[gpu])
            environment["CUDA_VISIBLE_DEVICES"] = rented.gpu
        return environment


def spawner() -> BaseContext:
    """How worker processes are made.

    On Linux they are forked from a server process that has imported torch and Dask once, so that a further worker is
    there in a fraction of a second. Elsewhere forking is not safe, and they start from scratch.
    """
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["seer_nb.providers.local.worker_process", "seer_nb.providers.local.forkserver_preload"]
    )
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


def end_spawner() -> None:
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
