"""AWS as it is configured here: region, clients, and what spot machines cost now."""

from __future__ import annotations

import logging
import os
from typing import Any

from seer_nb.core.money import MICRO
from seer_nb.errors import SeerError

logger = logging.getLogger(__name__)


def ec2_client(region: str) -> Any:
    """An asynchronous client, to be entered as a context.

    Raises:
        SeerError: dask-cloudprovider is not installed.
    """
    try:
        from aiobotocore.session import get_session
    except ImportError:
        raise SeerError('EC2 needs dask-cloudprovider: pip install "seer_nb[aws]"') from None
    from botocore.config import Config

    retries = Config(retries={"max_attempts": 8, "mode": "standard"}, connect_timeout=5, read_timeout=20)
    return get_session().create_client("ec2", region_name=region, config=retries)


def region_or_default(region: str | None) -> str:
    """The region given, else the one that boto is configured with.

    Raises:
        ValueError: There is none.
    """
    found = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if found:
        return found
    try:
        from botocore.session import get_session

        found = get_session().get_config_variable("region")
    except ImportError:
        found = None
    if not found:
        raise ValueError('region=None, and boto has none configured: give one, such as "us-east-1"')
    return str(found)


def spot_price(region: str, kind: str) -> int | None:
    """Micro-dollars an hour now, as AWS tells; None if it does not."""
    try:
        from botocore.session import get_session

        client = get_session().create_client("ec2", region_name=region)
        answer = client.describe_spot_price_history(
            InstanceTypes=[kind], ProductDescriptions=["Linux/UNIX"], MaxResults=20
        )
        prices = [float(entry["SpotPrice"]) for entry in answer["SpotPriceHistory"]]
    except Exception:  # noqa: BLE001 - without credentials, network or the package it is estimated
        logger.info("no spot price of %s in %s is known", kind, region)
        return None
    return round(max(prices) * MICRO) if prices else None
