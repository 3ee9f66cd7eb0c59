"""Whether the provider is about to take this machine away: its instance metadata service says so.

AWS tells two minutes before, under ``spot/instance-action`` (and asks to look every five seconds); whoever has another
provider gets nothing here.
"""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from seer_nb.runner.orders import Notice

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)
EVERY_S = 5.0
TIMEOUT_S = 2.0
SERVICE = "http://169.254.169.254"
WANTED = "SEER_SPOT"
"""Environment variable that is set on machines that may be taken away."""


def wanted() -> bool:
    """Whether this machine may be taken away."""
    return bool(os.environ.get(WANTED))


def watch(worker: str) -> Iterator[Notice]:
    """Wait for the notice; ends with it.

    Args:
        worker: Name of this worker.
    """
    while True:
        found = _read()
        if found is not None:
            yield Notice(worker=worker, left_s=max(0.0, found - time.time()), reason="spot interruption")
            return
        time.sleep(EVERY_S)


def _read() -> float | None:
    """Unix seconds at which the machine will go; None if nothing is known."""
    service = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", SERVICE).rstrip("/")
    try:
        token = _ask(f"{service}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        said = _ask(f"{service}/latest/meta-data/spot/instance-action", "GET", {"X-aws-ec2-metadata-token": token})
        at = json.loads(said)["time"]
        return datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except urllib.error.HTTPError:  # 404: it stays
        return None
    except (OSError, ValueError, KeyError):
        logger.debug("the metadata service does not answer", exc_info=True)
        return None


def _ask(url: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - a fixed scheme
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        return str(answer.read().decode())
