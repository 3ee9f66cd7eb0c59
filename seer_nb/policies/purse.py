"""Which gangs the money left can see to their ends, with the lease that each of their machines holds until then."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core.planner import Resources


class Need(NamedTuple):
    """What a gang takes: so many workers for so long."""

    seconds: float
    workers: int


def lasts(needs: Iterable[Need], resources: Resources) -> bool:
    """Whether at each gang's end the budget still holds the leases of all that ran until then."""
    ordered = sorted(needs)
    running = sum(need.workers for need in ordered)
    spent, now_s = 0.0, 0.0
    for end_s, workers in ordered:
        spent += running * (end_s - now_s) * resources.price_s
        if spent + running * resources.lease_s * resources.price_s > resources.money:
            return False
        now_s = end_s
        running -= workers
    return True


def affordable(needs: Sequence[Need], resources: Resources) -> int:
    """How many of the gangs, from the first on, the money suffices for.

    The first one always is: whether it is worth it was for the plan to say.
    """
    if not needs or lasts(needs, resources):
        return len(needs)
    low, high = 1, len(needs)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if lasts(needs[:middle], resources) else (low, middle)
    return low
