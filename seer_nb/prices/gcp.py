"""Google's present prices, from the Cloud Billing Catalog, which sells cores, memory and GPUs apart.

A machine's price is put together from its parts in its region. Machines whose parts are not plain keep the price that
is known: a2-ultragpu and a3 have local disks that are billed beside, and of shared cores only a part is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace

from seer_nb.prices import gcp_access, gcp_catalog, refreshing, tables, web
from seer_nb.prices.gcp_catalog import Part, Rates
from seer_nb.prices.record import Price, micro

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    url: str = gcp_catalog.URL,
    timeout_s: float = web.TIMEOUT_S,
) -> refreshing.Refreshed:
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

    def ask(places: list[str], types: list[str]) -> refreshing.Found:
        sizes = refreshing.sizes("gcp", types)
        api = web.Api(refreshing.CLOUDS["gcp"], url, ADVICE, gcp_access.headers(url), timeout_s)
        rates = gcp_catalog.rates(api, set(places), _UNITS)
        return _composed(rates, [replace(size, region=region) for region in places for size in sizes.values()])

    return refreshing.refresh("gcp", regions, instance_types, ask)


def _composed(rates: Rates, machines: list[Price]) -> refreshing.Found:
    source = refreshing.source("gcp")
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
    return refreshing.Found(prices, _kept(kept))


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
