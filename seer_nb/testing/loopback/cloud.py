"""LoopbackCloud: the user's handle on the cloud."""

from __future__ import annotations

import atexit
import importlib
import math
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from seer_nb._utils.validation import check_integer
from seer_nb.errors import SeerError
from seer_nb.testing.loopback import cleanup
from seer_nb.testing.loopback.environment import (
    KEY,
    REGION,
    AddressBlock,
    MachineSetups,
    apply_environment,
    client_environment,
    machine_environment,
)
from seer_nb.testing.loopback.faults import Faults
from seer_nb.testing.loopback.metadata import MetadataService

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from seer_nb.providers.aws import EC2
    from seer_nb.testing.loopback.machines import Machine, MachinePool


START_S = 5.0
"""Approximate seconds that Python, Dask and torch take to start on a machine of this cloud."""
_open_lock = threading.Lock()
"""Held while a cloud is open: moto's tables and ``os.environ`` are shared by the whole process."""


class LoopbackCloud:
    """EC2 and S3 on this computer.

    Use it in a ``with`` statement, or call ``start()`` and ``close()``. While it is open, ``os.environ`` directs AWS
    clients to it, in this process and its children. A process can have one open cloud. When the cloud closes, or its
    process dies, all processes of its machines are killed.

    Args:
        boot_s: Seconds from RunInstances until a machine runs its user data, default 5; also ``faults.boot_s``.
        folder: Folder that holds one subfolder per machine, with its script and its log. An earlier machine with the
            same id is overwritten. Default: a temporary folder, removed when the cloud closes.
        seed: Seed for instance ids and all other random values of moto, an integer >= 0; default 0.
        editable: Whether Python on machines can import packages that are installed here in editable mode. A real
            machine would not have them. Default: False.

    Attributes:
        environment: Environment variables for clients, set in ``os.environ`` while the cloud is open.
        vpc, subnet, security_group, ami, bucket: Ids of resources that exist from the start, for use in requests.
        faults: Faults to inject; may be changed at any time.

    Raises:
        TypeError, ValueError: ``boot_s`` or ``seed`` is invalid.
        SeerError: On start: moto is missing, the system is not Linux, or another cloud is open in this process.

    Example:
        >>> with LoopbackCloud(boot_s=1) as cloud:
        ...     study = seer.Study(train, space, provider=cloud.provider(), store=cloud.store, ...)
        ...     study.start().wait()
    """

    def __init__(
        self,
        boot_s: float = 5.0,
        folder: str | os.PathLike[str] | None = None,
        seed: int = 0,
        *,
        editable: bool = False,
    ) -> None:
        if isinstance(boot_s, bool) or not isinstance(boot_s, int | float) or not 0 <= boot_s < math.inf:
            raise ValueError(f"boot_s={boot_s!r}: not a duration; expected seconds >= 0")
        self.faults = Faults(boot_s=boot_s)
        self.environment: dict[str, str] = {}
        self.vpc = self.subnet = self.security_group = self.ami = self.bucket = ""
        self._folder = None if folder is None else Path(folder).absolute()
        self._seed = check_integer(seed, "seed", 0, what="a seed")
        self._editable = editable
        self._pool: MachinePool | None = None
        self._metadata: MetadataService | None = None
        self._open: ExitStack | None = None
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"<LoopbackCloud at {self.environment['AWS_ENDPOINT_URL']}>" if self._open else "<LoopbackCloud, closed>"

    def __enter__(self) -> Self:
        return self if self._open is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Open the cloud and return it.

        Raises:
            SeerError: moto is missing, the system is not Linux, or another cloud is open in this process.
        """
        if not _open_lock.acquire(blocking=False):
            raise SeerError("another LoopbackCloud is open in this process: close it first")
        with ExitStack() as opening:
            opening.callback(_open_lock.release)
            # Must come first: importing moto calls boto3, which would read the user's own AWS profile.
            opening.enter_context(apply_environment(client_environment()))
            _require_moto()
            self._start(opening)
            self._open = opening.pop_all()
        self._process = os.getpid()
        atexit.register(self.close)
        return self

    def close(self) -> None:
        """Terminate all machines, kill their processes and restore ``os.environ``; a second call does nothing."""
        opened, self._open = self._open, None
        # A forked child inherits this object but must not close the parent's cloud.
        if opened is not None and self._process == os.getpid():
            atexit.unregister(self.close)
            opened.close()

    @property
    def store(self) -> str:
        """The URL of a checkpoint store for studies on this cloud."""
        self._require_open()
        return f"s3://{self.bucket}/seer"

    def provider(self, instance_type: str | Sequence[str] = "m5.large", **options: Any) -> EC2:
        """Return a provider for studies on this cloud.

        Args:
            instance_type: Instance type or types, as for ``seer.EC2``; default "m5.large".
            options: Other arguments of ``seer.EC2``. Defaults for region, network, image and boot times fit this
                cloud.
        """
        from seer_nb.providers.aws import EC2

        self._require_open()
        given: dict[str, Any] = {
            "region": REGION,
            "vpc": self.vpc,
            "subnet": self.subnet,
            "ami": self.ami,
            "public_address": False,
            "boot_time": self.faults.boot_s + START_S,
            "boot_timeout": max(60.0, 5 * self.faults.boot_s),
            "max_machines": 4,
        }
        return EC2(instance_type, **{**given, **options})

    def machines(self) -> list[Machine]:
        """Return all machines ever launched, in order of launch."""
        return [] if self._pool is None else [machine.record() for machine in self._pool.machines()]

    def lose(self, instance_id: str) -> None:
        """Simulate a hardware failure: kill all processes of a machine and mark its instance terminated.

        Raises:
            ValueError: This cloud has no such machine.
        """
        self.pool.lose(instance_id)

    def interrupt(self, instance_id: str, notice_s: float = 120.0) -> None:
        """Preempt a spot machine: its metadata service shows a notice now, and it terminates after ``notice_s``.

        Args:
            instance_id: Id of the machine.
            notice_s: Seconds between the notice and the termination; default 120.

        Raises:
            ValueError: This cloud has no such machine, or the machine is on-demand.
        """
        self.pool.interrupt(instance_id, notice_s)

    @property
    def pool(self) -> MachinePool:
        """The machines of the open cloud."""
        self._require_open()
        assert self._pool is not None
        return self._pool

    def _require_open(self) -> None:
        if self._open is None:
            raise SeerError("the LoopbackCloud is not open: call start() first")

    def _start(self, opening: ExitStack) -> None:
        # These modules import moto.
        from seer_nb.testing.loopback.faults import Market
        from seer_nb.testing.loopback.machines import MachinePool
        from seer_nb.testing.loopback.moto_patches import patched_moto
        from seer_nb.testing.loopback.moto_server import MotoServer, RequestFilter

        name = secrets.token_hex(8)
        addresses = AddressBlock()
        opening.callback(addresses.close)
        scratch = Path(tempfile.mkdtemp(prefix="loopback-"))
        _start_cleanup(name, scratch, opening)
        setups = MachineSetups(name, self._folder, scratch, self._cloud_environment, editable=self._editable)
        market = Market(self.faults)
        self._pool = pool = MachinePool(setups, addresses, self.faults, market)
        self._metadata = MetadataService(pool.find, REGION)
        opening.callback(self._metadata.close)
        opening.enter_context(patched_moto(pool))
        server = MotoServer(pool, RequestFilter(self.faults, market), KEY, REGION, self._seed)
        opening.callback(server.close)
        self.vpc, self.subnet, self.security_group = server.vpc, server.subnet, server.security_group
        self.ami, self.bucket, pool.subnet = server.ami, server.bucket, server.subnet
        address = {"AWS_ENDPOINT_URL": server.url}
        opening.enter_context(apply_environment(address))
        self.environment = address | client_environment()
        pool.open()
        opening.callback(pool.close)

    def _cloud_environment(self, instance_id: str) -> dict[str, str]:
        assert self._metadata is not None
        return machine_environment(self.environment, self._metadata.url(instance_id))


def _require_moto() -> None:
    try:
        importlib.import_module("moto.server")
    except ImportError as error:
        raise SeerError('the loopback cloud needs moto: pip install "seer_nb[loopback]"') from error


def _start_cleanup(name: str, scratch: Path, opening: ExitStack) -> None:
    """Start the process that cleans up when the cloud closes or this process dies."""
    program = [sys.executable, "-I", "-S", cleanup.__file__, name, str(scratch)]
    # It must not inherit this process's streams: their readers would wait for it to exit.
    quiet = subprocess.DEVNULL
    watch = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)
    # Send a byte explicitly: end of file never arrives while a forked child also holds the pipe.
    opening.callback(watch.communicate, b"closed")
