"""A client of AWS for the doctor."""

from __future__ import annotations

from typing import Any


def client(session: Any, service: str, region: str) -> Any:
    """One that gives up soon."""
    from botocore.config import Config

    config = Config(connect_timeout=4, read_timeout=8, retries={"total_max_attempts": 2, "mode": "standard"})
    return session.create_client(service, region_name=region, config=config)
