"""LoopbackCloud: what a user holds."""

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
    Block,
    Homes,
    client_environment,
    in_effect,
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
"""What Python, Dask and torch take to start on a machine here, about."""
_one = threading.Lock()
"""moto's tables, and the environment of clients, are the process's."""


class LoopbackCloud:
    """EC2 and S3 on this computer.

    Used in a ``with`` statement, or by ``start()`` and ``close()``. While it is open, ``os.environ`` leads clients of
    AWS to it, in this process and in those it starts; one cloud can be open in a process. When it closes, or its
    process dies, no process of its machines is left.

    Args:
        boot_s: Seconds from RunInstances until a machine begins with its user data; also ``faults.boot_s``.
        folder: Where each machine has a folder with its script and its log, in place of an earlier machine's of the
            same id. Default: a temporary one, which is removed at the end.
        seed: Of the ids of instances and all else.
        editable: Whether Python on machines finds what is installed on this computer in editable mode. A real machine
            would lack it.

    Attributes:
        environment: What clients need: set in ``os.environ`` while the cloud is open, and given to machines.
        vpc, subnet, security_group, ami, bucket: Made at the start, to be used in requests.
        faults: What goes wrong.

    Raises:
        TypeError, ValueError: For a negative time, or a seed that is no whole number from 0 on.
        SeerError: On start, if moto is missing, the system is not Linux, or another cloud is open in this process.
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
            raise ValueError(f"boot_s={boot_s!r} is not a time: give seconds from 0 on")
        self.faults = Faults(boot_s=boot_s)
        self.environment: dict[str, str] = {}
        self.vpc = self.subnet = self.security_group = self.ami = self.bucket = ""
        self._folder = None if folder is None else Path(folder).absolute()
        self._seed = check_integer(seed, "seed", 0, what="a seed")
        self._editable = editable
        self._park: MachinePool | None = None
        self._metadata: MetadataService | None = None
        self._open: ExitStack | None = None
        self._process = os.getpid()

    def __repr__(self) -> str:
        """Where it is."""
        return f"<LoopbackCloud at {self.environment['AWS_ENDPOINT_URL']}>" if self._open else "<LoopbackCloud, closed>"

    def __enter__(self) -> Self:
        return self if self._open is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Open the cloud."""
        if not _one.acquire(blocking=False):
            raise SeerError("a LoopbackCloud is open in this process already: close it first")
        with ExitStack() as opening:
            opening.callback(_one.release)
            # First of all, for moto asks boto3, even when it is imported, and that would look for the user's profile.
            opening.enter_context(in_effect(client_environment()))
            _need_moto()
            self._start(opening)
            self._open = opening.pop_all()
        self._process = os.getpid()
        atexit.register(self.close)
        return self

    def close(self) -> None:
        """End every machine, kill whatever lives on one, and put the environment back. Twice is no harm."""
        opened, self._open = self._open, None
        # A forked child has inherited all this, but must not end it.
        if opened is not None and self._process == os.getpid():
            atexit.unregister(self.close)
            opened.close()

    @property
    def store(self) -> str:
        """Where studies on this cloud can keep their checkpoints."""
        self._opened()
        return f"s3://{self.bucket}/seer"

    def provider(self, instance_type: str | Sequence[str] = "m5.large", **options: Any) -> EC2:
        """A provider for studies on this cloud.

        Args:
            instance_type: As for ``seer.EC2``.
            options: Of ``seer.EC2``; what leads to this cloud, and how long its machines boot, is given.
        """
        from seer_nb.providers.aws import EC2

        self._opened()
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
        """All machines ever launched, in that order."""
        return [] if self._park is None else [host.record() for host in self._park.hosts()]

    def lose(self, instance_id: str) -> None:
        """Let a machine's hardware fail: everything on it is killed at once, and the instance becomes terminated.

        Raises:
            ValueError: If there is no such machine.
        """
        self._opened().lose(instance_id)

    def interrupt(self, instance_id: str, notice_s: float = 120.0) -> None:
        """Interrupt a spot machine: its metadata service says so now, and it is terminated ``notice_s`` later.

        Raises:
            ValueError: If there is no such machine, or it is not a spot machine.
        """
        self._opened().interrupt(instance_id, notice_s)

    def _opened(self) -> MachinePool:
        if self._park is None or self._open is None:
            raise SeerError("the LoopbackCloud is not open: call start() first")
        return self._park

    def _start(self, opening: ExitStack) -> None:
        # These import moto.
        from seer_nb.testing.loopback.faults import Market
        from seer_nb.testing.loopback.machines import MachinePool
        from seer_nb.testing.loopback.moto_patches import mended
        from seer_nb.testing.loopback.moto_server import Api, Judge

        name = secrets.token_hex(8)
        addresses = Block()
        opening.callback(addresses.close)
        scratch = Path(tempfile.mkdtemp(prefix="loopback-"))
        _watch_over(name, scratch, opening)
        homes = Homes(name, self._folder, scratch, self._surroundings, editable=self._editable)
        market = Market(self.faults)
        self._park = park = MachinePool(homes, addresses, self.faults, market)
        self._metadata = MetadataService(park.host, REGION)
        opening.callback(self._metadata.close)
        opening.enter_context(mended(park))
        api = Api(park, Judge(self.faults, market), KEY, REGION, self._seed)
        opening.callback(api.close)
        self.vpc, self.subnet, self.security_group = api.vpc, api.subnet, api.security_group
        self.ami, self.bucket, park.subnet = api.ami, api.bucket, api.subnet
        address = {"AWS_ENDPOINT_URL": api.url}
        opening.enter_context(in_effect(address))
        self.environment = address | client_environment()
        park.open()
        opening.callback(park.close)

    def _surroundings(self, instance_id: str) -> dict[str, str]:
        assert self._metadata is not None
        return machine_environment(self.environment, self._metadata.url(instance_id))


def _need_moto() -> None:
    try:
        importlib.import_module("moto.server")
    except ImportError as error:
        raise SeerError('the loopback cloud needs moto: pip install "seer_nb[loopback]"') from error


def _watch_over(name: str, scratch: Path, opening: ExitStack) -> None:
    """Start the process that clears up when the cloud closes, or this process is gone."""
    program = [sys.executable, "-I", "-S", cleanup.__file__, name, str(scratch)]
    # It holds none of this process's own streams, whose readers wait for their end.
    quiet = subprocess.DEVNULL
    watch = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)
    # Told, for the end of the pipe does not come while a child that this process has forked has it too.
    opening.callback(watch.communicate, b"closed")
