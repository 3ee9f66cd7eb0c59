"""An EC2 and S3 on this computer: a cloud to try things on, for anyone without an account.

Its API is moto's, its machines are processes of this computer that run their user data for real, each with an address
of its own (127.0.x.y). It needs ``pip install "seer_nb[loopback]"`` and Linux. Nothing is rented and nothing leaves the
computer. In a shell: ``python -m seer_nb.testing.loopback``.
"""

from __future__ import annotations

from typing import Any

from seer_nb.testing.loopback.cloud import LoopbackCloud
from seer_nb.testing.loopback.faults import Faults
from seer_nb.testing.loopback.machines import Machine

__all__ = ["Faults", "LoopbackCloud", "Machine", "loopback_cloud"]


def loopback_cloud(boot_s: float = 5.0, **options: Any) -> LoopbackCloud:
    """Start a cloud on this computer; ``close()`` ends it, and so does the end of this process.

    Args:
        boot_s: Seconds that a machine takes to boot, before its own start-up.
        options: Of `LoopbackCloud`.

    Raises:
        SeerError: The extra is not installed, the system is not Linux, or another cloud is open in this process.
    """
    return LoopbackCloud(boot_s, **options).start()
