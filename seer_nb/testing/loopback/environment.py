"""Environment variables, folders and addresses of the cloud's clients and machines."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import site
import socket
import sys
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb._utils import environment as variables
from seer_nb.errors import SeerError
from seer_nb.storage import object_store
from seer_nb.testing.loopback.user_data import write_shims

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


REGION = "us-east-1"
KEY = f"LOOPBACK{secrets.token_hex(8).upper()}"
"""The access key, the same for all clouds of a process because boto3 and others cache the first one that they find.

AWS would reject it, so a misdirected request to the real cloud fails."""
_REMOVED = (
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
)
"""Variables that would send a client to another endpoint, or with other credentials."""
_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def client_environment() -> dict[str, str]:
    """Return the variables for clients, without the API's address."""
    found = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": "loopback",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # Clients must not use instance credentials, even if this computer is an EC2 instance.
        "AWS_EC2_METADATA_DISABLED": "true",
        # The user's own settings, for example of retries, apply to the real cloud only.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    if any(name in os.environ for name in _PROXIES):
        direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"]))
        found |= {"NO_PROXY": direct, "no_proxy": direct}
    return found


def machine_environment(client: Mapping[str, str], metadata: str) -> dict[str, str]:
    """Return the variables for machines: credentials, as from an instance profile, and the metadata service's URL."""
    kept = {name: value for name, value in client.items() if name != "AWS_EC2_METADATA_DISABLED"}
    return {**kept, "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata}


@contextmanager
def apply_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Set variables in ``os.environ``, and restore the earlier values on exit."""
    changed = {*environment, *_REMOVED}
    before = {name: os.environ[name] for name in changed if name in os.environ}
    for name in _REMOVED:
        os.environ.pop(name, None)
    os.environ.update(environment)
    _clear_s3fs_cache()
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
        os.environ.update(before)
        _clear_s3fs_cache()


def _clear_s3fs_cache() -> None:
    """Clear the cache of s3fs, which would return file systems connected to an earlier cloud."""
    s3fs: Any = sys.modules.get("s3fs")
    if s3fs is not None:
        s3fs.S3FileSystem.clear_instance_cache()
        object_store.forget_filesystems()


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INHERITED = ("LD_LIBRARY_PATH", "TZ")
"""Variables that machines inherit: the library path of the interpreter and the time zone."""


@dataclass(frozen=True, slots=True)
class MachineSetup:
    """The mark of a machine's processes, its folder, and the environment of its processes."""

    mark: str
    folder: Path
    environment: Mapping[str, str]

    @property
    def shutdown(self) -> Path:
        """The file that a machine writes to request its shutdown."""
        return Path(self.environment[variables.LOOPBACK_SHUTDOWN])


class MachineSetups:
    """Creates the folder and environment of each machine.

    Args:
        cloud: Unique name of the cloud.
        folder: Parent of the machines' folders; None for a subfolder of ``scratch``.
        scratch: Folder for shims and temporary files. It is separate from ``folder`` because paths of Unix sockets
            are limited in length.
        cloud_environment: Returns the cloud's variables for the machine with an instance id.
        editable: Whether Python on machines can import packages installed here in editable mode.
    """

    def __init__(
        self,
        cloud: str,
        folder: Path | None,
        scratch: Path,
        cloud_environment: Callable[[str], Mapping[str, str]],
        *,
        editable: bool,
    ) -> None:
        self.cloud = cloud
        self._folder = folder or scratch / "machines"
        self.scratch = scratch
        self._cloud_environment = cloud_environment
        self._packages = {} if editable else {variables.LOOPBACK_PACKAGES: os.pathsep.join(_packages())}
        write_shims(scratch / "tools")

    def create(self, instance_id: str, address: str) -> MachineSetup:
        """Create the folders of a new machine and return its setup."""
        mark = f"{self.cloud}/{instance_id}/"
        folder, temporary = self._folder / instance_id, self.scratch / instance_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        temporary.mkdir(mode=0o700)
        own = {
            variables.LOOPBACK_MACHINE: mark,
            "PATH": f"{self.scratch / 'tools'}:{_PATH}",
            "HOME": str(folder),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            variables.RUN_FOLDER: str(folder / "run"),
            # CLOCK_BOOTTIME is shared by all machines, so each stores its value at launch.
            variables.BOOT_TIME: str(int(time.clock_gettime(time.CLOCK_BOOTTIME))),
            variables.LOOPBACK_ADDRESS: address,
            variables.LOOPBACK_PYTHON: sys.executable,
            variables.LOOPBACK_SHUTDOWN: str(folder / "shutdown"),
        }
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return MachineSetup(mark, folder, {**kept, **own, **self._packages, **self._cloud_environment(instance_id)})


def _packages() -> list[str]:
    """Return the folders of installed packages, without the folders that .pth files add."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return [folder for folder in folders if Path(folder).is_dir()]


_LOCK_PORT = 48786
"""UDP port that locks a block when bound on its first address; the kernel releases it when the process exits."""
_FIRST, _LAST = 4, 254
_BLOCKS = 254
_block_offset = count()


class AddressBlock:
    """The addresses 127.0.n.4 to 127.0.n.254, reserved for one cloud.

    Raises:
        SeerError: The system has only one loopback address, or other clouds hold all blocks.
    """

    def __init__(self) -> None:
        # Do not reuse the previous cloud's block: its clients may still try to connect.
        start = os.getpid() + next(_block_offset)
        for n in (1 + (start + k) % _BLOCKS for k in range(_BLOCKS)):
            lock = _bind_lock(f"127.0.{n}.1")
            if lock is not None:
                self._lock, self._prefix = lock, f"127.0.{n}"
                break
        else:
            raise SeerError(
                f"all {_BLOCKS} blocks of loopback addresses are in use by other loopback clouds: close some"
            )
        self._free = deque(f"{self._prefix}.{k}" for k in range(_FIRST, _LAST + 1))
        self._used: set[str] = set()

    @property
    def cidr(self) -> str:
        """The block in CIDR notation."""
        return f"{self._prefix}.0/24"

    def take(self) -> str | None:
        """Reserve the free address that was unused longest; return None if all are in use."""
        if not self._free:
            return None
        address = self._free.popleft()
        self._used.add(address)
        return address

    def release(self, address: str) -> None:
        """Release the address of a terminated machine; a second call does nothing."""
        if address in self._used:
            self._used.remove(address)
            self._free.append(address)

    def close(self) -> None:
        """Release the block."""
        self._lock.close()


def _bind_lock(address: str) -> socket.socket | None:
    lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        lock.bind((address, _LOCK_PORT))
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise SeerError(f"this system has no loopback address {address}: the loopback cloud needs Linux") from error
        return None
    return lock
