"""Asking a price API that speaks JSON over HTTP, page by page; what goes wrong ends in one sentence."""

from __future__ import annotations

import urllib.request
from contextlib import suppress
from http.client import HTTPException
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode

import msgspec

from seer_nb.errors import SeerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
