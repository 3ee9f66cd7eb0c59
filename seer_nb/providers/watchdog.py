"""What ends a machine by itself when nobody renews its lease, whatever has died or hangs on it."""

from __future__ import annotations

FOLDER = "${SEER_RUN:-/run/seer}"
"""Of the lease, as a shell sees it."""
LEASE = f"{FOLDER}/lease"
"""It holds the second since the machine's boot until which that may live: clocks on the wall may jump."""
EVERY_S = 2
BOOTED = "${SEER_BOOT:-0}"
"""The second at which the machine booted: none has passed, unless it is one of the loopback cloud's."""


def command(boot_lease_s: float, lease: str = LEASE, end: str = "shutdown -h now") -> str:
    """Shell command that writes the first lease and starts to watch.

    Args:
        boot_lease_s: For so long the machine may boot before it hears of a runner. It is counted from its boot: much
            is installed before this command runs.
        lease: File that holds the lease.
        end: Command that ends the machine.
    """
    watch = f'while sleep {EVERY_S}; do [ "$(cut -d. -f1 /proc/uptime)" -lt "$(cat "$0")" ] || {end}; done'
    return (
        f'mkdir -p "$(dirname "{lease}")"; echo $(({BOOTED}+{round(boot_lease_s)})) > "{lease}"; '
        f"nohup sh -c '{watch}' \"{lease}\" > /dev/null 2>&1 &"
    )
