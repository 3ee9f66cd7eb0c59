"""What machines cost: a dated sheet of list prices that ships with seer_nb, and your own rows, which win over it.

Your rows lie in ``prices.csv`` in the folder of the studies (SEER_HOME, or ./seer_studies), with the sheet's columns.
``seer-nb prices --refresh`` writes the present prices of AWS, Azure and GCP there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb._utils.text import show
from seer_nb._utils.units import MICRO
from seer_nb._utils.validation import alike
from seer_nb.providers.prices import tables
from seer_nb.providers.prices.billing import billing_rule, surcharge_per_hour
from seer_nb.providers.prices.price import PROVIDERS, Price, check_provider

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd


__all__ = ["PROVIDERS", "Price", "billing_rule", "price", "sheet", "surcharge_per_hour"]


FRAME = (*tables.COLUMNS, *tables.MORE_COLUMNS)
NEAR = 3
"""So many are suggested."""


def price(provider: str, region: str, instance_type: str) -> Price:
    """What a machine costs: by your own prices.csv if it has a row for it, else by the sheet.

    Args:
        provider: "aws", "gcp", "azure", "digitalocean" or "hetzner".
        region: As the provider calls it, such as "us-east-1".
        instance_type: As the provider calls it, such as "g4dn.xlarge".

    Raises:
        TypeError: For what is no text.
        ValueError: It has no known price; the sentence says which are near, and how to give one.
    """
    given = {"provider": provider, "region": region, "instance_type": instance_type}
    for name, value in given.items():
        if not isinstance(value, str):
            raise TypeError(f"{name}={show(value)} is not text: give it as the provider writes it")
    check_provider(provider)
    table = tables.known()
    found = table.get((provider, region, instance_type))
    if found is None:
        raise ValueError(_unknown([row for row in table.values() if row.provider == provider], given))
    return found


def sheet(provider: str | None = None, region: str | None = None) -> pd.DataFrame:
    """All known prices, your own included: a row a provider, region and instance type.

    Args:
        provider: Only its rows.
        region: Only its rows.

    Returns:
        Columns: provider, region, instance_type, vcpus, memory_gib, gpus, gpu_model, usd_per_hour, spot_usd_per_hour
        (as it was when it was refreshed; NaN where it is not known), source.
    """
    import pandas as pd

    if provider is not None:
        check_provider(provider)
    rows = [row for row in tables.known().values() if provider in {None, row.provider} and region in {None, row.region}]
    frame = pd.DataFrame([_cells(row) for row in rows], columns=list(FRAME))
    return frame.astype({"spot_usd_per_hour": float})


def _cells(row: Price) -> tuple[object, ...]:
    spot = None if row.spot_per_hour is None else row.spot_per_hour / MICRO
    machine = (row.vcpus, row.memory_gib, row.gpus, row.gpu_model)
    return (*row.key, *machine, row.usd_per_hour, spot, row.source)


def _unknown(rows: list[Price], given: dict[str, str]) -> str:
    """The sentence for a machine whose price is not known."""
    provider, region, instance_type = given.values()
    hint = (
        f"put a row for it into {tables.yours_path()}, with the columns {','.join(tables.COLUMNS)}, or give "
        "price_per_hour= to the provider"
    )
    where = f"no price is known for instance_type={show(instance_type)} in region={show(region)} of {provider}"
    return f"{where} ({_near(rows, region, instance_type)}): {hint}"


def _near(rows: list[Price], region: str, instance_type: str) -> str:
    """What is known that may have been meant."""
    if not rows:
        return "none at all is known of this provider"
    if elsewhere := sorted({row.region for row in rows if row.instance_type == instance_type}):
        return f"it is known in {', '.join(elsewhere)}"
    regions = {row.region for row in rows}
    if region not in regions:
        return f"regions with prices are {', '.join(_nearest(region, regions))}"
    there = [row.instance_type for row in rows if row.region == region]
    return f"near it are {', '.join(_nearest(instance_type, there))}"


def _nearest(word: str, known: Iterable[str]) -> list[str]:
    """Those that are written alike; the first ones if none is."""
    known = sorted(known)
    return alike(word, known, NEAR, cutoff=0.5) or known[:NEAR]
