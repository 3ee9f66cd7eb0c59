"""What a client needs in its environment to find the cloud, and nothing of a real account."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REGION = "us-east-1"
KEY = f"LOOPBACK{secrets.token_hex(8).upper()}"
"""The access key. One for all clouds of the process, since boto3 and others keep the first that they find.

That it is none of AWS's is a second lock: a request gone astray would be refused there."""
_MISLEADING = (
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
)
"""With these a client would go elsewhere, or as somebody else."""
_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def client_environment() -> dict[str, str]:
    """What to set for clients, but for the API's address."""
    found = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": "loopback",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # The client is no machine of EC2's, even if this computer is one.
        "AWS_EC2_METADATA_DISABLED": "true",
        # The user's own settings, for example of retries, are for the real cloud.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    if any(name in os.environ for name in _PROXIES):
        direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"]))
        found |= {"NO_PROXY": direct, "no_proxy": direct}
    return found


def machine_environment(client: Mapping[str, str], metadata: str) -> dict[str, str]:
    """The same for machines: the keys, as an instance profile would give them, and the metadata service's address."""
    kept = {name: value for name, value in client.items() if name != "AWS_EC2_METADATA_DISABLED"}
    return {**kept, "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata}


@contextmanager
def in_effect(environment: Mapping[str, str]) -> Iterator[None]:
    """Set them in this process, and put back at the end what was there."""
    changed = {*environment, *_MISLEADING}
    before = {name: os.environ[name] for name in changed if name in os.environ}
    for name in _MISLEADING:
        os.environ.pop(name, None)
    os.environ.update(environment)
    _forget_connections()
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
        os.environ.update(before)
        _forget_connections()


def _forget_connections() -> None:
    """s3fs gives the same file system to all who ask, with the connection it first made."""
    s3fs: Any = sys.modules.get("s3fs")
    if s3fs is not None:
        s3fs.S3FileSystem.clear_instance_cache()
