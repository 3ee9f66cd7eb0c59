"""Reading the Cloud Billing Catalog: what a part of a machine costs in a region.

https://cloud.google.com/billing/v1/how-tos/catalog-api
"""

from __future__ import annotations

import re
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from seer_nb.prices import web

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def rates(api: web.Api, regions: set[str], units: Mapping[str, str]) -> Rates:
    """What the parts cost in the regions.

    Args:
        api: The catalog.
        regions: Such as "us-central1".
        units: What each part is billed by, by its name: "h", or "GiBy.h".

    Raises:
        SeerError: Google did not answer, or refused.
    """
    found: Rates = defaultdict(set)
    for page in web.pages(api, _QUERY, _Page, _following):
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
