"""What a later runner must know to go on with the machines of an earlier one; readable by its owner only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from seer_nb.runner.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

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
    machine: int | None = None
    """On which the scheduler runs ..."""
    address: str = ""
    """... as clients reach it ..."""
    inner: str = ""
    """... and as workers do."""


def load(folder: Path) -> ClusterFile:
    """The study's, made if there is none yet."""
    path = folder / FILE
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=ClusterFile)
    made = ClusterFile(ident=uuid4().hex, pem=_fresh())
    save(folder, made)
    return made


def save(folder: Path, content: ClusterFile) -> None:
    """For a later runner."""
    write_private(folder / FILE, msgspec.json.encode(content))


def _fresh() -> Pem:
    from distributed.security import Security

    made = Security.temporary()
    return Pem(key=str(made.tls_client_key), certificate=str(made.tls_client_cert))
