"""The price of one machine type, and the providers whose prices can be known."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import msgspec

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO

PROVIDERS = ("aws", "gcp", "azure", "digitalocean", "hetzner")
USER_SOURCE = "yours"
"""Source of a price that the user has written down."""


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Price of a machine type in a region, on Linux, without a commitment."""

    provider: str
    region: str
    instance_type: str
    vcpus: int
    memory_gib: float
    gpus: int = 0
    gpu_model: str = ""
    per_hour_micro: int
    """Micro-dollars per hour on demand, rounded up."""
    spot_per_hour_micro: int | None = None
    """Micro-dollars per hour as a spot machine in the most expensive zone at the last refresh; None if unknown."""
    source: str = USER_SOURCE
    """Source of the price: "sheet of DATE", "yours", "AWS price API of TIME"."""

    @property
    def usd_per_hour(self) -> float:
        """Dollars per hour on demand; to show, never to add up."""
        return self.per_hour_micro / MICRO

    @property
    def key(self) -> Key:
        """Key of the price in a table."""
        return self.provider, self.region, self.instance_type


Key = tuple[str, str, str]
"""(provider, region, instance_type)."""


def to_micro(dollars: Decimal) -> int:
    """Return micro-dollars, rounded up, because a budget must never be planned with too low a price."""
    return int((dollars * MICRO).to_integral_value(ROUND_CEILING))


def check_provider(provider: str) -> None:
    """Raise ValueError unless prices of that provider can be known."""
    if provider not in PROVIDERS:
        raise ValueError(
            f"provider={short_repr(provider)}: no prices are known; expected one of {', '.join(map(repr, PROVIDERS))}"
        )
