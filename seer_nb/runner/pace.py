"""When to store a checkpoint: at each report unless that costs more than a share of the training time."""

from __future__ import annotations

import math

SHARE = 0.05


class Pace:
    """Measures epochs and savings of one gang."""

    def __init__(self) -> None:
        self._save_s: float | None = None
        self._measured = 0
        self._since = 0

    def due(self, epoch_s: float) -> bool:
        """Whether to store after an epoch of this duration. Call it once an epoch."""
        self._since += 1
        return self._since >= self._every(epoch_s)

    def stored(self, save_s: float) -> None:
        """Take note that a checkpoint was stored in this time."""
        self._measured += 1
        # The first is often slower, for it finds nothing cached: the fastest is what the next one will take.
        self._save_s = save_s if self._save_s is None else min(self._save_s, save_s)
        self._since = 0

    def _every(self, epoch_s: float) -> float:
        # The first is often slower tenfold, and by it many epochs would not be stored: it is measured again soon, after
        # as much training as it took.
        share = SHARE if self._measured > 1 else 1.0
        if self._save_s is None or self._save_s <= share * epoch_s:
            return 1
        return math.ceil(self._save_s / (share * epoch_s)) if epoch_s > 0 else math.inf
