"""How providers bill: how rented time is rounded, and what disks and addresses cost.

Source: the providers' public pages at the date of the sheet.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO
from seer_nb.core.money import BillingRule
from seer_nb.providers.prices.price import check_provider

HOUR_S = 3600
MONTH_H = 28 * 24
"""Hours of the shortest month: an upper bound of the hourly price of what is billed by the month."""

_RULES = {
    "aws": BillingRule(unit="second", minimum_s=60),
    "gcp": BillingRule(unit="second", minimum_s=60),
    # Azure counts seconds and does not document how it rounds a started minute.
    "azure": BillingRule(unit="second", minimum_s=60),
    # Per second since January 2026; before that, per hour.
    "digitalocean": BillingRule(unit="second", minimum_s=60),
    # A started hour is billed as a whole one, separately for each server.
    "hetzner": BillingRule(unit="hour", minimum_s=HOUR_S),
}
_MIN_BILL_MICRO = {"digitalocean": MICRO // 100}
"""Smallest bill of a machine in micro-dollars, however short its life."""


class _Surcharges(NamedTuple):
    """Charges in addition to the machine."""

    address_hour_micro: int
    """Micro-dollars per public IPv4 address and hour."""
    disk_month_micro: dict[str, int]
    """Micro-dollars per GB of disk and month, by region."""
    disk_month_elsewhere_micro: int
    """The same in regions that are not listed: more than in any listed region."""
    disk_sizes_gb: tuple[int, ...] = ()
    """Sizes in which disks are sold; any other size is billed as the next larger one."""


_SURCHARGES = {
    # EBS gp3, without additional operations or throughput.
    "aws": _Surcharges(
        address_hour_micro=5_000,
        disk_month_micro={
            **dict.fromkeys(("us-east-1", "us-east-2", "us-west-2"), 80_000),
            **dict.fromkeys(("ca-central-1", "eu-west-1"), 88_000),
            **dict.fromkeys(("eu-west-2", "eu-west-3"), 92_800),
            **dict.fromkeys(("us-west-1", "ap-northeast-1", "ap-southeast-1", "ap-southeast-2"), 96_000),
            **dict.fromkeys(("ap-northeast-2", "ap-south-1"), 91_200),
            "eu-central-1": 95_200,
            "eu-north-1": 83_600,
            "sa-east-1": 152_000,
        },
        disk_month_elsewhere_micro=160_000,
    ),
    # Balanced persistent disks; pd-standard costs less than half.
    "gcp": _Surcharges(
        address_hour_micro=5_000,
        disk_month_micro={
            **dict.fromkeys(("us-central1", "us-east1", "us-west1"), 100_000),
            "europe-west4": 110_000,
            "asia-northeast1": 130_000,
        },
        disk_month_elsewhere_micro=170_000,
    ),
    # Premium SSD at the price per GB of the smallest size; larger sizes cost a little less per GB.
    "azure": _Surcharges(
        address_hour_micro=5_000,
        disk_month_micro={"eastus": 165_000},
        disk_month_elsewhere_micro=230_000,
        disk_sizes_gb=(4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
    ),
    # The machine's price includes disk and address.
    "digitalocean": _Surcharges(address_hour_micro=0, disk_month_micro={}, disk_month_elsewhere_micro=0),
    # The machine's price includes the disk; an IPv4 address costs less than a euro a month.
    "hetzner": _Surcharges(address_hour_micro=2_000, disk_month_micro={}, disk_month_elsewhere_micro=0),
}


def billing_rule(provider: str, price_micro: int = 0) -> BillingRule:
    """Return how a provider rounds the time that a machine is rented.

    Args:
        provider: "aws", "gcp", "azure", "digitalocean" or "hetzner".
        price_micro: The machine's price in micro-dollars per hour: if the provider has a smallest bill, cheap machines
            have a longer minimum time. 0: the rule without a smallest bill.

    Raises:
        ValueError: The provider is unknown.
    """
    check_provider(provider)
    rule = _RULES[provider]
    if not price_micro or provider not in _MIN_BILL_MICRO:
        return rule
    minimum_s = -(-_MIN_BILL_MICRO[provider] * HOUR_S // price_micro)
    return BillingRule(unit=rule.unit, minimum_s=max(rule.minimum_s, minimum_s))


def surcharge_per_hour_micro(provider: str, region: str, disk_gb: float, *, public_address: bool) -> int:
    """Return the price of a machine's disk and public IPv4 address, in micro-dollars per hour.

    Args:
        provider: "aws", "gcp", "azure", "digitalocean" or "hetzner".
        region: As the provider calls it. In an unknown region a high price is assumed.
        disk_gb: Size of the root disk in GB: gp3 on AWS, balanced on GCP, premium SSD on Azure. Other providers
            include the disk in the machine's price.
        public_address: Whether the machine has its own public address.

    Returns:
        Micro-dollars per hour, rounded up. Months count as 28 days, so the result is never too low.

    Raises:
        ValueError: The provider is unknown, or the size is not a number >= 0.
    """
    check_provider(provider)
    surcharges = _SURCHARGES[provider]
    size = _whole_gb(disk_gb)
    if size and surcharges.disk_sizes_gb:
        size = next((sold for sold in surcharges.disk_sizes_gb if sold >= size), size)
    disk_micro = -(-surcharges.disk_month_micro.get(region, surcharges.disk_month_elsewhere_micro) * size // MONTH_H)
    return disk_micro + (surcharges.address_hour_micro if public_address else 0)


def _whole_gb(size: object) -> int:
    if not isinstance(size, int | float) or isinstance(size, bool) or not 0 <= size < math.inf:
        raise ValueError(f"disk_gb={short_repr(size)}: not a disk size; expected a number of GB >= 0")
    return math.ceil(size)
