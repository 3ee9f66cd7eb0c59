"""Whether the budget and the deadline of a study fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from seer_nb._utils.units import format_duration, format_money
from seer_nb.core.money import Ledger

if TYPE_CHECKING:
    from seer_nb.core import SetBudget, SetDeadline, Settings
    from seer_nb.core.money import Offer
    from seer_nb.core.state import State


MISMATCH = 2.5
"""Ratio of a limit to what the other limit allows, above which a warning is useful."""


class Limits(NamedTuple):
    """What a study has left: micro-dollars and seconds, and the same from its start on."""

    budget_micro: int
    deadline_s: float
    spent_micro: int = 0
    now_s: float = 0.0

    @property
    def left_micro(self) -> int:
        """Micro-dollars that are left."""
        return self.budget_micro - self.spent_micro

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.deadline_s - self.now_s


def limits_of(state: State, budget: SetBudget | None, deadline: SetDeadline | None) -> Limits:
    """Return the limits of a study after commands that change its budget or deadline."""
    return Limits(
        budget_micro=state.budget_micro if budget is None else budget.budget_micro,
        deadline_s=state.deadline_s if deadline is None else deadline.deadline_s,
        spent_micro=state.ledger.spent_micro(state.now_s),
        now_s=state.now_s,
    )


def mismatch(settings: Settings, limits: Limits) -> str:
    """Return one sentence if one limit makes the other pointless; empty if they fit together within about MISMATCH.

    Args:
        settings: The study's settings.
        limits: Its budget and deadline.
    """
    machines = _all_machines(settings)
    most = sum(count * offer.bill(limits.left_s) for offer, count in machines)
    ledger = Ledger(limits.budget_micro, settings.lease_s)
    # The ledger also sets money aside for leases and boots.
    held = sum(count * ledger.worst_case_micro(offer, limits.left_s) for offer, count in machines)
    if not most:
        return ""
    budget, deadline = format_money(limits.budget_micro), format_duration(limits.deadline_s)
    if limits.left_micro > MISMATCH * held:
        useful = format_money(limits.spent_micro + most)
        return (
            f"budget={budget}: at most {useful} can be spent by the deadline of {deadline}, with "
            f"{settings.max_workers} workers; a longer deadline or more workers would use the budget"
        )
    cheapest = min(settings.offers, key=lambda offer: offer.price_per_hour_micro)
    least = sum(offer.bill(limits.left_s) for offer in (cheapest, settings.scheduler_offer) if offer is not None)
    if least > MISMATCH * limits.left_micro:
        paid_s = limits.left_s * limits.left_micro / least
        return (
            f"deadline={deadline}: the budget of {budget} pays even one machine only until about "
            f"{format_duration(limits.now_s + paid_s)}; at least {format_money(limits.spent_micro + least)} would be "
            "needed to use the time"
        )
    return ""


def _all_machines(settings: Settings) -> list[tuple[Offer, int]]:
    """Return the machines of the most expensive cluster of ``max_workers`` workers: offers and their numbers."""
    left, machines = settings.max_workers, []
    for offer in sorted(settings.offers, key=lambda offer: -offer.worker_price_s()):
        count = min(offer.max_machines, -(-left // offer.workers_per_machine))
        machines.append((offer, count))
        left -= count * offer.workers_per_machine
        if left <= 0:
            break
    return machines if settings.scheduler_offer is None else [*machines, (settings.scheduler_offer, 1)]
