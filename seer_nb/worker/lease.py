"""The lease of a machine, as its worker renews it."""

from __future__ import annotations

from seer_nb._utils.by_value import ByValue
from seer_nb._utils.environment import LEASE_FILE


def _renew_lease(lease_s: float) -> None:
    """Write down until which second since its boot the machine may live: its watchdog looks there."""
    import os
    import time

    path = os.environ.get(LEASE_FILE)
    if path:
        # It must have shut down by the end of the lease: until then, and no longer, it is counted.
        lease_s = max(lease_s / 2, lease_s - 10.0)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w") as file:  # noqa: PTH123
            file.write(str(int(time.clock_gettime(time.CLOCK_BOOTTIME) + lease_s)))
        os.replace(temporary, path)  # noqa: PTH105


renew_lease = ByValue(_renew_lease)
"""Renews the lease of the machine that it is called on; for the scheduler's."""
