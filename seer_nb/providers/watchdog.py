"""What ends a machine by itself when nobody renews its lease, whatever has died or hangs on it."""

from __future__ import annotations

FOLDER = "${SEER_RUN:-/run/seer}"
"""Of the lease, as a shell sees it."""
LEASE = f"{FOLDER}/lease"
"""It holds the second since the machine's boot until which that may live: clocks on the wall may jump."""
EVERY_S = 2


def command(boot_lease_s: float) -> str:
    """Shell command that writes the first lease and starts to watch.

    Args:
        boot_lease_s: For so long the machine may boot before it hears of a runner.
    """
    now = "$(cut -d. -f1 /proc/uptime)"
    watch = f'while sleep {EVERY_S}; do [ "{now}" -lt "$(cat "$0")" ] || shutdown -h now; done'
    return (
        f'mkdir -p "{FOLDER}"; echo $(({now}+{round(boot_lease_s)})) > "{LEASE}"; '
        f"nohup sh -c '{watch}' \"{LEASE}\" > /dev/null 2>&1 &"
    )
