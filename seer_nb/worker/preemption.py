"""Preemption notices: the instance metadata service announces that the provider will preempt this machine.

AWS announces it two minutes before, and asks clients to poll every five seconds; GCP and Azure half a minute before.
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
from seer_nb.worker.messages import PreemptionNotice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


logger = logging.getLogger(__name__)
POLL_S = {"aws": 5.0, "gcp": 1.0, "azure": 1.0}
"""Seconds between two polls by provider."""
TIMEOUT_S = 2.0
"""Seconds in which the metadata service must answer."""
NOTICE_S = 30.0
"""Seconds between notice and preemption on GCP and Azure, which do not always give the time."""


def is_announced() -> bool:
    """Return whether this machine may be preempted, and its provider announces that."""
    return os.environ.get(SPOT_PROVIDER) in _POLL


def watch(worker: str) -> Iterator[PreemptionNotice]:
    """Poll for the notice, yield it, and end.

    Args:
        worker: Dask name of this worker.
    """
    provider = os.environ[SPOT_PROVIDER]
    while True:
        at = preemption_time(provider)
        if at is not None:
            yield PreemptionNotice(worker=worker, left_s=max(0.0, at - time.time()), reason="spot interruption")
            return
        time.sleep(POLL_S[provider])


def preemption_time(provider: str) -> float | None:
    """Return the Unix seconds at which this machine will be preempted; None if nothing is announced."""
    try:
        return _POLL[provider]()
    except urllib.error.HTTPError:  # 404: no notice
        return None
    except (OSError, ValueError, KeyError, TypeError):
        logger.debug("polling the metadata service failed", exc_info=True)
        return None


def _aws() -> float:
    service = _service("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
    token = _get(f"{service}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    answer = _get(f"{service}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    return _unix_s(json.loads(answer)["time"], "%Y-%m-%dT%H:%M:%SZ")


def _gcp() -> float | None:
    service = _service("GCE_METADATA_ROOT", "http://metadata.google.internal")
    answer = _get(f"{service}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return time.time() + NOTICE_S if answer.strip() == "TRUE" else None


def _azure() -> float | None:
    service = _service(AZURE_METADATA, "http://169.254.169.254")
    answer = _get(f"{service}/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"})
    events = [event for event in json.loads(answer)["Events"] if event["EventType"] == "Preempt"]
    return min(map(_not_before, events), default=None)


def _not_before(event: dict[str, str]) -> float:
    """Return when Azure may preempt the machine; without a time, the preemption has started."""
    at = event["NotBefore"]
    return _unix_s(at, "%a, %d %b %Y %H:%M:%S GMT") if at else time.time() + NOTICE_S


_POLL: dict[str, Callable[[], float | None]] = {"aws": _aws, "gcp": _gcp, "azure": _azure}


def _service(variable: str, default: str) -> str:
    """Return the URL of a metadata service, which an environment variable may override."""
    url = os.environ.get(variable, default).rstrip("/")
    return url if "://" in url else f"http://{url}"


def _unix_s(text: str, pattern: str) -> float:
    return datetime.strptime(text, pattern).replace(tzinfo=UTC).timestamp()


def _get(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - the scheme is http
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - likewise
        return str(response.read().decode())
