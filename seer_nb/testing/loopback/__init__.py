"""A loopback cloud: EC2 and S3 on this computer, for tests and demos without an AWS account.

moto serves the API. Machines are local processes that run their user data, each with its own address (127.0.x.y).
The cloud needs ``pip install "seer_nb[loopback]"`` and Linux. Nothing is rented and no data leaves the computer.
From a shell: ``python -m seer_nb.testing.loopback``.
"""

from __future__ import annotations

from typing import Any

from seer_nb.testing.loopback.cloud import LoopbackCloud
from seer_nb.testing.loopback.faults import Faults
from seer_nb.testing.loopback.machines import Machine

__all__ = ["Faults", "LoopbackCloud", "Machine", "loopback_cloud"]


def loopback_cloud(boot_s: float = 5.0, **options: Any) -> LoopbackCloud:
    """Start a cloud on this computer; it closes with ``close()`` or when this process exits.

    Args:
        boot_s: Seconds from the launch of a machine until its user data runs; default 5.
        options: Other arguments of `LoopbackCloud`.

    Returns:
        The open cloud.

    Raises:
        SeerError: The extra is not installed, the system is not Linux, or another cloud is open in this process.

    Example:
        >>> cloud = seer.loopback_cloud()
        >>> study = seer.Study(train, space, provider=cloud.provider(), store=cloud.store, ...)
        >>> cloud.close()
    """
    return LoopbackCloud(boot_s, **options).start()
