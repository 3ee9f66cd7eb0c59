"""Azure's present prices from its Retail Prices API, which needs no credentials.

Source: https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices.

One machine type has many rows: Windows, spot and low priority, reservations, dev/test offers, past and future prices,
and the old Cloud Services under the same names.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec.structs import replace

from seer_nb.providers.prices import refresh as price_refresh
from seer_nb.providers.prices.price import Price, to_micro

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


URL = "https://prices.azure.com/api/retail/prices"
ADVICE = "known prices are kept; no credentials are needed, but prices.azure.com must be reachable"
_TYPES_PER_QUERY = 10
"""Machine types in one query; it limits the length of the URL."""
_OTHER_PRODUCTS = ("windows", "cloudservices", "dedicatedhost")
"""Words in the names of other products, without spaces, because Azure writes them with and without."""
_LOW_PRIORITY, _SPOT = " Low Priority", " Spot"


class _Row(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of a price that are used."""

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
    """Fetch prices from Azure and write them to the user's prices.csv; rows that the user wrote stay unchanged.

    Args:
        regions: Such as "eastus".
        instance_types: Such as "Standard_D4s_v5"; their sizes must be known. Types that a region does not have are
            left out.
        url: URL of the API.
        timeout_s: Seconds without a response after which to fail.

    Raises:
        SeerError: Azure did not answer or refused, or none of the machines has a price.
        ValueError: The size of a type is unknown, or prices.csv is invalid.
    """
    api = price_refresh.Api(price_refresh.CLOUDS["azure"], url, ADVICE, {}, timeout_s)

    def fetch(places: list[str], types: list[str]) -> price_refresh.Found:
        sizes = price_refresh.sizes("azure", types)
        now = datetime.now(UTC)
        return price_refresh.Found([price for region in places for price in _prices(api, region, sizes, now)])

    return price_refresh.refresh("azure", regions, instance_types, fetch)


def _prices(api: price_refresh.Api, region: str, sizes: Mapping[str, Price], now: datetime) -> list[Price]:
    rows = [row for row in _rows(api, region, list(sizes)) if _is_linux(row) and _is_valid_at(row, now)]
    on_demand = _highest_prices(row for row in rows if not _has_suffix(row, _SPOT))
    spot = _highest_prices(row for row in rows if _has_suffix(row, _SPOT))
    source = price_refresh.source("azure")
    return [
        replace(
            sizes[name],
            region=region,
            per_hour_micro=on_demand[name],
            spot_per_hour_micro=spot.get(name),
            source=source,
        )
        for name in sizes
        if name in on_demand
    ]


def _rows(api: price_refresh.Api, region: str, names: list[str]) -> Iterator[_Row]:
    for at in range(0, len(names), _TYPES_PER_QUERY):
        some = names[at : at + _TYPES_PER_QUERY]
        wanted = " or ".join(f"armSkuName eq {_quoted(name)}" for name in some)
        place = f"serviceName eq 'Virtual Machines' and armRegionName eq {_quoted(region)}"
        query = {"currencyCode": "USD", "$filter": f"{place} and priceType eq 'Consumption' and ({wanted})"}
        for page in price_refresh.pages(api, query, _Page, _following):
            # The query filters too, but an ignored filter must not lead to a wrong price.
            yield from (row for row in page.items if row.arm_region_name == region and row.arm_sku_name in some)


def _following(page: _Page) -> dict[str, str] | None:
    # Only the link's query is used, so the link cannot lead to another site.
    return dict(parse_qsl(urlsplit(page.next_page_link).query)) if page.next_page_link else None


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _is_linux(row: _Row) -> bool:
    """Return whether a row is the hourly price of a plain Linux machine, on demand or spot."""
    product = row.product_name.replace(" ", "").lower()
    return (
        (row.type, row.unit_of_measure, row.currency_code) == ("Consumption", "1 Hour", "USD")
        and row.retail_price > 0
        and not any(other in product for other in _OTHER_PRODUCTS)
        and not _has_suffix(row, _LOW_PRIORITY)
    )


def _has_suffix(row: _Row, suffix: str) -> bool:
    return row.sku_name.endswith(suffix) or row.meter_name.endswith(suffix)


def _is_valid_at(row: _Row, now: datetime) -> bool:
    """Return whether a price is valid now: the API also returns past and future prices."""
    end = row.effective_end_date
    return _utc(row.effective_start_date) <= now and (end is None or now < _utc(end))


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _highest_prices(rows: Iterable[_Row]) -> dict[str, int]:
    """Return micro-dollars per hour by type.

    Usually there is one row. Of several the most expensive one counts, so a budget is never exceeded.
    """
    prices: dict[str, int] = {}
    for row in rows:
        prices[row.arm_sku_name] = max(prices.get(row.arm_sku_name, 0), to_micro(row.retail_price))
    return prices
