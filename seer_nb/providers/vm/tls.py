"""TLS keys and tokens with which a later runner continues with the machines of an earlier one.

A copy of a study's folder must neither terminate nor use the machines of the original study, so it gets its own keys
and ident. A renamed folder keeps its machines. A folder that was moved to another disk, or restored from a backup,
cannot be distinguished from a copy: its machines terminate when their leases expire. Where a machine that has shut
itself down is still billed, it must then be deleted by hand. Pause or end a study before you move it.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from seer_nb._utils.files import write_atomically
from seer_nb.storage.layout import JOURNAL

if TYPE_CHECKING:
    from pathlib import Path


logger = logging.getLogger(__name__)
FILE = "cluster.json"
_ROLES = ("scheduler", "worker", "client")


class Pem(msgspec.Struct, frozen=True, kw_only=True):
    """Key and certificate of one study's cluster, as PEM text; all its processes share them."""

    key: str
    certificate: str

    def security(self) -> Any:
        """Return a ``distributed.Security`` for the client."""
        from distributed.security import Security

        parts = {f"tls_{role}_{what}": text for role in _ROLES for what, text in self._texts().items()}
        return Security(require_encryption=True, tls_ca_file=self.certificate, **parts)

    def config(self, role: str) -> dict[str, Any]:
        """Return the Dask configuration of a scheduler or worker under "distributed.comm"."""
        tls = {"ca-file": self.certificate, role: self._texts()}
        return {"default-scheme": "tls", "require-encryption": True, "tls": tls}

    def _texts(self) -> dict[str, str]:
        return {"key": self.key, "cert": self.certificate}


class ClusterFile(msgspec.Struct, kw_only=True):
    """Content of the file."""

    ident: str
    """Distinguishes this study's machines from those of another study of the same name."""
    pem: Pem
    mark: str = ""
    """Mark of the folder that the file was written for; empty in files of versions without marks."""
    scheduler_machine: int | None = msgspec.field(default=None, name="machine")
    """Machine with the scheduler; None if there is none."""
    client_address: str = msgspec.field(default="", name="address")
    """Address of the scheduler as clients reach it."""
    worker_address: str = msgspec.field(default="", name="inner")
    """Address of the scheduler as workers reach it."""


def load(folder: Path) -> ClusterFile:
    """Return the file of the study in a folder; write a new one if there is none, or if the folder is a copy."""
    path, mark = folder / FILE, _mark(folder)
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=ClusterFile)
        if found.mark == mark:
            return found
        if not found.mark:
            found.mark = mark
            save(folder, found)
            return found
        logger.warning(
            "folder %s is a copy or was moved to another disk: machines with %s in their names or tags are left to the "
            "study that rented them and terminate when their leases expire",
            folder,
            found.ident,
        )
    made = ClusterFile(ident=uuid4().hex, pem=_make_pem(), mark=mark)
    save(folder, made)
    return made


def save(folder: Path, content: ClusterFile) -> None:
    """Write the file for a later runner."""
    write_atomically(folder / FILE, msgspec.json.encode(content), private=True)


def _mark(folder: Path) -> str:
    """Return what no copy of the folder has and renaming does not change: inode numbers of files never replaced.

    The device number is not part of it: it may change at a reboot, and the machines would be lost. There are two inode
    numbers, because a single one may by chance be the same on another disk.
    """
    numbers = [folder.stat().st_ino]
    with contextlib.suppress(FileNotFoundError):
        numbers.append((folder / JOURNAL).stat().st_ino)
    return "-".join(map(str, numbers))


def _make_pem() -> Pem:
    from distributed.security import Security

    made = Security.temporary()
    return Pem(key=str(made.tls_client_key), certificate=str(made.tls_client_cert))
