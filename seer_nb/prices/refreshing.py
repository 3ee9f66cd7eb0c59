"""What all refreshes share: sizes of machines, where the answers go, and whose rows they replace."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.errors import SeerError
from seer_nb.prices import tables
from seer_nb.prices.record import YOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from seer_nb.prices.record import Price


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
