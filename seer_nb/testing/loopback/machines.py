"""All machines of a loopback cloud: from their launch through boot and notice to their end."""

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
from seer_nb.testing.loopback.cleanup import PATIENCE_S, marked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from seer_nb.testing.loopback.environment import Block, Home, Homes
    from seer_nb.testing.loopback.faults import Faults, Market


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine at one moment.

    Times are aware, in UTC: it is billed from ``launched`` to ``ended``. ``pids`` are the processes alive on it,
    ``folder`` holds its script and what that has printed (``output.log``).
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
    """Why a machine has ended, as EC2 words it."""

    transition: str
    code: str
    message: str


USER = Cause("User initiated", "Client.UserInitiatedShutdown", "User initiated shutdown")
SHUTDOWN = Cause("Instance initiated", "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
SPOT = Cause("Server.SpotInstanceTermination", "Server.SpotInstanceTermination", "Spot instance termination")
FAILURE = Cause("Server.InternalError", "Server.InternalError", "Internal error")


def living(mark: str, root: int | None) -> set[int]:
    """All that lives on a machine.

    Found by the mark in the environment, which also what has been left by its parents still has; by the session of
    the machine's script; and among the script's descendants, for those that have shed both.
    """
    found = marked(mark)
    if root is not None:
        found |= {pid for pid in psutil.pids() if _session(pid) == root}
        with suppress(psutil.Error):
            found |= {child.pid for child in psutil.Process(root).children(recursive=True)}
    return {pid for pid in found if _alive(pid)}


def kill(mark: str, root: int | None) -> None:
    """Kill all that lives on a machine, and what that starts meanwhile."""
    end = time.monotonic() + PATIENCE_S
    while (left := living(mark, root)) and time.monotonic() < end:
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


class Host:
    """A machine from its launch on.

    Args:
        instance: What moto knows of it.
        home: Where it lives.
        boot_s: Seconds from now until it begins with its user data.
    """

    def __init__(self, instance: Any, home: Home, boot_s: float) -> None:
        self.instance = instance
        self.instance_id: str = instance.id
        self.address: str = instance.private_ip
        self.max_price: float | None = None
        """Dollars an hour that a spot machine may cost at most."""
        self.cause: Cause = USER
        self.ended: datetime | None = None
        self.notice: datetime | None = None
        """When it will be interrupted."""
        self._home = home
        self._boot_at: float | None = time.monotonic() + boot_s
        self._off_at: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._on = True
        self._lock = threading.Lock()

    @property
    def spot(self) -> bool:
        """Whether it is a spot machine."""
        return bool(self.instance.lifecycle == "spot")

    @property
    def running(self) -> bool:
        """Whether the API calls it running."""
        return bool(self.instance.state == "running")

    def record(self) -> Machine:
        """The machine as it is now."""
        return Machine(
            instance_id=self.instance_id,
            instance_type=self.instance.instance_type,
            state=self.instance.state,
            address=self.address,
            launched=self.instance.launch_time.replace(tzinfo=UTC),
            ended=self.ended,
            spot=self.spot,
            tags={tag["key"]: tag["value"] for tag in self.instance.get_tags()},
            pids=tuple(sorted(living(self._home.mark, self._root()))) if self._process else (),
            folder=self._home.folder,
        )

    def boot_if_due(self) -> None:
        """Begin with the user data if it is time for that."""
        with self._lock:
            if self._on and self._boot_at is not None and self._boot_at <= time.monotonic():
                self._boot_at = None
                self._boot()

    def wants_to_end(self) -> bool:
        """Whether the machine has called ``shutdown``, and the minutes it gave are over."""
        request = self._home.shutdown
        if request.exists():
            minutes = request.read_text()
            request.unlink()
            self._off_at = time.monotonic() + 60.0 * int(minutes) if minutes else None
        return self._off_at is not None and self._off_at <= time.monotonic()

    def switch_off(self) -> None:
        """Kill all that runs on it, and let nothing run on it any more."""
        with self._lock:
            if not self._on:
                return
            self._on = False
            if self._process is not None:
                kill(self._home.mark, self._root())
                self._process.wait()

    def reap(self) -> None:
        """Bury the script's process once it has ended, which by itself changes nothing else."""
        if self._process is not None:
            self._process.poll()

    def _boot(self) -> None:
        with (self._home.folder / "output.log").open("ab") as log:
            try:
                boot = user_data.read(base64.b64decode(str(self.instance.user_data or "")))
            except (ValueError, OSError) as error:
                # As on EC2: the machine runs and is billed, and its log says why it does nothing.
                log.write(f"{error}\n".encode())
                _logger.warning("%s: %s", self.instance_id, error)
                return
            if boot.ignored:
                log.write(f"not done here: {', '.join(boot.ignored)}\n".encode())
                log.flush()
            script = self._home.folder / "user-data"
            script.write_text(boot.script)
            script.chmod(0o700)
            # By way of a shell, for a file just written may still be open in a process forked meanwhile, and so "busy".
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", 'exec "$0"', script],
                cwd=self._home.folder,
                env=self._home.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _root(self) -> int | None:
        """The script's process, unless that has ended: its number may be another's by now."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None


TICK_S = 0.05


class MachinePool:
    """The machines.

    Args:
        homes: Where they live.
        addresses: What they are numbered from.
        faults: What goes wrong.
        market: Prices of spot machines.
    """

    def __init__(self, homes: Homes, addresses: Block, faults: Faults, market: Market) -> None:
        self.addresses = addresses
        self.market = market
        self.subnet = ""
        """Where machines are that name none."""
        self.lock = threading.RLock()
        """Held while moto's tables are read or changed."""
        self._homes = homes
        self._faults = faults
        self._hosts: dict[str, Host] = {}
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="loopback-machines", daemon=True)

    def open(self) -> None:
        """Begin to look after the machines."""
        self._watcher.start()

    def close(self) -> None:
        """End every machine."""
        self._closing.set()
        self._watcher.join()
        for host in self.hosts():
            self.end(host)

    def hosts(self) -> list[Host]:
        """All machines, in the order of their launch."""
        return list(self._hosts.values())

    def host(self, instance_id: str) -> Host:
        """The machine of that id.

        Raises:
            ValueError: If there is none.
        """
        if instance_id not in self._hosts:
            known = ", ".join(self._hosts) or "none so far"
            raise ValueError(f"instance_id={instance_id!r} is no machine of this cloud: it has {known}")
        return self._hosts[instance_id]

    def launched(self, instance: Any) -> None:
        """Moto has made an instance."""
        home = self._homes.furnish(instance.id, instance.private_ip)
        self._hosts[instance.id] = Host(instance, home, self._faults.boot())

    def ended(self, instance: Any) -> None:
        """Moto calls an instance terminated: note when and why, as EC2 does."""
        host = self._hosts[instance.id]
        host.ended = datetime.now(UTC)
        instance._reason = f"{host.cause.transition} ({host.ended:%Y-%m-%d %H:%M:%S} GMT)"  # noqa: SLF001
        instance.state_reason.code = host.cause.code
        instance.state_reason.message = f"{host.cause.code}: {host.cause.message}"

    def end(self, host: Host, cause: Cause | None = None) -> None:
        """End a machine, unless it has ended: first its processes, then, for the API, the instance."""
        host.switch_off()
        with self.lock:
            if host.instance.state != "terminated":
                host.cause = cause or host.cause
                host.instance.terminate()

    def lose(self, instance_id: str) -> None:
        """A machine's hardware fails."""
        self.end(self.host(instance_id), FAILURE)

    def interrupt(self, instance_id: str, notice_s: float) -> None:
        """Tell a spot machine that it will be interrupted, and do so then.

        Raises:
            ValueError: If there is no such machine, or it is not a spot machine.
        """
        host = self.host(instance_id)
        if not host.spot:
            raise ValueError(f"instance_id={instance_id!r} is an on-demand machine: only spot machines are interrupted")
        if notice_s <= 0:
            self.end(host, SPOT)
        elif host.notice is None:
            host.notice = datetime.now(UTC) + timedelta(seconds=notice_s)

    def _watch(self) -> None:
        while not self._closing.wait(TICK_S):
            for host in self.hosts():
                try:
                    self._look_after(host)
                except Exception:
                    # One machine's trouble must not leave the others running for ever.
                    _logger.exception("machine %s", host.instance_id)

    def _look_after(self, host: Host) -> None:
        if not host.running:
            host.switch_off()
            return
        host.reap()
        if host.notice is not None and host.notice <= datetime.now(UTC):
            self.end(host, SPOT)
        elif host.wants_to_end():
            self._shut_down(host)
        else:
            self._outbid(host)
            host.boot_if_due()

    def _shut_down(self, host: Host) -> None:
        if host.instance.instance_initiated_shutdown_behavior == "terminate":
            self.end(host, SHUTDOWN)
            return
        host.switch_off()
        with self.lock:
            host.instance.stop()

    def _outbid(self, host: Host) -> None:
        """Interrupt a machine whose price has risen above what it may cost."""
        if host.max_price is not None and self.market.spot_price(host.instance.instance_type) > host.max_price:
            self.interrupt(host.instance_id, self._faults.spot_notice_s)
