"""Which gangs the money left can see to their ends, with the lease that each of their machines holds until then."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seer_nb.core.planner import Resources


class Purse:
    """Takes in one gang after the other, as long as the money suffices for all of them.

    Args:
        resources: What is left.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._gangs: list[tuple[float, int]] = []

    def take(self, seconds: float, workers: int) -> bool:
        """Whether a gang of so many workers can be kept for so long beside those taken before; then it is taken.

        The first one always is: whether it is worth it was for the plan to say.
        """
        gangs = sorted([*self._gangs, (seconds, workers)])
        if self._gangs and not self._lasts(gangs):
            return False
        self._gangs = gangs
        return True

    def _lasts(self, gangs: list[tuple[float, int]]) -> bool:
        """Whether at each gang's end the budget still holds the leases of all that ran until then."""
        running = sum(workers for _, workers in gangs)
        spent, now_s = 0.0, 0.0
        for end_s, workers in gangs:
            spent += running * (end_s - now_s) * self._resources.price_s
            if spent + running * self._resources.lease_s * self._resources.price_s > self._resources.money:
                return False
            now_s = end_s
            running -= workers
        return True
