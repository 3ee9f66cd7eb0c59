"""One machine's price, and the providers that prices are known for."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import msgspec

from seer_nb._utils.text import show
from seer_nb._utils.units import MICRO

PROVIDERS = ("aws", "gcp", "azure", "digitalocean", "hetzner")
YOURS = "yours"
"""Where a price comes from that a user has written down."""


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine of one type costs in one region, on Linux, without a commitment."""

    provider: str
    region: str
    instance_type: str
    vcpus: int
    memory_gib: float
    gpus: int = 0
    gpu_model: str = ""
    per_hour: int
    """Micro-dollars on demand, rounded up."""
    spot_per_hour: int | None = None
    """Micro-dollars as a spot machine in the dearest zone, when its price was refreshed; None if that is not known."""
    source: str = YOURS
    """Where the price comes from: "sheet of DATE", "yours", "AWS price API of TIME"."""

    @property
    def usd_per_hour(self) -> float:
        """Dollars on demand; to show, never to add up."""
        return self.per_hour / MICRO

    @property
    def key(self) -> Key:
        """What it is looked up by."""
        return self.provider, self.region, self.instance_type


Key = tuple[str, str, str]
"""(provider, region, instance_type)."""


def micro(dollars: Decimal) -> int:
    """Micro-dollars, rounded up, for a budget must never be planned with too low a price."""
    return int((dollars * MICRO).to_integral_value(ROUND_CEILING))


def check_provider(provider: str) -> None:
    """Raises ValueError unless prices can be known for that provider."""
    if provider not in PROVIDERS:
        raise ValueError(f"provider={show(provider)} is none that prices are kept for: give one of {_listed()}")


def _listed() -> str:
    return ", ".join(map(repr, PROVIDERS))
