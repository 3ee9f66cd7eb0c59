"""AWS' present prices, from its own APIs: on demand by GetProducts, spot machines by DescribeSpotPriceHistory.

botocore comes with ``seer_nb[aws]`` and finds credentials as all of AWS' tools do. Its client, and not boto3's, is used
because Dask's cloud provider pins botocore and does not bring boto3.
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
from seer_nb.providers.prices.price import Price, micro

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


PRICING_REGION = "us-east-1"
"""One of the few that answer for all regions."""
_SHARED_LINUX = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}
"""What tells a plain Linux machine from the many other products of one instance type."""
_GPUS = {"g4dn": "T4", "g5": "A10G", "g6": "L4", "g6e": "L40S", "p3": "V100", "p4d": "A100", "p4de": "A100-80GB"}
_GPUS |= {"p5": "H100", "p5e": "H200", "p5en": "H200", "p6-b200": "B200"}
"""By family: the API tells how many there are, but not which."""


def refresh(regions: Iterable[str], instance_types: Iterable[str]) -> price_refresh.Refreshed:
    """Ask AWS for prices and write them to the user's prices.csv; rows that the user wrote stay as they are.

    Args:
        regions: Such as "us-east-1".
        instance_types: Such as "g4dn.xlarge". Those that a region does not have are left out.

    Raises:
        SeerError: botocore is missing, AWS did not answer or refused, or none of the machines has a price.
        ValueError: For a prices.csv that cannot be understood.
    """

    def ask(places: list[str], types: list[str]) -> price_refresh.Found:
        return price_refresh.Found([price for region in places for price in _with_spot(region, types)])

    return price_refresh.refresh("aws", regions, instance_types, ask)


def on_demand(region: str, instance_types: Iterable[str]) -> list[Price]:
    """On-demand prices of plain Linux machines; what the region does not have is left out.

    Raises:
        SeerError: botocore is missing, or AWS did not answer or refused.
    """
    source = price_refresh.source("aws")
    with _client("pricing", PRICING_REGION, "pricing:GetProducts") as client:
        products = client.get_paginator("get_products")
        prices = (_on_demand(products, region, instance_type, source) for instance_type in instance_types)
        return [price for price in prices if price is not None]


def spot(region: str, instance_types: Iterable[str]) -> dict[str, dict[str, int]]:
    """The present prices of Linux spot machines.

    Returns:
        Micro-dollars an hour, by instance type and availability zone.

    Raises:
        SeerError: botocore is missing, or AWS did not answer or refused.
    """
    newest: dict[tuple[str, str], tuple[datetime, int]] = {}
    with _client("ec2", region, "ec2:DescribeSpotPriceHistory") as client:
        pages = client.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=list(instance_types),
            ProductDescriptions=["Linux/UNIX"],
            # A history that begins now is one entry a zone: the price that holds.
            StartTime=datetime.now(UTC),
        )
        for entry in (entry for page in pages for entry in page["SpotPriceHistory"]):
            key = entry["InstanceType"], entry["AvailabilityZone"]
            # Local zones, such as us-east-1-bos-1a, have prices of their own; nothing is rented there.
            if len(key[1]) == len(region) + 1:
                told = entry["Timestamp"], micro(Decimal(entry["SpotPrice"]))
                newest[key] = max(newest.get(key, told), told)
    prices: dict[str, dict[str, int]] = defaultdict(dict)
    for (instance_type, zone), (_, per_hour) in sorted(newest.items()):
        prices[instance_type][zone] = per_hour
    return dict(prices)


def _with_spot(region: str, types: list[str]) -> list[Price]:
    prices = on_demand(region, types)
    if not prices:
        return []
    # The dearest zone's, for it is AWS that picks the zone.
    dearest = {kind: max(zones.values()) for kind, zones in spot(region, [p.instance_type for p in prices]).items()}
    return [replace(price, spot_per_hour=dearest.get(price.instance_type)) for price in prices]


def _on_demand(products: Any, region: str, instance_type: str, source: str) -> Price | None:
    wanted = {"instanceType": instance_type, "regionCode": region, **_SHARED_LINUX}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    pages = products.paginate(ServiceCode="AmazonEC2", FormatVersion="aws_v1", Filters=filters)
    told = [json.loads(text) for page in pages for text in page["PriceList"]]
    prices = [(per_hour, one["product"]["attributes"]) for one in told if (per_hour := _hourly(one["terms"]))]
    if not prices:
        return None
    # One product is the rule. Should there be more, the dearest keeps a budget's promise.
    per_hour, attributes = max(prices, key=lambda pair: pair[0])
    return Price(
        provider="aws",
        region=region,
        instance_type=instance_type,
        vcpus=int(attributes["vcpu"]),
        memory_gib=float(attributes["memory"].removesuffix("GiB").replace(",", "")),
        per_hour=per_hour,
        source=source,
        **_gpus(instance_type, attributes),
    )


def _hourly(terms: Mapping[str, Any]) -> int:
    """Micro-dollars an hour on demand; 0 if there is no such price, as for reserved capacity that is paid otherwise."""
    dimensions = [
        dimension
        for term in terms.get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
        if dimension["unit"] == "Hrs"
    ]
    return max((micro(Decimal(dimension["pricePerUnit"].get("USD", "0"))) for dimension in dimensions), default=0)


def _gpus(instance_type: str, attributes: Mapping[str, str]) -> dict[str, Any]:
    count = attributes.get("gpu", "")
    gpus = int(count) if count.isdigit() else 0
    return {"gpus": gpus, "gpu_model": _GPUS.get(instance_type.partition(".")[0], "") if gpus else ""}


@contextmanager
def _client(service: str, region: str, action: str) -> Iterator[Any]:
    """A client of AWS; what goes wrong with it ends in one sentence."""
    try:
        session = importlib.import_module("botocore.session")
        errors = importlib.import_module("botocore.exceptions")
    except ImportError:
        raise SeerError(
            'AWS\' prices need the package botocore, which is not installed: pip install "seer_nb[aws]" brings it'
        ) from None
    try:
        client = session.get_session().create_client(service, region_name=region)
        try:
            yield client
        finally:
            client.close()
    except (errors.BotoCoreError, errors.ClientError) as error:
        raise SeerError(
            f"AWS told no prices: {' '.join(str(error).split())}; check the region {region}, and that your credentials "
            f"allow {action} (seer-nb iam-policy ec2 prints all that is needed)"
        ) from error
