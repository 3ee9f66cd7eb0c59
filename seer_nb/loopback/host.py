"""One machine of the loopback cloud: a folder, and the processes that its user data starts."""

from __future__ import annotations

import base64
import logging
import subprocess
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from seer_nb.loopback import processes, user_data
from seer_nb.loopback.records import USER, Cause, Machine

if TYPE_CHECKING:
    from seer_nb.loopback.homes import Home

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
            pids=tuple(sorted(processes.living(self._home.mark, self._root()))) if self._process else (),
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
                processes.kill(self._home.mark, self._root())
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
