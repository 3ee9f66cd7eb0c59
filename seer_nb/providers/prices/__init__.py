"""Prices of machines: a dated sheet of list prices that ships with seer_nb, and the user's own rows, which override it.

The user's rows are in ``prices.csv`` in the folder of the studies (SEER_HOME, or ./seer_studies), with the sheet's
columns. ``seer-nb prices --refresh`` writes the present prices of AWS, Azure and GCP there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO
from seer_nb._utils.validation import similar_words
from seer_nb.providers.prices import tables
from seer_nb.providers.prices.billing import billing_rule, surcharge_per_hour_micro
from seer_nb.providers.prices.price import PROVIDERS, Price, check_provider

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd


__all__ = ["PROVIDERS", "Price", "billing_rule", "price", "sheet", "surcharge_per_hour_micro"]


SHEET_COLUMNS = (*tables.COLUMNS, *tables.OPTIONAL_COLUMNS)
MAX_SUGGESTIONS = 3
"""Number of similar names in a message."""


def price(provider: str, region: str, instance_type: str) -> Price:
    """Return what a machine costs: the price in the user's prices.csv if it has one, else the sheet's.

    Args:
        provider: "aws", "gcp", "azure", "digitalocean" or "hetzner".
        region: As the provider calls it, such as "us-east-1".
        instance_type: As the provider calls it, such as "g4dn.xlarge".

    Raises:
        TypeError: An argument is not a string.
        ValueError: The price is unknown; the message names similar machines, and how to give a price.
    """
    given = {"provider": provider, "region": region, "instance_type": instance_type}
    for name, value in given.items():
        if not isinstance(value, str):
            raise TypeError(f"{name}={short_repr(value)}: not text; expected a name as the provider writes it")
    check_provider(provider)
    table = tables.all_prices()
    found = table.get((provider, region, instance_type))
    if found is None:
        raise ValueError(_unknown([row for row in table.values() if row.provider == provider], given))
    return found


def sheet(provider: str | None = None, region: str | None = None) -> pd.DataFrame:
    """Return all known prices, one row per provider, region and instance type.

    Args:
        provider: Name of a provider. Default: all.
        region: Name of a region. Default: all.

    Returns:
        Columns: provider, region, instance_type, vcpus, memory_gib, gpus, gpu_model, usd_per_hour, spot_usd_per_hour
        (at the last refresh; NaN if unknown), source.
    """
    import pandas as pd

    if provider is not None:
        check_provider(provider)
    rows = [
        row for row in tables.all_prices().values() if provider in {None, row.provider} and region in {None, row.region}
    ]
    frame = pd.DataFrame([_cells(row) for row in rows], columns=list(SHEET_COLUMNS))
    return frame.astype({"spot_usd_per_hour": float})


def _cells(row: Price) -> tuple[object, ...]:
    spot = None if row.spot_per_hour_micro is None else row.spot_per_hour_micro / MICRO
    machine = (row.vcpus, row.memory_gib, row.gpus, row.gpu_model)
    return (*row.key, *machine, row.usd_per_hour, spot, row.source)


def _unknown(rows: list[Price], given: dict[str, str]) -> str:
    """Return the message for a machine whose price is unknown."""
    provider, region, instance_type = given.values()
    hint = (
        f"add a row to {tables.user_prices_path()} with the columns {','.join(tables.COLUMNS)}, "
        "or give price_per_hour= to the provider"
    )
    what = f"instance_type={short_repr(instance_type)}: no price is known in region={short_repr(region)} of {provider}"
    return f"{what} ({_suggest(rows, region, instance_type)}); {hint}"


def _suggest(rows: list[Price], region: str, instance_type: str) -> str:
    """Return which known prices the user may have meant."""
    if not rows:
        return "no prices of this provider are known"
    if elsewhere := sorted({row.region for row in rows if row.instance_type == instance_type}):
        return f"known in {', '.join(elsewhere)}"
    regions = {row.region for row in rows}
    if region not in regions:
        return f"regions with prices: {', '.join(_most_similar(region, regions))}"
    types = [row.instance_type for row in rows if row.region == region]
    return f"similar types: {', '.join(_most_similar(instance_type, types))}"


def _most_similar(word: str, known: Iterable[str]) -> list[str]:
    """Return the most similar names; the first ones if no name is similar."""
    known = sorted(known)
    return similar_words(word, known, MAX_SUGGESTIONS, cutoff=0.5) or known[:MAX_SUGGESTIONS]
