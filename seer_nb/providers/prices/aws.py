"""AWS's present prices from its APIs: on demand by GetProducts, spot machines by DescribeSpotPriceHistory.

The client is botocore's, because dask-cloudprovider depends on botocore and not on boto3.
"""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb.errors import SeerError
from seer_nb.providers.prices import refresh as price_refresh
from seer_nb.providers.prices.price import Price, to_micro

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


PRICING_REGION = "us-east-1"
"""A region whose price API answers for all regions."""
_SHARED_LINUX = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}
"""Attributes that distinguish a plain Linux machine from the other products of an instance type."""
_GPUS = {"g4dn": "T4", "g5": "A10G", "g6": "L4", "g6e": "L40S", "p3": "V100", "p4d": "A100", "p4de": "A100-80GB"}
_GPUS |= {"p5": "H100", "p5e": "H200", "p5en": "H200", "p6-b200": "B200"}
"""GPU model by family: the API returns the number of GPUs, but not the model."""


def refresh(regions: Iterable[str], instance_types: Iterable[str]) -> price_refresh.Refreshed:
    """Fetch prices from AWS and write them to the user's prices.csv; rows that the user wrote stay unchanged.

    Args:
        regions: Such as "us-east-1".
        instance_types: Such as "g4dn.xlarge". Types that a region does not have are left out.

    Raises:
        SeerError: botocore is missing, AWS did not answer or refused, or none of the machines has a price.
        ValueError: prices.csv is invalid.
    """

    def fetch(places: list[str], types: list[str]) -> price_refresh.Found:
        return price_refresh.Found([price for region in places for price in _with_spot(region, types)])

    return price_refresh.refresh("aws", regions, instance_types, fetch)


def on_demand(region: str, instance_types: Iterable[str]) -> list[Price]:
    """Return on-demand prices of plain Linux machines; types that the region does not have are left out.

    Raises:
        SeerError: botocore is missing, or AWS did not answer or refused.
    """
    source = price_refresh.source("aws")
    with _client("pricing", PRICING_REGION, "pricing:GetProducts") as client:
        products = client.get_paginator("get_products")
        prices = (_on_demand(products, region, instance_type, source) for instance_type in instance_types)
        return [price for price in prices if price is not None]


def spot(region: str, instance_types: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return the present prices of Linux spot machines.

    Returns:
        Micro-dollars per hour, by instance type and availability zone.

    Raises:
        SeerError: botocore is missing, or AWS did not answer or refused.
    """
    newest: dict[tuple[str, str], tuple[datetime, int]] = {}
    with _client("ec2", region, "ec2:DescribeSpotPriceHistory") as client:
        pages = client.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=list(instance_types),
            ProductDescriptions=["Linux/UNIX"],
            # A history that starts now has one entry per zone: the present price.
            StartTime=datetime.now(UTC),
        )
        for entry in (entry for page in pages for entry in page["SpotPriceHistory"]):
            key = entry["InstanceType"], entry["AvailabilityZone"]
            # Local zones such as us-east-1-bos-1a have their own prices; nothing is rented there.
            if len(key[1]) == len(region) + 1:
                dated = entry["Timestamp"], to_micro(Decimal(entry["SpotPrice"]))
                newest[key] = max(newest.get(key, dated), dated)
    prices: dict[str, dict[str, int]] = defaultdict(dict)
    for (instance_type, zone), (_, price_micro) in sorted(newest.items()):
        prices[instance_type][zone] = price_micro
    return dict(prices)


def _with_spot(region: str, types: list[str]) -> list[Price]:
    prices = on_demand(region, types)
    if not prices:
        return []
    # The price of the most expensive zone, because AWS chooses the zone.
    highest = {kind: max(zones.values()) for kind, zones in spot(region, [p.instance_type for p in prices]).items()}
    return [replace(price, spot_per_hour_micro=highest.get(price.instance_type)) for price in prices]


def _on_demand(products: Any, region: str, instance_type: str, source: str) -> Price | None:
    wanted = {"instanceType": instance_type, "regionCode": region, **_SHARED_LINUX}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    pages = products.paginate(ServiceCode="AmazonEC2", FormatVersion="aws_v1", Filters=filters)
    found = [json.loads(text) for page in pages for text in page["PriceList"]]
    prices = [(micro, one["product"]["attributes"]) for one in found if (micro := _hourly_micro(one["terms"]))]
    if not prices:
        return None
    # Usually there is one product. Of several the most expensive one counts, so a budget is never exceeded.
    price_micro, attributes = max(prices, key=lambda pair: pair[0])
    return Price(
        provider="aws",
        region=region,
        instance_type=instance_type,
        vcpus=int(attributes["vcpu"]),
        memory_gib=float(attributes["memory"].removesuffix("GiB").replace(",", "")),
        per_hour_micro=price_micro,
        source=source,
        **_gpus(instance_type, attributes),
    )


def _hourly_micro(terms: Mapping[str, Any]) -> int:
    """Return micro-dollars per hour on demand; 0 if there is no such price, as for reserved capacity."""
    dimensions = [
        dimension
        for term in terms.get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
        if dimension["unit"] == "Hrs"
    ]
    return max((to_micro(Decimal(dimension["pricePerUnit"].get("USD", "0"))) for dimension in dimensions), default=0)


def _gpus(instance_type: str, attributes: Mapping[str, str]) -> dict[str, Any]:
    count = attributes.get("gpu", "")
    gpus = int(count) if count.isdigit() else 0
    return {"gpus": gpus, "gpu_model": _GPUS.get(instance_type.partition(".")[0], "") if gpus else ""}


@contextmanager
def _client(service: str, region: str, action: str) -> Iterator[Any]:
    """Yield a client of an AWS service; its errors become one SeerError.

    Args:
        service: Name of the service.
        region: AWS region.
        action: IAM action that the request needs.
    """
    try:
        session = importlib.import_module("botocore.session")
        errors = importlib.import_module("botocore.exceptions")
    except ImportError:
        raise SeerError(
            'AWS prices need the package botocore, which is not installed: pip install "seer_nb[aws]"'
        ) from None
    try:
        client = session.get_session().create_client(service, region_name=region)
        try:
            yield client
        finally:
            client.close()
    except (errors.BotoCoreError, errors.ClientError) as error:
        raise SeerError(
            f"AWS returned no prices: {' '.join(str(error).split())}; check the region {region}, and that your "
            f"credentials allow {action} (seer-nb iam-policy ec2 prints all permissions)"
        ) from error
