"""This computer's cores or GPUs as rented workers: Dask worker processes, each billed like a machine."""

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

from seer_nb._utils.processes import LEASE_EXPIRED, WORKER_CLOSED, descendants, kill, stop_helper
from seer_nb._utils.text import headline
from seer_nb._utils.units import MICRO, parse_money
from seer_nb._utils.validation import check_integer
from seer_nb.core.model import worker_name
from seer_nb.core.money import Offer
from seer_nb.providers._dask_options import LOOPBACK_DASHBOARD
from seer_nb.providers._fleet import MachineFleet, RentedMachine
from seer_nb.providers.base import SchedulerAddress
from seer_nb.providers.local import gpus as gpu_info

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from distributed import Scheduler
    from distributed.security import Security

    from seer_nb.providers.base import FleetContext


BOOT_S = 3.0
"""Expected seconds until a worker process can train."""
BOOT_TIMEOUT_S = 120.0
RELEASE_S = 0.5
"""Longest time in seconds that a killed process takes to exit."""
START_TIME_TOLERANCE_S = 1.0
"""Difference up to which two start times of one pid mean the same process."""
_REASONS: dict[int | None, str] = {
    LEASE_EXPIRED: "its lease has expired: no message from the runner",
    WORKER_CLOSED: "its Dask worker closed",
    # multiprocessing's exit code of a process whose fork server was killed, for example for lack of memory.
    255: "the process that created it has died",
}
"""Reasons of exits that the training function has not caused, by exit code."""


class Local:
    """Workers on this computer, one thread each, at a notional price.

    Args:
        max_workers: Largest number of worker processes at once. Default: the number of NVIDIA GPUs that
            CUDA_VISIBLE_DEVICES allows, or of usable cores if there are no GPUs. More workers than GPUs share the GPUs.
        price_per_hour: Dollars per worker and hour, a number or text such as "$0.05". 0 makes money free; then only
            the deadline limits the study.

    Raises:
        ValueError, TypeError: ``max_workers`` is not an integer >= 1, or the price is not an amount >= 0.

    Example:
        >>> provider = seer.Local(max_workers=2, price_per_hour="$0.05")
        >>> study = seer.Study(train, space, provider=provider, ...)
        >>> study.run()
    """

    shares_files: bool = True
    scheduler_offer: Offer | None = None

    def __init__(self, max_workers: int | None = None, price_per_hour: str | float = 0.05) -> None:
        given = None if max_workers is None else check_integer(max_workers, "max_workers", what="a number of workers")
        self.gpus = gpu_info.usable_gpus()
        self.max_workers = given or len(self.gpus) or _cores()
        self.price_micro = parse_money(price_per_hour, "price_per_hour", zero=True)

    def __repr__(self) -> str:
        return f"Local(max_workers={self.max_workers}, price_per_hour={self.price_micro / MICRO:g})"

    def offers(self) -> tuple[Offer, ...]:
        """Return one offer: a worker process."""
        return (
            Offer(
                name="local",
                price_per_hour_micro=self.price_micro,
                boot_s=BOOT_S,
                boot_timeout_s=BOOT_TIMEOUT_S,
                release_s=RELEASE_S,
                gpus=1 if self.gpus else 0,
                max_machines=self.max_workers,
            ),
        )

    def fleet(self, context: FleetContext) -> LocalFleet:
        """Return the fleet of one study."""
        return LocalFleet(context, self.gpus)


class WorkerProcess(RentedMachine):
    """One machine: a worker process."""

    def __init__(self) -> None:
        super().__init__()
        self.process: BaseProcess | None = None
        self.gpu = ""
        """Name of its GPU as in CUDA_VISIBLE_DEVICES; empty for none."""


class LocalFleet(MachineFleet[WorkerProcess]):
    """A scheduler in this process, and one process per worker; the workers exit with their runner.

    This does not use Dask's LocalCluster. Its ``scale`` chooses itself which workers to terminate, and its nannies
    restart lost workers, but here the engine decides on both.

    Args:
        context: What the fleet knows about its study.
        gpus: Names of the GPUs to use, as in CUDA_VISIBLE_DEVICES.
    """

    end_timeout_s = 5.0

    def __init__(self, context: FleetContext, gpus: tuple[str, ...]) -> None:
        super().__init__(context, WorkerProcess)
        self._gpus = gpus
        self._scratch = context.folder / "scratch"
        self.pids = PidFile(context.folder / "workers.pids")
        self.scheduler: Scheduler | None = None
        self._security: Security | None = None
        self._spawn = process_context()

    async def open(self) -> SchedulerAddress:
        import dask
        from distributed import Scheduler
        from distributed.security import Security

        self._scratch.mkdir(mode=0o700, exist_ok=True)
        self.pids.kill_all()
        # Every user of this computer can reach the port, and a client of a scheduler can run any code as its user.
        self._security = Security.temporary()
        # The HTTP pages, which exist without a dashboard too, would show other users what is trained.
        with dask.config.set({"distributed.scheduler.http.routes": []}):
            self.scheduler = await Scheduler(
                host="127.0.0.1",
                protocol="tls",
                port=0,
                dashboard=False,
                dashboard_address=LOOPBACK_DASHBOARD,
                security=self._security,
            )
        return SchedulerAddress(str(self.scheduler.address), self._security)

    async def on_worker_lost(self, machine: int) -> None:
        """Do nothing: the worker's process exits too, and the fleet notices that."""

    async def _launch(self, machine: int, rented: WorkerProcess, offer: Offer) -> None:  # noqa: ARG002 - one offer
        from seer_nb.providers.local.worker_process import serve

        assert self.scheduler is not None
        process: Any = self._spawn.Process(  # type: ignore[attr-defined]
            target=serve,
            name=f"seer-worker-{machine}",
            args=(
                SchedulerAddress(self.scheduler.address, self._security),
                worker_name(machine, 0),
                str(self.context.folder),
                self.assign_environment(rented),
            ),
        )
        # Not on the event loop: the first start waits until the fork server has imported torch.
        await asyncio.get_running_loop().run_in_executor(None, process.start)
        rented.process = process
        # Before anything else that may fail, so that the exit of the process is noticed.
        asyncio.get_running_loop().add_reader(process.sentinel, self._on_exit, machine, process)
        self.pids.add(process.pid)

    async def _end(self, machine: int, rented: WorkerProcess, *, force: bool) -> None:  # noqa: ARG002 - no state to save
        if rented.process is not None:
            _kill_worker(rented.process)
        elif not rented.launching:
            self.report_ended(machine, lived_s=0.0)

    async def _clean_up(self) -> None:
        if self.scheduler is not None:
            await self.scheduler.close(reason="the study has ended")
        await asyncio.get_running_loop().run_in_executor(None, stop_process_helpers)
        self.pids.kill_all()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _on_exit(self, machine: int, process: BaseProcess) -> None:
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join()
        _kill_worker(process)  # processes that it started may still run
        code = process.exitcode
        reason = _REASONS.get(code, f"its process exited with code {code}")
        if code == WORKER_CLOSED and (error := self._read_error(machine)):
            reason = f"its Dask worker failed: {error}"
        # Only the code of an exit that the training function may have caused is reported.
        self.report_ended(machine, reason=reason, exit_code=None if code in _REASONS else code)
        process.close()

    def _read_error(self, machine: int) -> str:
        """Return the error that ended a machine's worker, such as a Dask preload that cannot be imported."""
        from seer_nb.providers.local.worker_process import error_file

        try:
            return headline(error_file(self._scratch, worker_name(machine, 0)).read_text(errors="replace"))
        except OSError:
            return ""

    def assign_environment(self, rented: WorkerProcess) -> dict[str, str]:
        """Assign the least used GPU; return the environment variables that a worker adds to this process's."""
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if self._gpus:
            used = Counter(other.gpu for other in self.rented.values())
            rented.gpu = min(self._gpus, key=lambda gpu: used[gpu])
            environment["CUDA_VISIBLE_DEVICES"] = rented.gpu
        return environment


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


# --- how worker processes are created ---


def process_context() -> BaseContext:
    """Return the multiprocessing context that creates worker processes.

    On Linux they are forked from a server process that has imported torch and Dask once, so a further worker starts in
    a fraction of a second. On other systems forking is not safe, and each worker starts from scratch.
    """
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["seer_nb.providers.local.forkserver_preload"])
    # The server imports in the background from now on.
    forkserver.ensure_running()
    return context


def stop_process_helpers() -> None:
    """Kill multiprocessing's helper processes and wait for them: otherwise they would briefly outlive the runner."""
    stop_helper(forkserver._forkserver, "_forkserver_pid")  # noqa: SLF001 - there is no public way
    stop_helper(resource_tracker._resource_tracker, "_pid")  # noqa: SLF001 - likewise


def _kill_worker(process: BaseProcess) -> None:
    """Kill a worker with all processes that it has started."""
    assert process.pid is not None
    left = descendants(process.pid)  # some may have left its process group
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not created its process group yet, or the whole group has exited
        process.kill()
    kill(left)


# --- processes that a dead runner has left behind ---


class _ProcessRecord(NamedTuple):
    """One process; its pid alone may belong to another process by now."""

    pid: int
    started_s: float
    """Start of the process in Unix seconds."""
    inode: int
    """Inode of the file that the record was written to; in a copy of the file it differs, and the processes belong to
    another study."""


class PidFile:
    """The file that lists the worker processes of one study.

    Args:
        path: Path of the file. If it is lost, processes that a dead runner has left behind are not found.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, pid: int) -> None:
        """Add a process; on a full disk it is not recorded, and the worker is used anyway."""
        with contextlib.suppress(psutil.Error, OSError), self._path.open("a") as file:
            file.write(f"{pid} {psutil.Process(pid).create_time()!r} {os.fstat(file.fileno()).st_ino}\n")

    def kill_all(self) -> None:
        """Kill the processes that still run, each with its process group, and delete the file."""
        for record in self._read():
            with contextlib.suppress(psutil.Error, OSError):
                if abs(psutil.Process(record.pid).create_time() - record.started_s) < START_TIME_TOLERANCE_S:
                    _kill_group(record.pid)
        self._path.unlink(missing_ok=True)

    def _read(self) -> list[_ProcessRecord]:
        try:
            lines, inode = self._path.read_text().splitlines(), self._path.stat().st_ino
        except OSError:
            return []
        found: list[_ProcessRecord] = []
        for line in lines:
            # The last line may be truncated.
            with contextlib.suppress(ValueError):
                pid, started, file_inode = line.split()
                found.append(_ProcessRecord(int(pid), float(started), int(file_inode)))
        return [record for record in found if record.inode == inode]


def _kill_group(pid: int) -> None:
    """Kill a process with its descendants, and its process group if it leads one, as each worker does."""
    left = descendants(pid)
    if os.getpgid(pid) == pid:
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
    kill(left)
