"""Several loops that take their outer steps side by side, as if they were one."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from seer_nb.methods.bilevel.loop import Loop
    from seer_nb.methods.bilevel.trace import Minimum
    from seer_nb.methods.result import Seed


class Loops:
    """Loops of one method with as many outer steps each: at the end of any epoch, all of them have got equally far."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = tuple(loops)
        self.name = loops[0].name

    @property
    def outer_steps(self) -> int:
        """Of each."""
        return self._loops[0].outer_steps

    @outer_steps.setter
    def outer_steps(self, steps: int) -> None:
        for loop in self._loops:
            loop.outer_steps = steps

    @property
    def ended(self) -> bool:
        """Whether none has a step left."""
        return all(loop.ended for loop in self._loops)

    def go(self, until: int) -> None:
        """On to an outer step; those that diverge stay behind."""
        for loop in self._loops:
            loop.go(until)

    def minima(self, seed: Seed) -> tuple[Minimum, ...]:
        """What each has found so far."""
        return tuple(loop.minimum(seed) for loop in self._loops)

    def metrics(self) -> dict[str, float]:
        """Means over all; NaN if one has diverged."""
        told = [loop.metrics() for loop in self._loops]
        return {name: fmean(metrics[name] for metrics in told) for name in told[0]}

    def state_dict(self) -> dict[str, Any]:
        """As of one loop."""
        loops = [loop.state_dict() for loop in self._loops]
        return {"name": self.name, "loops": loops, "seconds": sum(loop.seconds for loop in self._loops)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: It is of more loops, or of fewer.
        """
        for loop, stored in zip(self._loops, state["loops"], strict=True):
            loop.load_state_dict(stored)
