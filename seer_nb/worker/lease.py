"""Leases: a worker exits, and its machine shuts down, unless the runner renews the lease in time."""

from __future__ import annotations

import logging
import threading
import time

from seer_nb._utils.by_value import ByValue
from seer_nb._utils.clock import LATE_TIMER_S
from seer_nb._utils.environment import LEASE_FILE
from seer_nb._utils.processes import LEASE_EXPIRED, exit_process

logger = logging.getLogger(__name__)
CHECK_S = 5.0
"""Seconds between two checks of the lease, at most."""
SETTLE_S = 2.0
"""Seconds after a suspension in which renewals that came meanwhile are received."""


class Lease:
    """The lease of this worker's process. A new lease is valid from its creation.

    Args:
        lease_s: Seconds after the last renewal at which the lease expires.
    """

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._renewed_s = time.monotonic()

    def renew(self) -> None:
        """Make the lease valid from now on; from any thread."""
        self._renewed_s = time.monotonic()

    def watch(self) -> None:
        """Have a daemon thread end the process when the lease expires."""
        threading.Thread(target=self.exit_when_expired, name="seer-lease", daemon=True).start()

    def exit_when_expired(self) -> None:
        """Wait until the lease expires, then end the process: a worker without a runner only costs money."""
        while (left_s := self._renewed_s + self.lease_s - time.monotonic()) > 0:
            asked_s, began_s = min(left_s, CHECK_S), time.monotonic()
            time.sleep(asked_s)
            if time.monotonic() - began_s > asked_s + LATE_TIMER_S:
                # No thread could run, for instance because a library held the interpreter lock: a renewal may have
                # come meanwhile that was not received.
                time.sleep(SETTLE_S)
        logger.warning("exiting: the lease has expired without a renewal by the runner")
        exit_process(LEASE_EXPIRED)


def _renew_machine_lease(lease_s: float) -> None:
    import os
    import time

    path = os.environ.get(LEASE_FILE)
    if path:
        # The lease is paid for in full: the machine must have shut down by its end, so shutting down starts earlier.
        lease_s = max(lease_s / 2, lease_s - 10.0)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w") as file:  # noqa: PTH123 - pickled by value: one import less
            file.write(str(int(time.clock_gettime(time.CLOCK_BOOTTIME) + lease_s)))
        os.replace(temporary, path)  # noqa: PTH105 - likewise


renew_machine_lease = ByValue(_renew_machine_lease)
"""Writes into the file that the machine's watchdog reads until which second since boot the machine may live."""
