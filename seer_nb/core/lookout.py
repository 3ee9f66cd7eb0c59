"""When to look again at something that is costly to look at and not due yet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NEAR_S = 2.0
"""What is due within so long is waited for; what is due later is looked at again halfway."""


class Lookout:
    """Watches for the first of many moments, each of which may still move a little.

    Looking at all of them at every event would cost more than all else. Halfway to the first one is early enough to see
    that it has come nearer, and seldom enough to cost nothing.
    """

    def __init__(self) -> None:
        self.at_s = -math.inf
        """When to look again."""

    def sight(self, now_s: float, moments: Iterable[float]) -> None:
        """All of them were looked at."""
        self.at_s = math.inf
        self.sooner(now_s, min(moments, default=math.inf))

    def sooner(self, now_s: float, moment: float) -> None:
        """There is one more."""
        left_s = moment - now_s
        self.at_s = min(self.at_s, moment if left_s <= NEAR_S else now_s + left_s / 2)
