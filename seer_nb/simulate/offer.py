"""What a simulated provider rents, in the units that people think in."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from seer_nb.core import money
from seer_nb.core.arguments import whole
from seer_nb.core.bounds import MOST_SECONDS, MOST_SLOTS
from seer_nb.core.units import parse_money

MAX_WORKERS = 512
"""Workers that a study may rent when neither the offer nor the caller says how many."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A machine type of a simulated cloud.

    Args:
        price_per_hour: Of one machine: dollars, or a str such as "$3.06".
        boot_seconds: From renting a machine until it can train; paid for.
        billing: "second" or "hour": the unit that a machine's life is rounded up to.
        minimum_seconds: A machine is billed for at least so long.
        workers_per_machine: Workers on a machine; machines are rented whole.
        spot: Whether the provider may take machines back (see ``Conditions.spot_life_s``).
        quota: Machines that may be rented at once; None: as many as 512 workers need.
        release_seconds: From being told to go until billing ends.

    Raises:
        ValueError: A number is out of range.
    """

    price_per_hour: float | str
    boot_seconds: float = 0.0
    billing: Literal["second", "hour"] = "second"
    minimum_seconds: int = 0
    workers_per_machine: int = 1
    spot: bool = False
    quota: int | None = None
    release_seconds: float = 1.0

    def __post_init__(self) -> None:
        parse_money(self.price_per_hour, "price_per_hour", zero=True)
        if self.billing not in {"second", "hour"}:
            raise ValueError(f'billing={self.billing!r} is unknown: give "second" or "hour"')
        whole(self.workers_per_machine, "workers_per_machine", 1, MOST_SLOTS)
        whole(self.minimum_seconds, "minimum_seconds", 0, int(MOST_SECONDS))
        if self.quota is not None:
            whole(self.quota, "quota")
        for name in ("boot_seconds", "release_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} is not a time: give seconds from 0 on")

    def machines(self, max_workers: int | None) -> int:
        """How many may be rented at once, if no more than so many workers are wanted."""
        wanted = MAX_WORKERS if max_workers is None else max_workers
        # Whole machines only: a machine more would bring too many workers, unless even one does.
        most = max(1, wanted // self.workers_per_machine)
        return most if self.quota is None else min(self.quota, most)

    def to_core(self, max_workers: int | None = None) -> money.Offer:
        """As the engine knows it."""
        return money.Offer(
            name="simulated",
            price_per_hour=parse_money(self.price_per_hour, "price_per_hour", zero=True),
            billing=money.BillingRule(unit=self.billing, minimum_s=self.minimum_seconds),
            boot_s=self.boot_seconds,
            boot_timeout_s=max(600.0, 10 * self.boot_seconds),
            release_s=self.release_seconds,
            workers_per_machine=self.workers_per_machine,
            spot=self.spot,
            max_machines=self.machines(max_workers),
        )
