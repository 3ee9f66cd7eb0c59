"""What all refreshes share: sizes of machines, where the answers go, and whose rows they replace."""

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
from seer_nb.providers.prices.price import YOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from seer_nb.providers.prices.price import Price


CLOUDS = {"aws": "AWS", "azure": "Azure", "gcp": "GCP"}
"""The providers with a price API, and what a sentence calls them. Each has a module of its name here."""


class Found(NamedTuple):
    """What a provider's price API told."""

    prices: list[Price]
    kept: str = ""
    """A sentence on what keeps the price that it had, and why; empty if there is nothing to say."""


class Refreshed(NamedTuple):
    """What a refresh did."""

    path: Path
    """The user's prices.csv."""
    kept: str = ""
    """See `Found`."""


def refresh(
    provider: str,
    regions: Iterable[str],
    instance_types: Iterable[str],
    ask: Callable[[list[str], list[str]], Found],
) -> Refreshed:
    """Ask for prices and write them to the user's prices.csv; rows that the user wrote stay as they are.

    Args:
        provider: "aws", "azure" or "gcp".
        regions: As the provider calls them.
        instance_types: As the provider calls them. Those that a region does not have are left out.
        ask: Of regions and instance types, sorted and each only once.

    Raises:
        SeerError: The API cannot be asked or did not answer, or none of the machines has a price. Nothing is written.
        ValueError: For a prices.csv that cannot be understood.
    """
    mine = tables.yours()
    places, types = sorted(set(regions)), sorted(set(instance_types))
    found = ask(places, types)
    if not found.prices:
        none = f"{CLOUDS[provider]} has no on-demand price for {', '.join(types)} in {', '.join(places)}"
        raise SeerError(f"{none}: {found.kept}" if found.kept else none)
    written = {key: price for key, price in mine.items() if price.source == YOURS}
    old = {key: price for key, price in mine.items() if price.source != YOURS}
    new = {price.key: price for price in found.prices}
    return Refreshed(tables.write({**old, **new, **written}.values()), found.kept)


def sizes(provider: str, instance_types: list[str]) -> dict[str, Price]:
    """A known price of each type, for a price API that does not tell how large machines are.

    Raises:
        ValueError: For types that no table has.
    """
    known = {price.instance_type: price for price in tables.known().values() if price.provider == provider}
    unknown = [name for name in instance_types if name not in known]
    if unknown:
        size = f"{CLOUDS[provider]}'s price API does not tell how large it is"
        row = f"put a row for it into {tables.yours_path()}"
        raise ValueError(f"no price table has {', '.join(unknown)}, and {size}: {row}")
    return {name: known[name] for name in instance_types}


def source(provider: str) -> str:
    """Where a price comes from that was asked for now."""
    return f"{CLOUDS[provider]} price API of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


TIMEOUT_S = 30.0
"""Without a byte from the API."""
MAX_PAGES = 500
"""Ten times what any of the APIs has for us; an answer that goes on beyond has no end."""
_MAX_SAID = 300
"""Letters of a refusal that are passed on."""

_Page = TypeVar("_Page")


class Api(NamedTuple):
    """Where a provider tells its prices."""

    cloud: str
    """As it is called in a sentence."""
    url: str
    advice: str
    """What to do if it tells none."""
    headers: Mapping[str, str]
    """Credentials, if it wants any. They do not follow when the API sends us elsewhere."""
    timeout_s: float = TIMEOUT_S


def pages(
    api: Api, query: Mapping[str, str], kind: type[_Page], following: Callable[[_Page], Mapping[str, str] | None]
) -> Iterator[_Page]:
    """The pages of an answer.

    Args:
        api: Which is asked.
        query: For the first page.
        kind: What a page is decoded as.
        following: The query for the page after this one; None after the last.

    Raises:
        SeerError: It refused, did not answer, or not with such pages.
    """
    for _ in range(MAX_PAGES):
        page = _get(api, query, kind)
        yield page
        after = following(page)
        if not after:
            return
        query = after
    raise _silent(api, "its answer has no end")


def _get(api: Api, query: Mapping[str, str], kind: type[_Page]) -> _Page:
    url = f"{api.url}?{urlencode(query, safe='$', quote_via=quote)}"
    request = urllib.request.Request(url)  # noqa: S310 - its caller's scheme
    for name, value in api.headers.items():
        request.add_unredirected_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=api.timeout_s) as answer:  # noqa: S310
            return msgspec.json.decode(answer.read(), type=kind)
    except HTTPError as error:
        raise _silent(api, _refusal(error)) from error
    except msgspec.DecodeError as error:
        raise _silent(api, f"its answer is not understood ({error})") from error
    except (OSError, HTTPException) as error:
        why = error.reason if isinstance(error, URLError) else error
        raise _silent(api, f"it did not answer ({why})") from error


def _silent(api: Api, why: str) -> SeerError:
    return SeerError(f"{api.cloud} told no prices: {why}; {api.advice}")


class _Said(msgspec.Struct):
    message: str


class _Refusal(msgspec.Struct):
    """The body of a refusal, as Google writes it."""

    error: _Said


def _refusal(error: HTTPError) -> str:
    said = ""
    with error, suppress(OSError, HTTPException, msgspec.DecodeError):
        said = " ".join(msgspec.json.decode(error.read(), type=_Refusal).error.message.split())
    return f"HTTP {error.code} {error.reason}" + (f" ({said[:_MAX_SAID]})" if said else "")
