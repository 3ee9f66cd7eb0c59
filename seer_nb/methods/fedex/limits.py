"""Deadline and budget of ``fedex.tune``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO, parse_duration, parse_money
from seer_nb.core.money import Ledger, lease_seconds

if TYPE_CHECKING:
    from datetime import timedelta

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import Provider


DEFAULT_DEADLINE_S = 30 * 86400.0
"""Seconds until the deadline if none is given."""
UNLIMITED_MICRO = 10**15
"""Budget in micro-dollars if none is given, which is allowed only where nothing costs money."""


class LimitReachedError(Exception):
    """The deadline or the end of the budget is reached; work in progress is abandoned."""


class Limits:
    """Deadline and budget of one search; its clock starts when the object is created.

    Args:
        deadline_s: Seconds from now.
        ledger: Ledger that the search's machines are booked in.
    """

    def __init__(self, deadline_s: float, ledger: Ledger) -> None:
        self._begun_s = time.monotonic()
        self._deadline_s = deadline_s
        self.ledger = ledger

    @classmethod
    def from_arguments(
        cls, deadline: str | float | timedelta | None, budget: str | float | None, provider: Provider | None
    ) -> Self:
        """Check a user's arguments.

        Args:
            deadline: Duration; None: 30 days.
            budget: Dollars; None: unlimited, if the provider's machines are free.
            provider: Provider of the machines; None: this process.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument is out of range, the budget is missing, or there is nothing to spend it on.
        """
        deadline_s = DEFAULT_DEADLINE_S if deadline is None else parse_duration(deadline, "deadline")
        budget_micro = UNLIMITED_MICRO if budget is None else parse_money(budget, "budget")
        offers: tuple[Offer, ...] = ()
        if provider is None:
            if budget is not None:
                raise ValueError(
                    f"budget={short_repr(budget)}: nothing costs money without a provider; expected provider="
                )
        else:
            if not hasattr(provider, "fleet"):
                raise TypeError(f"provider={short_repr(provider)}: not a provider; expected one such as seer.Local()")
            offers = provider.offers()
            if budget is None and any(offer.price_per_hour_micro for offer in offers):
                raise ValueError(f'provider={short_repr(provider)}: costs money; expected a budget=, such as "$0.50"')
        most = provider.max_workers if provider is not None else 1
        return cls(deadline_s, Ledger(budget_micro, lease_seconds(budget_micro, offers, most)))

    def elapsed_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._begun_s

    def left_s(self) -> float:
        """Return the seconds until all machines must be terminated."""
        now_s = self.elapsed_s()
        return self.ledger.budget_lasts_until_s(now_s, self._deadline_s) - now_s

    def check(self, keep_s: float = 0.0) -> None:
        """Raise if the time left is not more than a reserve.

        Args:
            keep_s: Seconds to reserve for later work.

        Raises:
            LimitReachedError: It is not.
        """
        if self.left_s() > keep_s:
            return
        is_late = self.elapsed_s() + keep_s >= self._deadline_s
        raise LimitReachedError("the deadline was reached" if is_late else "the budget was used up")

    def spent_usd(self) -> float:
        """Return the dollars billed so far."""
        return self.ledger.spent_micro(self.elapsed_s()) / MICRO
