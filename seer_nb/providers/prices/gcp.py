"""Google's present prices from the Cloud Billing Catalog, which lists cores, memory and GPUs separately.

A machine's price is the sum of its parts in its region. Machines whose parts are ambiguous keep their known price:
a2-ultragpu and a3 have local disks that are billed separately, and shared cores are billed in part.
"""

from __future__ import annotations

import importlib
import os
import re
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec.structs import replace

from seer_nb.errors import SeerError
from seer_nb.providers.prices import refresh as price_refresh
from seer_nb.providers.prices import tables
from seer_nb.providers.prices.price import Price, to_micro

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


URL = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
"""URL of the catalog of Compute Engine."""
_QUERY = {"currencyCode": "USD", "pageSize": "5000"}
"""Query of the first page, of the largest size allowed."""
_NANO = Decimal(10) ** -9
_DESCRIPTION = re.compile(
    r"(?P<before>(?:Spot )?Preemptible )?(?P<part>.+?)(?P<after> attached to (?:Spot )?Preemptible VMs)? running in .+"
)
"""Description of a part that is rented by the hour; special parts (custom, reserved, sole-tenant) have more words."""
KEYS = ("GOOGLE_CLOUD_API_KEY", "GOOGLE_API_KEY")
"""Environment variables that may hold an API key."""
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""The OAuth scope of ``gcloud auth application-default login``; narrower scopes are refused."""
ADVICE = (
    "known prices are kept; check that the Cloud Billing API is enabled in the project of your credentials, "
    "and that they may use it"
)
_SERIES = {
    "a2": "A2 Instance",
    "e2": "E2 Instance",
    "g2": "G2 Instance",
    "n1": "N1 Predefined Instance",
    "n2": "N2 Instance",
    "n2d": "N2D AMD Instance",
    "t2d": "T2D AMD Instance",
}
_SHAPES = {"standard", "highmem", "highcpu", "highgpu", "megagpu"}
"""Shapes that consist of cores, memory and GPUs only."""
_GPUS = {"A100": "Nvidia Tesla A100 GPU", "L4": "Nvidia L4 GPU"}
_UNITS = {
    **{f"{name} Core": "h" for name in _SERIES.values()},
    **{f"{name} Ram": "GiBy.h" for name in _SERIES.values()},
    **dict.fromkeys(_GPUS.values(), "h"),
}
"""Billing unit of each part."""


def refresh(
    regions: Iterable[str],
    instance_types: Iterable[str],
    *,
    url: str = URL,
    timeout_s: float = price_refresh.TIMEOUT_S,
) -> price_refresh.Refreshed:
    """Fetch prices from Google and write them to the user's prices.csv; rows that the user wrote stay unchanged.

    Args:
        regions: Such as "us-central1".
        instance_types: Such as "g2-standard-4"; their sizes must be known. Types that a region does not have are left
            out.
        url: URL of the catalog.
        timeout_s: Seconds without a response after which to fail.

    Raises:
        SeerError: There are no credentials, Google did not answer or refused, or none of the machines has a price.
        ValueError: The size of a type is unknown, or prices.csv is invalid.
    """

    def fetch(places: list[str], types: list[str]) -> price_refresh.Found:
        sizes = price_refresh.sizes("gcp", types)
        api = price_refresh.Api(price_refresh.CLOUDS["gcp"], url, ADVICE, headers(url), timeout_s)
        found = rates(api, set(places), _UNITS)
        return _sum_parts(found, [replace(size, region=region) for region in places for size in sizes.values()])

    return price_refresh.refresh("gcp", regions, instance_types, fetch)


# --- credentials ---


def headers(url: str) -> dict[str, str]:
    """Return the credentials of a request to a URL, as HTTP headers.

    Raises:
        SeerError: There is neither an API key nor a valid login.
    """
    key = next((key for name in KEYS if (key := os.environ.get(name))), None)
    # Not in the URL, which logs would record.
    return {"X-Goog-Api-Key": key} if key else _login_headers(url)


def _login_headers(url: str) -> dict[str, str]:
    try:
        auth = importlib.import_module("google.auth")
        errors = importlib.import_module("google.auth.exceptions")
        transport = importlib.import_module("google.auth.transport.requests")
    except ImportError:
        raise SeerError(
            f"GCP prices need an API key in {KEYS[0]}, or the package google-auth and a login: "
            'pip install "seer_nb[gcp]"'
        ) from None
    found: dict[str, str] = {}
    try:
        credentials, _ = auth.default(scopes=[SCOPE])
        credentials.before_request(transport.Request(), "GET", url, found)
    except errors.GoogleAuthError as error:
        raise SeerError(
            f"GCP prices need an API key in {KEYS[0]}, or a login (gcloud auth application-default login): "
            f"{' '.join(str(error).split())}"
        ) from error
    return found


# --- the catalog ---


class Part(NamedTuple):
    """A part of a machine in one region, on demand or spot."""

    region: str
    name: str
    """Start of its description in the catalog, such as "N2 Instance Core"."""
    spot: bool


Rates = dict[Part, set[Decimal]]
"""Dollars per hour of one core, GiB or GPU. Several values mean that the price is ambiguous."""


class _Money(msgspec.Struct, frozen=True, rename="camel"):
    currency_code: str = ""
    units: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+$")] = "0"
    nanos: int = 0


class _Rate(msgspec.Struct, frozen=True, rename="camel"):
    unit_price: _Money


class _Expression(msgspec.Struct, frozen=True, rename="camel"):
    usage_unit: str = ""
    tiered_rates: tuple[_Rate, ...] = ()


class _Pricing(msgspec.Struct, frozen=True, rename="camel"):
    pricing_expression: _Expression


class _Category(msgspec.Struct, frozen=True, rename="camel"):
    resource_family: str
    usage_type: str


class _Sku(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of a catalog entry that are used."""

    description: str
    category: _Category
    service_regions: tuple[str, ...] = ()
    pricing_info: tuple[_Pricing, ...] = ()


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    skus: tuple[_Sku, ...] = ()
    """Entries; Google leaves out empty fields."""
    next_page_token: str = ""


def rates(api: price_refresh.Api, regions: set[str], units: Mapping[str, str]) -> Rates:
    """Return the rates of parts in regions.

    Args:
        api: The catalog.
        regions: Such as "us-central1".
        units: Billing unit of each part by its name: "h" or "GiBy.h".

    Raises:
        SeerError: Google did not answer, or refused.
    """
    found: Rates = defaultdict(set)
    for page in price_refresh.pages(api, _QUERY, _Page, _following):
        for sku in page.skus:
            name, spot = _parse_part(sku)
            dollars = _dollars(sku, units[name]) if name in units else None
            if dollars:
                for region in regions.intersection(sku.service_regions):
                    found[Part(region, name, spot)].add(dollars)
    return found


def _following(page: _Page) -> dict[str, str] | None:
    return {**_QUERY, "pageToken": page.next_page_token} if page.next_page_token else None


def _parse_part(sku: _Sku) -> tuple[str, bool]:
    """Return a part's name and whether it is for spot machines; ("", False) if it is not rented by the hour."""
    match = _DESCRIPTION.fullmatch(sku.description)
    if match is None or sku.category.resource_family != "Compute":
        return "", False
    spot = bool(match["before"] or match["after"])
    # Reservations and machines with an agreed duration can have the same description.
    return (match["part"], spot) if sku.category.usage_type == ("Preemptible" if spot else "OnDemand") else ("", False)


def _dollars(sku: _Sku, unit: str) -> Decimal | None:
    """Return dollars per unit; None if the entry has another unit or currency."""
    if not sku.pricing_info:
        return None
    # The entries are in order of time.
    latest = sku.pricing_info[-1].pricing_expression
    money = [rate.unit_price for rate in latest.tiered_rates]
    if latest.usage_unit != unit or any(one.currency_code != "USD" for one in money):
        return None
    return max((int(one.units) + one.nanos * _NANO for one in money), default=None)


# --- machines ---


def _sum_parts(rates: Rates, machines: list[Price]) -> price_refresh.Found:
    source = price_refresh.source("gcp")
    known = tables.all_prices()
    prices = []
    kept = set()
    for machine in machines:
        parts = _parts(machine)
        price_micro = _sum_micro(rates, machine.region, parts, spot=False)
        if price_micro is not None:
            spot_micro = _sum_micro(rates, machine.region, parts, spot=True)
            prices.append(replace(machine, per_hour_micro=price_micro, spot_per_hour_micro=spot_micro, source=source))
        elif machine.key in known:
            kept.add(f"{'-'.join(_split_type(machine))} in {machine.region}")
    return price_refresh.Found(prices, _describe_kept(kept))


def _describe_kept(kinds: set[str]) -> str:
    if not kinds:
        return ""
    return f"known prices are kept where GCP's catalog is ambiguous: {', '.join(sorted(kinds))}"


def _split_type(machine: Price) -> tuple[str, str]:
    """Return series and shape: ("g2", "standard") of g2-standard-4."""
    series, _, rest = machine.instance_type.partition("-")
    return series, rest.partition("-")[0]


def _parts(machine: Price) -> dict[str, Decimal]:
    """Return the amount of each part of a machine; empty if its parts are ambiguous."""
    series, shape = _split_type(machine)
    if series not in _SERIES or shape not in _SHAPES or (machine.gpus and machine.gpu_model not in _GPUS):
        return {}
    name = _SERIES[series]
    parts = {f"{name} Core": Decimal(machine.vcpus), f"{name} Ram": Decimal(str(machine.memory_gib))}
    return parts | ({_GPUS[machine.gpu_model]: Decimal(machine.gpus)} if machine.gpus else {})


def _sum_micro(rates: Rates, region: str, parts: Mapping[str, Decimal], *, spot: bool) -> int | None:
    """Return micro-dollars per hour; None unless each part has exactly one rate."""
    found = [(rates.get(Part(region, name, spot), set()), amount) for name, amount in parts.items()]
    if not found or any(len(usd) != 1 for usd, _ in found):
        return None
    return to_micro(sum((min(usd) * amount for usd, amount in found), Decimal(0)))
