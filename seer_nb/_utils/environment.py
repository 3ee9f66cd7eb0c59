"""Names of all environment variables that seer_nb reads or sets.

Two kinds of code repeat these names, because they run without seer_nb: shell text, and the scripts
`testing/loopback/shims.py` and `testing/loopback/cleanup.py`.
"""

from __future__ import annotations

HOME = "SEER_HOME"
"""Folder of all studies; default: ./seer_studies."""
KEY_FILE = "SEER_KEY_FILE"
"""File of the key that signs the user's studies; default: seer_nb/key in the user's configuration folder."""

# Set on rented machines.
LEASE_FILE = "SEER_LEASE"
"""File that holds the time until which the machine may live, in seconds since its boot."""
SPOT_PROVIDER = "SEER_SPOT"
"""Provider of a spot machine: "aws", "gcp" or "azure"; not set on other machines."""
AZURE_METADATA = "SEER_AZURE_METADATA"
"""URL of Azure's metadata service; default: Azure's own address."""
RUN_FOLDER = "SEER_RUN"
"""Folder of the watchdog's files on a machine; default: /run/seer."""
BOOT_TIME = "SEER_BOOT"
"""Second since the computer's boot at which a machine of the loopback cloud booted; default: 0."""

# Set on machines of the loopback cloud.
LOOPBACK_MACHINE = "SEER_LOOPBACK_MACHINE"
"""Mark by which a machine's processes are found."""
LOOPBACK_ADDRESS = "SEER_LOOPBACK_ADDRESS"
"""IP address of the machine."""
LOOPBACK_PYTHON = "SEER_LOOPBACK_PYTHON"
"""Python interpreter that the machine's processes use."""
LOOPBACK_PACKAGES = "SEER_LOOPBACK_PACKAGES"
"""Folders with installed packages, separated as in PATH."""
LOOPBACK_SHUTDOWN = "SEER_LOOPBACK_SHUTDOWN"
"""File by which a machine requests its own shutdown."""

# Set by the fault campaign of the benchmarks.
FAULTS_CLOCK = "SEER_FAULTS_CLOCK"
"""File that holds the offset of the clock that processes see."""
FAULTS_NETWORK = "SEER_FAULTS_NETWORK"
"""Set to 1 in processes that run in their own network namespace."""
