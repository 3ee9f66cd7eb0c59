"""Azure's present prices, from its Retail Prices API, which asks for no credentials.

https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices. One machine type has many rows:
Windows, spot and low priority, reservations, dev/test offers, prices that are past or still to come, and the old Cloud
Services under the same names.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec.structs import replace

from seer_nb.providers.prices import refresh as price_refresh
from seer_nb.providers.prices.price import Price, micro

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


URL = "https://prices.azure.com/api/retail/prices"
ADVICE = "the prices known so far are kept; it needs no credentials, but the way to prices.azure.com must be open"
_AT_ONCE = 10
"""Machine types that one query names, so that its address stays short."""
_OTHER_PRODUCTS = ("windows", "cloudservices", "dedicatedhost")
"""In a product's name without its spaces, for it is written with and without them."""
_LOW_PRIORITY, _SPOT = " Low Priority", " Spot"


class _Row(msgspec.Struct, frozen=True, rename="camel"):
    """A price, as far as it is of interest."""

    currency_code: str
    retail_price: Decimal
    arm_region_name: str
    arm_sku_name: str
    product_name: str
    sku_name: str
    meter_name: str
    unit_of_measure: str
    type: str
    effective_start_date: datetime
    effective_end_date: datetime | None = None


class _Page(msgspec.Struct, frozen=True, rename="pascal"):
    items: list[_Row]
    next_page_link: str | None = None


def refresh(
    regions: Iterable[str], instance_types: Iterable[str], *, url: str = URL, timeout_s: float = price_refresh.TIMEOUT_S
) -> price_refresh.Refreshed:
    """Ask Azure for prices and write them to the user's prices.csv; rows that the user wrote stay as they are.

    Args:
        regions: Such as "eastus".
        instance_types: Such as "Standard_D4s_v5"; their sizes must be known. Those that a region does not have are
            left out.
        url: Of the API.
        timeout_s: Without an answer.

    Raises:
        SeerError: Azure did not answer or refused, or none of the machines has a price.
        ValueError: For a type whose size is not known, and for a prices.csv that cannot be understood.
    """
    api = price_refresh.Api(price_refresh.CLOUDS["azure"], url, ADVICE, {}, timeout_s)

    def ask(places: list[str], types: list[str]) -> price_refresh.Found:
        sizes = price_refresh.sizes("azure", types)
        now = datetime.now(UTC)
        return price_refresh.Found([price for region in places for price in _prices(api, region, sizes, now)])

    return price_refresh.refresh("azure", regions, instance_types, ask)


def _prices(api: price_refresh.Api, region: str, sizes: Mapping[str, Price], now: datetime) -> list[Price]:
    rows = [row for row in _rows(api, region, list(sizes)) if _is_linux(row) and _holds(row, now)]
    on_demand = _dearest(row for row in rows if not _is(_SPOT, row))
    spot = _dearest(row for row in rows if _is(_SPOT, row))
    source = price_refresh.source("azure")
    return [
        replace(sizes[name], region=region, per_hour=on_demand[name], spot_per_hour=spot.get(name), source=source)
        for name in sizes
        if name in on_demand
    ]


def _rows(api: price_refresh.Api, region: str, names: list[str]) -> Iterator[_Row]:
    for at in range(0, len(names), _AT_ONCE):
        some = names[at : at + _AT_ONCE]
        wanted = " or ".join(f"armSkuName eq {_quoted(name)}" for name in some)
        place = f"serviceName eq 'Virtual Machines' and armRegionName eq {_quoted(region)}"
        query = {"currencyCode": "USD", "$filter": f"{place} and priceType eq 'Consumption' and ({wanted})"}
        for page in price_refresh.pages(api, query, _Page, _following):
            # Asked for, yet a filter that is not heeded must not lead to a wrong price.
            yield from (row for row in page.items if row.arm_region_name == region and row.arm_sku_name in some)


def _following(page: _Page) -> dict[str, str] | None:
    # The link's query is enough, and so nobody can send us elsewhere.
    return dict(parse_qsl(urlsplit(page.next_page_link).query)) if page.next_page_link else None


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _is_linux(row: _Row) -> bool:
    """Whether it is an hour of a plain Linux machine, on demand or spot."""
    product = row.product_name.replace(" ", "").lower()
    return (
        (row.type, row.unit_of_measure, row.currency_code) == ("Consumption", "1 Hour", "USD")
        and row.retail_price > 0
        and not any(other in product for other in _OTHER_PRODUCTS)
        and not _is(_LOW_PRIORITY, row)
    )


def _is(suffix: str, row: _Row) -> bool:
    return row.sku_name.endswith(suffix) or row.meter_name.endswith(suffix)


def _holds(row: _Row, now: datetime) -> bool:
    """Past prices are told too, and coming ones."""
    end = row.effective_end_date
    return _utc(row.effective_start_date) <= now and (end is None or now < _utc(end))


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _dearest(rows: Iterable[_Row]) -> dict[str, int]:
    """Micro-dollars by type. One row is the rule; should there be more, the dearest keeps a budget's promise."""
    prices: dict[str, int] = {}
    for row in rows:
        prices[row.arm_sku_name] = max(prices.get(row.arm_sku_name, 0), micro(row.retail_price))
    return prices
