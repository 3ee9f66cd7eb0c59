"""How providers bill, in one place: how time is rounded, and what is billed beside the machine.

As the providers' public pages gave it and the authors knew it at the date of the sheet.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from seer_nb._utils.text import show
from seer_nb._utils.units import MICRO
from seer_nb.core.money import BillingRule
from seer_nb.providers.prices.price import check_provider

HOUR_S = 3600
MONTH_H = 28 * 24
"""The shortest month: what is billed by the month is never more per hour than this gives."""

_RULES = {
    "aws": BillingRule(unit="second", minimum_s=60),
    "gcp": BillingRule(unit="second", minimum_s=60),
    # Azure counts seconds and leaves open how it rounds a begun minute.
    "azure": BillingRule(unit="second", minimum_s=60),
    # Per second since January 2026; before that, per hour.
    "digitalocean": BillingRule(unit="second", minimum_s=60),
    # A begun hour is a whole one, and each server begins anew.
    "hetzner": BillingRule(unit="hour", minimum_s=HOUR_S),
}
_LEAST_BILL = {"digitalocean": MICRO // 100}
"""Micro-dollars that a machine costs at least, however short it lives."""


class _Extras(NamedTuple):
    """What is billed beside the machine, in micro-dollars."""

    address_h: int
    """A public IPv4 address and hour."""
    disk_month: dict[str, int]
    """A GB of disk and month, by region."""
    elsewhere: int
    """The same in regions that are not listed: more than is known of any that is."""
    disk_sizes: tuple[int, ...] = ()
    """The GB that disks are sold in; a smaller one is billed as the next of these."""


_EXTRAS = {
    # EBS gp3, without additional operations or throughput.
    "aws": _Extras(
        address_h=5_000,
        disk_month={
            **dict.fromkeys(("us-east-1", "us-east-2", "us-west-2"), 80_000),
            **dict.fromkeys(("ca-central-1", "eu-west-1"), 88_000),
            **dict.fromkeys(("eu-west-2", "eu-west-3"), 92_800),
            **dict.fromkeys(("us-west-1", "ap-northeast-1", "ap-southeast-1", "ap-southeast-2"), 96_000),
            **dict.fromkeys(("ap-northeast-2", "ap-south-1"), 91_200),
            "eu-central-1": 95_200,
            "eu-north-1": 83_600,
            "sa-east-1": 152_000,
        },
        elsewhere=160_000,
    ),
    # Balanced persistent disks; pd-standard costs less than half.
    "gcp": _Extras(
        address_h=5_000,
        disk_month={
            **dict.fromkeys(("us-central1", "us-east1", "us-west1"), 100_000),
            "europe-west4": 110_000,
            "asia-northeast1": 130_000,
        },
        elsewhere=170_000,
    ),
    # Premium SSD, of the smallest size that has the GB; larger sizes cost a little less per GB.
    "azure": _Extras(
        address_h=5_000,
        disk_month={"eastus": 165_000},
        elsewhere=230_000,
        disk_sizes=(4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
    ),
    # Disk and address are in the machine's price.
    "digitalocean": _Extras(address_h=0, disk_month={}, elsewhere=0),
    # The disk is in the machine's price; an IPv4 address costs less than a euro a month.
    "hetzner": _Extras(address_h=2_000, disk_month={}, elsewhere=0),
}


def billing_rule(provider: str, per_hour: int = 0) -> BillingRule:
    """How a provider rounds the time that a machine is rented.

    Args:
        provider: "aws", "gcp", "azure", "digitalocean" or "hetzner".
        per_hour: The machine's price in micro-dollars: a provider with a least bill has a longer minimum for what is
            cheap.

    Raises:
        ValueError: For another provider.
    """
    check_provider(provider)
    rule = _RULES[provider]
    if not per_hour or provider not in _LEAST_BILL:
        return rule
    least_s = -(-_LEAST_BILL[provider] * HOUR_S // per_hour)
    return BillingRule(unit=rule.unit, minimum_s=max(rule.minimum_s, least_s))


def surcharge_per_hour(provider: str, region: str, disk_gb: float, *, public_address: bool) -> int:
    """What is billed beside the machine: its disk, and a public IPv4 address.

    Args:
        provider: "aws", "gcp", "azure", "digitalocean" or "hetzner".
        region: As the provider calls it. In one whose prices are not known a high one is taken.
        disk_gb: Of the root disk: gp3 on AWS, balanced on GCP, premium SSD on Azure; elsewhere it costs nothing more.
        public_address: Whether the machine has an address of its own.

    Returns:
        Micro-dollars an hour, rounded up. A month is taken to have 28 days, so that it is never too little.

    Raises:
        ValueError: For another provider, or a size that is none.
    """
    check_provider(provider)
    extras = _EXTRAS[provider]
    size = _whole_gb(disk_gb)
    if size and extras.disk_sizes:
        size = next((sold for sold in extras.disk_sizes if sold >= size), size)
    disk = -(-extras.disk_month.get(region, extras.elsewhere) * size // MONTH_H)
    return disk + (extras.address_h if public_address else 0)


def _whole_gb(size: object) -> int:
    if not isinstance(size, int | float) or isinstance(size, bool) or not 0 <= size < math.inf:
        raise ValueError(f"disk_gb={show(size)} is not the size of a disk: give a number of GB from 0 on")
    return math.ceil(size)
