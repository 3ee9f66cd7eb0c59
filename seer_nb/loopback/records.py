"""What is told of machines and of their ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path


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
