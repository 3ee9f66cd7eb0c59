"""Deadline and budget of a search, and what its machines have cost so far."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from seer_nb.core.money import MICRO, Ledger, lease_seconds
from seer_nb.core.units import parse_duration, parse_money, show
from seer_nb.methods.fedex.pool import TimeUpError

if TYPE_CHECKING:
    from datetime import timedelta

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import Provider

LONG_S = 30 * 86400.0
"""Where no deadline is given."""
UNLIMITED = 10**15
"""Micro-dollars, where money is free."""


class Limits:
    """Both ceilings, with the clock that begins with this object.

    Args:
        deadline_s: Seconds from now.
        ledger: Of the machines.
    """

    def __init__(self, deadline_s: float, ledger: Ledger) -> None:
        self._begun_s = time.monotonic()
        self._deadline_s = deadline_s
        self.ledger = ledger

    @classmethod
    def read(
        cls, deadline: str | float | timedelta | None, budget: str | float | None, provider: Provider | None
    ) -> Self:
        """Check what a user has given.

        Raises:
            TypeError, ValueError: It is no time or no money; or a budget is missing, or nothing costs any.
        """
        deadline_s = LONG_S if deadline is None else parse_duration(deadline, "deadline")
        money = UNLIMITED if budget is None else parse_money(budget, "budget")
        offers: tuple[Offer, ...] = ()
        if provider is None:
            if budget is not None:
                raise ValueError(
                    f"budget={show(budget)} has nothing to be spent on: give provider= too, or leave it out"
                )
        else:
            if not hasattr(provider, "fleet"):
                raise TypeError(f"provider={show(provider)} is no provider: give one such as seer.Local()")
            offers = provider.offers()
            if budget is None and any(offer.price_per_hour for offer in offers):
                raise ValueError(f'provider={show(provider)} costs money: give a budget=, such as "$0.50"')
        most = provider.max_workers if provider is not None else 1
        return cls(deadline_s, Ledger(money, lease_seconds(money, offers, most)))

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun_s

    def left_s(self) -> float:
        """Seconds until all machines must have been told to go."""
        now_s = self.elapsed_s()
        return self.ledger.exhausted_s(now_s, self._deadline_s) - now_s

    def check(self, keep_s: float = 0.0) -> None:
        """See that there is time left.

        Args:
            keep_s: More than that, for what must still come.

        Raises:
            TimeUpError: There is none.
        """
        if self.left_s() > keep_s:
            return
        late = self.elapsed_s() + keep_s >= self._deadline_s
        raise TimeUpError("the deadline has come" if late else "the budget is used up")

    def spent_usd(self) -> float:
        """Dollars billed so far."""
        return self.ledger.spent(self.elapsed_s()) / MICRO
