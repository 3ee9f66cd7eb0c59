"""The machines of a loopback cloud, from launch to termination."""

from __future__ import annotations

import base64
import logging
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil

from seer_nb.testing.loopback import user_data
from seer_nb.testing.loopback.cleanup import KILL_TIMEOUT_S, marked_processes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from seer_nb.testing.loopback.environment import AddressBlock, MachineSetup, MachineSetups
    from seer_nb.testing.loopback.faults import Faults, Market


@dataclass(frozen=True, slots=True)
class Machine:
    """The record of a machine at one moment.

    Times are aware and in UTC; the machine is billed from ``launched`` to ``ended``. ``pids`` are its live processes.
    ``folder`` holds its script and the script's output, ``output.log``.
    """

    instance_id: str
    instance_type: str
    state: str
    address: str
    launched: datetime
    ended: datetime | None
    spot: bool
    tags: Mapping[str, str]
    pids: tuple[int, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a machine was terminated, in the words of EC2."""

    transition: str
    code: str
    message: str


USER = Cause("User initiated", "Client.UserInitiatedShutdown", "User initiated shutdown")
SHUTDOWN = Cause("Instance initiated", "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
SPOT = Cause("Server.SpotInstanceTermination", "Server.SpotInstanceTermination", "Spot instance termination")
FAILURE = Cause("Server.InternalError", "Server.InternalError", "Internal error")


def live_processes(mark: str, root: int | None) -> set[int]:
    """Return the live processes of a machine.

    They are found by the mark in their environment, which orphans keep too; by the session of the machine's script;
    and among the script's descendants, which may have dropped both.
    """
    found = marked_processes(mark)
    if root is not None:
        found |= {pid for pid in psutil.pids() if _session(pid) == root}
        with suppress(psutil.Error):
            found |= {child.pid for child in psutil.Process(root).children(recursive=True)}
    return {pid for pid in found if _alive(pid)}


def kill_all(mark: str, root: int | None) -> None:
    """Kill all processes of a machine, including those that start meanwhile."""
    end = time.monotonic() + KILL_TIMEOUT_S
    while (left := live_processes(mark, root)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _session(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None


def _alive(pid: int) -> bool:
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


_logger = logging.getLogger(__name__)


class LiveMachine:
    """A launched machine and its processes.

    Args:
        instance: The moto instance.
        setup: Its folder and environment.
        boot_s: Seconds from now until it runs its user data.
    """

    def __init__(self, instance: Any, setup: MachineSetup, boot_s: float) -> None:
        self.instance = instance
        self.instance_id: str = instance.id
        self.address: str = instance.private_ip
        self.max_price: float | None = None
        """Highest price of a spot machine in dollars per hour; None for no limit."""
        self.cause: Cause = USER
        self.ended: datetime | None = None
        self.notice: datetime | None = None
        """Time of the announced preemption."""
        self.setup = setup
        self.boot_at_s: float | None = time.monotonic() + boot_s
        self.shutdown_at_s: float | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._on = True
        self._lock = threading.Lock()

    @property
    def spot(self) -> bool:
        """Whether this is a spot machine."""
        return bool(self.instance.lifecycle == "spot")

    @property
    def running(self) -> bool:
        """Whether its state in the API is "running"."""
        return bool(self.instance.state == "running")

    def record(self) -> Machine:
        """Return a record of the machine's current state."""
        return Machine(
            instance_id=self.instance_id,
            instance_type=self.instance.instance_type,
            state=self.instance.state,
            address=self.address,
            launched=self.instance.launch_time.replace(tzinfo=UTC),
            ended=self.ended,
            spot=self.spot,
            tags={tag["key"]: tag["value"] for tag in self.instance.get_tags()},
            pids=tuple(sorted(live_processes(self.setup.mark, self._root()))) if self.process else (),
            folder=self.setup.folder,
        )

    def boot_if_due(self) -> None:
        """Run the user data if the boot time is over."""
        with self._lock:
            if self._on and self.boot_at_s is not None and self.boot_at_s <= time.monotonic():
                self.boot_at_s = None
                self._boot()

    def shutdown_due(self) -> bool:
        """Return whether the machine has called ``shutdown`` and the delay is over."""
        request = self.setup.shutdown
        if request.exists():
            minutes = request.read_text()
            request.unlink()
            self.shutdown_at_s = time.monotonic() + 60.0 * int(minutes) if minutes else None
        return self.shutdown_at_s is not None and self.shutdown_at_s <= time.monotonic()

    def power_off(self) -> None:
        """Kill all processes and prevent a later boot."""
        with self._lock:
            if not self._on:
                return
            self._on = False
            if self.process is not None:
                kill_all(self.setup.mark, self._root())
                self.process.wait()

    def reap(self) -> None:
        """Collect the exit code of the script if it has exited; the machine keeps running."""
        if self.process is not None:
            self.process.poll()

    def _boot(self) -> None:
        with (self.setup.folder / "output.log").open("ab") as log:
            try:
                boot = user_data.parse(base64.b64decode(str(self.instance.user_data or "")))
            except (ValueError, OSError) as error:
                # As on EC2: the machine runs and is billed, and its log holds the error.
                log.write(f"{error}\n".encode())
                _logger.warning("rejected user data of machine %s: %s", self.instance_id, error)
                return
            if boot.ignored:
                log.write(f"ignored sections of the cloud-config: {', '.join(boot.ignored)}\n".encode())
                log.flush()
            script = self.setup.folder / "user-data"
            script.write_text(boot.script)
            script.chmod(0o700)
            # Start through a shell: a process forked meanwhile may hold the file open, and exec would fail (ETXTBSY).
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", 'exec "$0"', script],
                cwd=self.setup.folder,
                env=self.setup.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _root(self) -> int | None:
        """Return the pid of the script, or None if it has exited and the pid may be reused."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None


TICK_S = 0.05


class MachinePool:
    """All machines of a cloud, and the thread that boots, preempts and terminates them.

    Args:
        setups: Creates the folder and environment of each machine.
        addresses: Block of addresses for them.
        faults: Faults to inject.
        market: Prices of spot machines.
    """

    def __init__(self, setups: MachineSetups, addresses: AddressBlock, faults: Faults, market: Market) -> None:
        self.addresses = addresses
        self.market = market
        self.subnet = ""
        """Default subnet of new machines."""
        self.lock = threading.RLock()
        """Held while moto's tables are read or changed."""
        self.setups = setups
        self._faults = faults
        self._machines: dict[str, LiveMachine] = {}
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="loopback-machines", daemon=True)

    def open(self) -> None:
        """Start the thread that updates the machines."""
        self._watcher.start()

    def close(self) -> None:
        """Terminate every machine."""
        self._closing.set()
        self._watcher.join()
        for machine in self.machines():
            self.terminate(machine)

    def machines(self) -> list[LiveMachine]:
        """Return all machines, in order of launch."""
        return list(self._machines.values())

    def find(self, instance_id: str) -> LiveMachine:
        """Return the machine with an id.

        Raises:
            ValueError: This cloud has no such machine.
        """
        if instance_id not in self._machines:
            known = ", ".join(self._machines) or "a machine; none was launched"
            raise ValueError(f"instance_id={instance_id!r}: not a machine of this cloud; expected {known}")
        return self._machines[instance_id]

    def add(self, instance: Any) -> None:
        """Add a machine for a new instance of moto."""
        setup = self.setups.create(instance.id, instance.private_ip)
        self._machines[instance.id] = LiveMachine(instance, setup, self._faults.boot())

    def record_end(self, instance: Any) -> None:
        """Record when and why an instance was terminated, as EC2 does."""
        machine = self._machines[instance.id]
        machine.ended = datetime.now(UTC)
        instance._reason = f"{machine.cause.transition} ({machine.ended:%Y-%m-%d %H:%M:%S} GMT)"  # noqa: SLF001
        instance.state_reason.code = machine.cause.code
        instance.state_reason.message = f"{machine.cause.code}: {machine.cause.message}"

    def terminate(self, machine: LiveMachine, cause: Cause | None = None) -> None:
        """Terminate a machine unless it is terminated: first its processes, then the instance in the API."""
        machine.power_off()
        with self.lock:
            if machine.instance.state != "terminated":
                machine.cause = cause or machine.cause
                machine.instance.terminate()

    def lose(self, instance_id: str) -> None:
        """Simulate a hardware failure of a machine."""
        self.terminate(self.find(instance_id), FAILURE)

    def interrupt(self, instance_id: str, notice_s: float) -> None:
        """Announce the preemption of a spot machine, and terminate it after ``notice_s``.

        Raises:
            ValueError: This cloud has no such machine, or the machine is on-demand.
        """
        machine = self.find(instance_id)
        if not machine.spot:
            raise ValueError(f"instance_id={instance_id!r}: an on-demand machine; expected a spot machine")
        if notice_s <= 0:
            self.terminate(machine, SPOT)
        elif machine.notice is None:
            machine.notice = datetime.now(UTC) + timedelta(seconds=notice_s)

    def _watch(self) -> None:
        while not self._closing.wait(TICK_S):
            for machine in self.machines():
                try:
                    self._update(machine)
                except Exception:
                    # A failure on one machine must not stop the updates of the others.
                    _logger.exception("failed to update machine %s", machine.instance_id)

    def _update(self, machine: LiveMachine) -> None:
        if not machine.running:
            machine.power_off()
            return
        machine.reap()
        if machine.notice is not None and machine.notice <= datetime.now(UTC):
            self.terminate(machine, SPOT)
        elif machine.shutdown_due():
            self._shut_down(machine)
        else:
            self._check_price(machine)
            machine.boot_if_due()

    def _shut_down(self, machine: LiveMachine) -> None:
        if machine.instance.instance_initiated_shutdown_behavior == "terminate":
            self.terminate(machine, SHUTDOWN)
            return
        machine.power_off()
        with self.lock:
            machine.instance.stop()

    def _check_price(self, machine: LiveMachine) -> None:
        """Preempt a spot machine whose price has risen above its limit."""
        if machine.max_price is not None and self.market.spot_price(machine.instance.instance_type) > machine.max_price:
            self.interrupt(machine.instance_id, self._faults.spot_notice_s)
