"""Google's present prices, from the Cloud Billing Catalog, which sells cores, memory and GPUs apart.

A machine's price is put together from its parts in its region. Machines whose parts are not plain keep the price that
is known: a2-ultragpu and a3 have local disks that are billed beside, and of shared cores only a part is.
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
from seer_nb.providers.prices.price import Price, micro

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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


URL = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
"""The service is Compute Engine."""
_QUERY = {"currencyCode": "USD", "pageSize": "5000"}
"""As large as a page may be."""
_NANO = Decimal(10) ** -9
_DESCRIPTION = re.compile(
    r"(?P<before>(?:Spot )?Preemptible )?(?P<part>.+?)(?P<behind> attached to (?:Spot )?Preemptible VMs)? running in .+"
)
"""Custom, reserved, sole-tenant and other special parts have further words within their names."""


class Part(NamedTuple):
    """A part of a machine, where and how it is rented."""

    region: str
    name: str
    """As the catalog's descriptions begin, such as "N2 Instance Core"."""
    spot: bool


Rates = dict[Part, set[Decimal]]
"""Dollars an hour of one core, GiB or GPU. More than one: it is not clear which holds."""


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
    """Something that is sold, as far as it is of interest."""

    description: str
    category: _Category
    service_regions: tuple[str, ...] = ()
    pricing_info: tuple[_Pricing, ...] = ()


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    skus: tuple[_Sku, ...] = ()
    """Google leaves out what is empty."""
    next_page_token: str = ""


def rates(api: price_refresh.Api, regions: set[str], units: Mapping[str, str]) -> Rates:
    """What the parts cost in the regions.

    Args:
        api: The catalog.
        regions: Such as "us-central1".
        units: What each part is billed by, by its name: "h", or "GiBy.h".

    Raises:
        SeerError: Google did not answer, or refused.
    """
    found: Rates = defaultdict(set)
    for page in price_refresh.pages(api, _QUERY, _Page, _following):
        for sku in page.skus:
            name, spot = _part(sku)
            dollars = _dollars(sku, units[name]) if name in units else None
            if dollars:
                for region in regions.intersection(sku.service_regions):
                    found[Part(region, name, spot)].add(dollars)
    return found


def _following(page: _Page) -> dict[str, str] | None:
    return {**_QUERY, "pageToken": page.next_page_token} if page.next_page_token else None


def _part(sku: _Sku) -> tuple[str, bool]:
    """Its name and whether it is for spot machines; ("", False) if it is no part that is rented by the hour."""
    match = _DESCRIPTION.fullmatch(sku.description)
    if match is None or sku.category.resource_family != "Compute":
        return "", False
    spot = bool(match["before"] or match["behind"])
    # Reservations, and machines that run for a time that was agreed on, can have the same description.
    return (match["part"], spot) if sku.category.usage_type == ("Preemptible" if spot else "OnDemand") else ("", False)


def _dollars(sku: _Sku, unit: str) -> Decimal | None:
    """For one of the unit; None if it is not sold by that, or not for dollars."""
    if not sku.pricing_info:
        return None
    # They are in order of time.
    latest = sku.pricing_info[-1].pricing_expression
    money = [rate.unit_price for rate in latest.tiered_rates]
    if latest.usage_unit != unit or any(one.currency_code != "USD" for one in money):
        return None
    return max((int(one.units) + one.nanos * _NANO for one in money), default=None)


ADVICE = (
    "the prices known so far are kept; check that the Cloud Billing API is enabled in the project of your credentials, "
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
"""Those that are nothing but cores, memory and GPUs."""
_GPUS = {"A100": "Nvidia Tesla A100 GPU", "L4": "Nvidia L4 GPU"}
_UNITS = {
    **{f"{name} Core": "h" for name in _SERIES.values()},
    **{f"{name} Ram": "GiBy.h" for name in _SERIES.values()},
    **dict.fromkeys(_GPUS.values(), "h"),
}
"""What each part is billed by."""


def refresh(
    regions: Iterable[str],
    instance_types: Iterable[str],
    *,
    url: str = URL,
    timeout_s: float = price_refresh.TIMEOUT_S,
) -> price_refresh.Refreshed:
    """Ask Google for prices and write them to the user's prices.csv; rows that the user wrote stay as they are.

    Args:
        regions: Such as "us-central1".
        instance_types: Such as "g2-standard-4"; their sizes must be known. Those that a region does not have are left
            out.
        url: Of the catalog.
        timeout_s: Without an answer.

    Raises:
        SeerError: There are no credentials, Google did not answer or refused, or none of the machines has a price.
        ValueError: For a type whose size is not known, and for a prices.csv that cannot be understood.
    """

    def ask(places: list[str], types: list[str]) -> price_refresh.Found:
        sizes = price_refresh.sizes("gcp", types)
        api = price_refresh.Api(price_refresh.CLOUDS["gcp"], url, ADVICE, headers(url), timeout_s)
        found = rates(api, set(places), _UNITS)
        return _composed(found, [replace(size, region=region) for region in places for size in sizes.values()])

    return price_refresh.refresh("gcp", regions, instance_types, ask)


def _composed(rates: Rates, machines: list[Price]) -> price_refresh.Found:
    source = price_refresh.source("gcp")
    known = tables.known()
    prices = []
    kept = set()
    for machine in machines:
        parts = _parts(machine)
        per_hour = _sum(rates, machine.region, parts, spot=False)
        if per_hour is not None:
            spot = _sum(rates, machine.region, parts, spot=True)
            prices.append(replace(machine, per_hour=per_hour, spot_per_hour=spot, source=source))
        elif machine.key in known:
            kept.add(f"{'-'.join(_kind(machine))} in {machine.region}")
    return price_refresh.Found(prices, _kept(kept))


def _kept(kinds: set[str]) -> str:
    if not kinds:
        return ""
    return (
        f"GCP's catalog does not tell plainly what these cost, so their known prices stay: {', '.join(sorted(kinds))}"
    )


def _kind(machine: Price) -> tuple[str, str]:
    """Series and shape: ("g2", "standard") of g2-standard-4."""
    series, _, rest = machine.instance_type.partition("-")
    return series, rest.partition("-")[0]


def _parts(machine: Price) -> dict[str, Decimal]:
    """How much of what it is made of; empty if that is not plain."""
    series, shape = _kind(machine)
    if series not in _SERIES or shape not in _SHAPES or (machine.gpus and machine.gpu_model not in _GPUS):
        return {}
    name = _SERIES[series]
    parts = {f"{name} Core": Decimal(machine.vcpus), f"{name} Ram": Decimal(str(machine.memory_gib))}
    return parts | ({_GPUS[machine.gpu_model]: Decimal(machine.gpus)} if machine.gpus else {})


def _sum(rates: Rates, region: str, parts: Mapping[str, Decimal], *, spot: bool) -> int | None:
    """Micro-dollars an hour; None unless each part has one price."""
    found = [(rates.get(Part(region, name, spot), set()), much) for name, much in parts.items()]
    if not found or any(len(told) != 1 for told, _ in found):
        return None
    return micro(sum((min(told) * much for told, much in found), Decimal(0)))
