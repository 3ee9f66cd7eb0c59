"""Whether the provider is about to take this machine away: its instance metadata service says so.

AWS tells two minutes before, and asks to look every five seconds; GCP and Azure tell half a minute before.
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

from seer_nb._utils.environment import AZURE_METADATA, SPOT_PROVIDER
from seer_nb.worker.messages import Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


logger = logging.getLogger(__name__)
EVERY_S = 5.0, 1.0
"""Between two looks: where two minutes are given, and where half a minute is."""
TIMEOUT_S = 2.0
LEAST_S = 30.0
"""What GCP and Azure give, who do not always tell when."""


def wanted() -> bool:
    """Whether this machine may be taken away, and somebody would say so."""
    return os.environ.get(SPOT_PROVIDER) in _ASK


def watch(worker: str) -> Iterator[Notice]:
    """Wait for the notice; ends with it.

    Args:
        worker: Name of this worker.
    """
    provider = os.environ[SPOT_PROVIDER]
    while True:
        found = look(provider)
        if found is not None:
            yield Notice(worker=worker, left_s=max(0.0, found - time.time()), reason="spot interruption")
            return
        time.sleep(EVERY_S[provider != "aws"])


def look(provider: str) -> float | None:
    """Unix seconds at which the machine will go; None if nothing is known."""
    try:
        return _ASK[provider]()
    except urllib.error.HTTPError:  # 404: it stays
        return None
    except (OSError, ValueError, KeyError, TypeError):
        logger.debug("the metadata service does not answer", exc_info=True)
        return None


def _aws() -> float:
    service = _service("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
    token = _ask(f"{service}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    said = _ask(f"{service}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    return _seconds(json.loads(said)["time"], "%Y-%m-%dT%H:%M:%SZ")


def _gcp() -> float | None:
    service = _service("GCE_METADATA_ROOT", "http://metadata.google.internal")
    said = _ask(f"{service}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return time.time() + LEAST_S if said.strip() == "TRUE" else None


def _azure() -> float | None:
    service = _service(AZURE_METADATA, "http://169.254.169.254")
    said = _ask(f"{service}/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"})
    events = [event for event in json.loads(said)["Events"] if event["EventType"] == "Preempt"]
    return min(map(_not_before, events), default=None)


def _not_before(event: dict[str, str]) -> float:
    """When Azure will begin with it; where it has begun, there is no time any more."""
    at = event["NotBefore"]
    return _seconds(at, "%a, %d %b %Y %H:%M:%S GMT") if at else time.time() + LEAST_S


_ASK: dict[str, Callable[[], float | None]] = {"aws": _aws, "gcp": _gcp, "azure": _azure}


def _service(variable: str, usual: str) -> str:
    found = os.environ.get(variable, usual).rstrip("/")
    return found if "://" in found else f"http://{found}"


def _seconds(text: str, form: str) -> float:
    return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - a fixed scheme
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        return str(answer.read().decode())
