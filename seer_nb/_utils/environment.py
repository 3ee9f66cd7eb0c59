"""Every environment variable that seer_nb reads or sets."""

from __future__ import annotations

KEY_FILE = "SEER_KEY_FILE"
LEASE_FILE = "SEER_LEASE"
SPOT_PROVIDER = "SEER_SPOT"
"""Environment variable that names the provider on machines that may be taken away: "aws", "gcp" or "azure"."""
