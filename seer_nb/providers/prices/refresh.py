"""Shared parts of all price refreshes: HTTP requests, machine sizes, and the update of prices.csv."""

from __future__ import annotations

import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode

import msgspec

from seer_nb.errors import SeerError
from seer_nb.providers.prices import tables
from seer_nb.providers.prices.price import USER_SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from seer_nb.providers.prices.price import Price


CLOUDS = {"aws": "AWS", "azure": "Azure", "gcp": "GCP"}
"""Display names of the providers with a price API; each has a module of the provider's name in this package."""
TIMEOUT_S = 30.0
"""Seconds without a byte from the API."""
MAX_PAGES = 500
"""Ten times the pages that any API returns; more pages mean an endless response."""
_MAX_MESSAGE = 300
"""Letters of the API's message that an error shows."""
_Page = TypeVar("_Page")


class Found(NamedTuple):
    """Answer of a provider's price API."""

    prices: list[Price]
    kept: str = ""
    """A sentence that names the machines that keep their known price, and why; empty if there are none."""


class Refreshed(NamedTuple):
    """Result of a refresh."""

    path: Path
    """The user's prices.csv."""
    kept: str = ""
    """See `Found`."""


def refresh(
    provider: str,
    regions: Iterable[str],
    instance_types: Iterable[str],
    fetch: Callable[[list[str], list[str]], Found],
) -> Refreshed:
    """Fetch prices and write them to the user's prices.csv; rows that the user wrote stay unchanged.

    Args:
        provider: "aws", "azure" or "gcp".
        regions: As the provider calls them.
        instance_types: As the provider calls them. Types that a region does not have are left out.
        fetch: Returns the prices for regions and instance types, both sorted and without duplicates.

    Raises:
        SeerError: The API did not answer or refused, or none of the machines has a price. Nothing is written.
        ValueError: prices.csv is invalid.
    """
    before = tables.own_prices()
    places, types = sorted(set(regions)), sorted(set(instance_types))
    found = fetch(places, types)
    if not found.prices:
        none = f"{CLOUDS[provider]} has no on-demand price for {', '.join(types)} in {', '.join(places)}"
        raise SeerError(f"{none}: {found.kept}" if found.kept else none)
    own = {key: price for key, price in before.items() if price.source == USER_SOURCE}
    old = {key: price for key, price in before.items() if price.source != USER_SOURCE}
    new = {price.key: price for price in found.prices}
    return Refreshed(tables.write({**old, **new, **own}.values()), found.kept)


def sizes(provider: str, instance_types: list[str]) -> dict[str, Price]:
    """Return a known price of each type, for a price API that does not return the sizes of machines.

    Raises:
        ValueError: A type is in no table.
    """
    known = {price.instance_type: price for price in tables.all_prices().values() if price.provider == provider}
    unknown = [name for name in instance_types if name not in known]
    if unknown:
        reason = f"{CLOUDS[provider]}'s price API does not return sizes"
        raise ValueError(
            f"unknown size of {', '.join(unknown)}, and {reason}: add a row for it to {tables.user_prices_path()}"
        )
    return {name: known[name] for name in instance_types}


def source(provider: str) -> str:
    """Return the source of a price that is fetched now."""
    return f"{CLOUDS[provider]} price API of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


class Api(NamedTuple):
    """A provider's price API."""

    cloud: str
    """Display name of the provider."""
    url: str
    advice: str
    """What to do if it returns no prices."""
    headers: Mapping[str, str]
    """Credentials, if required. They are not sent along when the API redirects."""
    timeout_s: float = TIMEOUT_S


def pages(
    api: Api, query: Mapping[str, str], kind: type[_Page], following: Callable[[_Page], Mapping[str, str] | None]
) -> Iterator[_Page]:
    """Yield the pages of a response.

    Args:
        api: The price API.
        query: Query of the first page.
        kind: Type of a page.
        following: Returns the query of the page after a page; None after the last.

    Raises:
        SeerError: The API refused, did not answer, or returned something else.
    """
    for _ in range(MAX_PAGES):
        page = _get(api, query, kind)
        yield page
        after = following(page)
        if not after:
            return
        query = after
    raise _no_prices(api, f"more than {MAX_PAGES} pages")


def _get(api: Api, query: Mapping[str, str], kind: type[_Page]) -> _Page:
    url = f"{api.url}?{urlencode(query, safe='$', quote_via=quote)}"
    request = urllib.request.Request(url)  # noqa: S310 - the caller chooses the scheme
    for name, value in api.headers.items():
        request.add_unredirected_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=api.timeout_s) as response:  # noqa: S310
            return msgspec.json.decode(response.read(), type=kind)
    except HTTPError as error:
        raise _no_prices(api, _refusal(error)) from error
    except msgspec.DecodeError as error:
        raise _no_prices(api, f"invalid response ({error})") from error
    except (OSError, HTTPException) as error:
        why = error.reason if isinstance(error, URLError) else error
        raise _no_prices(api, f"no response ({why})") from error


def _no_prices(api: Api, why: str) -> SeerError:
    return SeerError(f"{api.cloud} returned no prices: {why}; {api.advice}")


class _ErrorDetail(msgspec.Struct):
    message: str


class _ErrorBody(msgspec.Struct):
    """Body of an error response, in Google's format."""

    error: _ErrorDetail


def _refusal(error: HTTPError) -> str:
    message = ""
    with error, suppress(OSError, HTTPException, msgspec.DecodeError):
        message = " ".join(msgspec.json.decode(error.read(), type=_ErrorBody).error.message.split())
    return f"HTTP {error.code} {error.reason}" + (f" ({message[:_MAX_MESSAGE]})" if message else "")
