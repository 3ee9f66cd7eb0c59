"""Credentials for Google's price catalog: an API key, or those that Google's own package finds."""

from __future__ import annotations

import importlib
import os

from seer_nb.errors import SeerError

KEYS = ("GOOGLE_CLOUD_API_KEY", "GOOGLE_API_KEY")
"""Where an API key may lie."""
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""The one that ``gcloud auth application-default login`` gives; narrower ones would be refused."""


def headers(url: str) -> dict[str, str]:
    """What a request to that address must carry.

    Raises:
        SeerError: There is neither a key nor a login that holds.
    """
    key = next((key for name in KEYS if (key := os.environ.get(name))), None)
    # Not in the address, where logs would keep it.
    return {"X-Goog-Api-Key": key} if key else _login(url)


def _login(url: str) -> dict[str, str]:
    try:
        auth = importlib.import_module("google.auth")
        errors = importlib.import_module("google.auth.exceptions")
        transport = importlib.import_module("google.auth.transport.requests")
    except ImportError:
        raise SeerError(
            f"GCP's prices need an API key in {KEYS[0]}, or the package google-auth and a login: "
            'pip install "seer_nb[gcp]" brings it'
        ) from None
    found: dict[str, str] = {}
    try:
        credentials, _ = auth.default(scopes=[SCOPE])
        credentials.before_request(transport.Request(), "GET", url, found)
    except errors.GoogleAuthError as error:
        raise SeerError(
            f"GCP's prices need an API key in {KEYS[0]}, or a login (gcloud auth application-default login): "
            f"{' '.join(str(error).split())}"
        ) from error
    return found
