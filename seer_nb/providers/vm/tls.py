"""What a later runner must know to go on with the machines of an earlier one; readable by its owner only.

A copy of a study's folder must not end, nor use, the machines of the study that it was copied from: it gets keys and
an ident of its own. A folder that is renamed keeps its machines. One that is moved to another disk, or restored from a
backup, cannot be told from a copy: its machines end by their leases, and where one that has powered itself off is still
billed, it must be deleted by hand. To be on the safe side, pause or end a study before it is moved so.
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
    """Key and certificate that all parts of one study's cluster share, as PEM text."""

    key: str
    certificate: str

    def security(self) -> Any:
        """As a ``distributed.Security`` for the client."""
        from distributed.security import Security

        parts = {f"tls_{role}_{what}": text for role in _ROLES for what, text in self._texts().items()}
        return Security(require_encryption=True, tls_ca_file=self.certificate, **parts)

    def config(self, role: str) -> dict[str, Any]:
        """What the Dask configuration of a scheduler or worker must hold under "distributed.comm"."""
        tls = {"ca-file": self.certificate, role: self._texts()}
        return {"default-scheme": "tls", "require-encryption": True, "tls": tls}

    def _texts(self) -> dict[str, str]:
        return {"key": self.key, "cert": self.certificate}


class ClusterFile(msgspec.Struct, kw_only=True):
    """The file's content."""

    ident: str
    """Tells this study's machines from those of another one with the same name."""
    pem: Pem
    mark: str = ""
    """Of the folder that it was made for. Files of versions that did not mark them have none."""
    machine: int | None = None
    """On which the scheduler runs ..."""
    address: str = ""
    """... as clients reach it ..."""
    inner: str = ""
    """... and as workers do."""


def load(folder: Path) -> ClusterFile:
    """The study's, made if there is none yet, or if it is that of the study that this one was copied from."""
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
            "the folder %s is a copy, or was moved to another disk: machines whose names or tags have %s are left to "
            "the study that has rented them, and to their leases",
            folder,
            found.ident,
        )
    made = ClusterFile(ident=uuid4().hex, pem=_fresh(), mark=mark)
    save(folder, made)
    return made


def _mark(folder: Path) -> str:
    """What no copy shares with a study's folder, and a new name does not change: numbers of what is never replaced.

    Not the disk's number: it can be another one after a restart, and machines would be lost from sight. Two numbers,
    for a single one may by chance be the same on another disk.
    """
    numbers = [folder.stat().st_ino]
    with contextlib.suppress(FileNotFoundError):
        numbers.append((folder / JOURNAL).stat().st_ino)
    return "-".join(map(str, numbers))


def save(folder: Path, content: ClusterFile) -> None:
    """For a later runner."""
    write_atomically(folder / FILE, msgspec.json.encode(content), private=True)


def _fresh() -> Pem:
    from distributed.security import Security

    made = Security.temporary()
    return Pem(key=str(made.tls_client_key), certificate=str(made.tls_client_cert))
