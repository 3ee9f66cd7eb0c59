"""What a client needs in its environment to find the cloud, and nothing of a real account."""

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
from seer_nb.testing.loopback.user_data import write_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


REGION = "us-east-1"
KEY = f"LOOPBACK{secrets.token_hex(8).upper()}"
"""The access key. One for all clouds of the process, since boto3 and others keep the first that they find.

That it is none of AWS's is a second lock: a request gone astray would be refused there."""
_MISLEADING = (
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
)
"""With these a client would go elsewhere, or as somebody else."""
_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def client_environment() -> dict[str, str]:
    """What to set for clients, but for the API's address."""
    found = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": "loopback",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # The client is no machine of EC2's, even if this computer is one.
        "AWS_EC2_METADATA_DISABLED": "true",
        # The user's own settings, for example of retries, are for the real cloud.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    if any(name in os.environ for name in _PROXIES):
        direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"]))
        found |= {"NO_PROXY": direct, "no_proxy": direct}
    return found


def machine_environment(client: Mapping[str, str], metadata: str) -> dict[str, str]:
    """The same for machines: the keys, as an instance profile would give them, and the metadata service's address."""
    kept = {name: value for name, value in client.items() if name != "AWS_EC2_METADATA_DISABLED"}
    return {**kept, "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata}


@contextmanager
def in_effect(environment: Mapping[str, str]) -> Iterator[None]:
    """Set them in this process, and put back at the end what was there."""
    changed = {*environment, *_MISLEADING}
    before = {name: os.environ[name] for name in changed if name in os.environ}
    for name in _MISLEADING:
        os.environ.pop(name, None)
    os.environ.update(environment)
    _forget_connections()
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
        os.environ.update(before)
        _forget_connections()


def _forget_connections() -> None:
    """s3fs gives the same file system to all who ask, with the connection it first made."""
    s3fs: Any = sys.modules.get("s3fs")
    if s3fs is not None:
        s3fs.S3FileSystem.clear_instance_cache()


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("LD_LIBRARY_PATH", "TZ")
"""What the interpreter may need, and what times are printed in."""


@dataclass(frozen=True, slots=True)
class Home:
    """A machine's: what its processes are found by, its folder, and its processes' environment."""

    mark: str
    folder: Path
    environment: Mapping[str, str]

    @property
    def shutdown(self) -> Path:
        """The file by which a machine asks to be ended."""
        return Path(self.environment[variables.LOOPBACK_SHUTDOWN])


class Homes:
    """Those of all machines of a cloud.

    Args:
        cloud: Its name, unlike any other's.
        folder: Where machines have their folders; None for the scratch folder.
        scratch: Where they have their tools and temporary files. Not in their folders, whose paths may be too long for
            sockets.
        editable: Whether Python finds there what is installed on this computer in editable mode.
        surroundings: The cloud's part of a machine's environment, by the instance's id.
    """

    def __init__(
        self,
        cloud: str,
        folder: Path | None,
        scratch: Path,
        surroundings: Callable[[str], Mapping[str, str]],
        *,
        editable: bool,
    ) -> None:
        self._cloud = cloud
        self._folder = folder or scratch / "machines"
        self._scratch = scratch
        self._surroundings = surroundings
        self._packages = {} if editable else {variables.LOOPBACK_PACKAGES: os.pathsep.join(_packages())}
        write_tools(scratch / "tools")

    def furnish(self, instance_id: str, address: str) -> Home:
        """Make the home of a new machine."""
        mark = f"{self._cloud}/{instance_id}/"
        folder, temporary = self._folder / instance_id, self._scratch / instance_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        temporary.mkdir(mode=0o700)
        own = {
            variables.LOOPBACK_MACHINE: mark,
            "PATH": f"{self._scratch / 'tools'}:{_PATH}",
            "HOME": str(folder),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            variables.RUN_FOLDER: str(folder / "run"),
            # All machines here have this computer's clock since its boot.
            variables.BOOT_TIME: str(int(time.clock_gettime(time.CLOCK_BOOTTIME))),
            variables.LOOPBACK_ADDRESS: address,
            variables.LOOPBACK_PYTHON: sys.executable,
            variables.LOOPBACK_SHUTDOWN: str(folder / "shutdown"),
        }
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return Home(mark, folder, {**kept, **own, **self._packages, **self._surroundings(instance_id)})


def _packages() -> list[str]:
    """Where packages are installed, without what .pth files add."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return [folder for folder in folders if Path(folder).is_dir()]


_LOCK_PORT = 48786
"""Who has bound this UDP port on a block's first address has the block: the system forgets it with the process."""
_FIRST, _LAST = 4, 254
_BLOCKS = 254
_taken_before = count()


class Block:
    """The addresses 127.0.n.4 to 127.0.n.254.

    Raises:
        SeerError: If the system has but one loopback address, or all blocks are taken.
    """

    def __init__(self) -> None:
        # A cloud does not begin where the last one of this process ended: clients of that may still be knocking.
        start = os.getpid() + next(_taken_before)
        for n in (1 + (start + k) % _BLOCKS for k in range(_BLOCKS)):
            lock = _bound(f"127.0.{n}.1")
            if lock is not None:
                self._lock, self._prefix = lock, f"127.0.{n}"
                break
        else:
            raise SeerError(
                f"all {_BLOCKS} blocks of loopback addresses are taken by other loopback clouds: close some"
            )
        self._free = deque(f"{self._prefix}.{k}" for k in range(_FIRST, _LAST + 1))
        self._used: set[str] = set()

    @property
    def cidr(self) -> str:
        """The block as a network."""
        return f"{self._prefix}.0/24"

    def take(self) -> str | None:
        """An address that no machine has, the one longest unused; None if all are taken."""
        if not self._free:
            return None
        address = self._free.popleft()
        self._used.add(address)
        return address

    def give_back(self, address: str) -> None:
        """The machine of this address has ended."""
        if address in self._used:
            self._used.remove(address)
            self._free.append(address)

    def close(self) -> None:
        """Leave the block to others."""
        self._lock.close()


def _bound(address: str) -> socket.socket | None:
    lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        lock.bind((address, _LOCK_PORT))
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise SeerError(
                f"this system has no loopback address {address}: the loopback cloud runs on Linux only"
            ) from error
        return None
    return lock
