"""The grid of the comparison: deadlines, budgets, speedups, boots, and the policies with their settings."""

from __future__ import annotations

from bisect import bisect_right
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from seer_nb import policies
from seer_nb.simulate import Offer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Speedup = Callable[[int], float]
    from seer_nb.core.policy import Policy


DEADLINES = (0.25, 0.5, 1.0, 2.0)
"""Deadlines, in durations of one full training on one worker."""
BUDGETS = (4.0, 8.0, 16.0, 32.0)
"""Budgets, in costs of one full training on one worker."""
BEYOND = (64.0, 128.0)
"""Larger budgets for the other policies, to find the money that they need for SEER's regret."""
BOOTS = (0.0, 60.0)
"""Boot times, in seconds."""
TIGHT = 0.5
"""Greatest tight deadline; below 1, no trial can be trained fully on one worker."""
EPOCH_S = 60.0
"""Mean seconds of an epoch on one worker."""
PRICE_PER_HOUR = 3.6
"""Dollars per machine hour."""
MINIMUM_S = 60
"""Least billed seconds of a machine."""

MEASURED: dict[str, tuple[float, ...]] = {
    "resnet18": (1.0, 1.854, 3.426, 5.398),
    "resnet50": (1.0, 1.870, 3.421, 5.598),
    "resnet101": (1.0, 1.892, 3.632, 6.672),
    "imagenet-resnet50": (1.0, 1.77, 2.93, 4.29),
}
"""s(1), s(2), s(4), s(8) of data-parallel training on V100s of one machine, from HyperSched's published code."""


class Cell(NamedTuple):
    """One cell of the grid."""

    deadline: float
    budget: float
    speedup: str
    boot_s: float

    @property
    def tight(self) -> bool:
        """Whether the deadline is tight."""
        return self.deadline <= TIGHT

    def key(self) -> tuple[float, str, float, float]:
        """Return deadline, speedup, boot time and budget, by which studies are grouped."""
        return self.deadline, self.speedup, self.boot_s, self.budget

    def offer(self) -> Offer:
        """Return machines of one worker, billed by the second with a minimum."""
        return Offer(price_per_hour=PRICE_PER_HOUR, minimum_seconds=MINIMUM_S, boot_seconds=self.boot_s)


def grid(
    deadlines: Iterable[float], budgets: Iterable[float], speedups: Iterable[str], boots: Iterable[float]
) -> list[Cell]:
    """Return all combinations."""
    return [Cell(*each) for each in product(deadlines, budgets, speedups, boots)]


def speedup(name: str) -> Speedup:
    """Return a speedup by name: one of ``MEASURED``, or a number c as text for s(p) = p / (1 + c (p - 1)).

    Raises:
        ValueError: The name is neither.
    """
    if name in MEASURED:
        return _interpolated(MEASURED[name])
    try:
        overhead: float = float(name)
    except ValueError:
        overhead = -1.0
    if not 0 <= overhead <= 1:
        raise ValueError(f"speedup={name!r}: unknown speedup; expected c from 0 to 1, or one of {', '.join(MEASURED)}")
    return lambda p: float(p / (1 + overhead * (p - 1)))


def _interpolated(points: tuple[float, ...]) -> Speedup:
    """Interpolate linearly between powers of two; constant beyond the last point."""
    sizes = [1 << k for k in range(len(points))]

    def at(p: int) -> float:
        k = bisect_right(sizes, p) - 1
        if k == len(sizes) - 1:
            return points[-1]
        share = (p - sizes[k]) / (sizes[k + 1] - sizes[k])
        return points[k] + share * (points[k + 1] - points[k])

    return at


OURS = "SEER"
"""Name of SEER with all parts."""
ALONE = "SEER alone"
"""Name of SEER without any of the parts in ``OFF``."""
OFF = ("proposals", "rounds", "overlap", "slopes", "tops")
"""Parts that SEER adds to elastic halving; each can be switched off."""


class Setting(NamedTuple):
    """One configuration of a contender."""

    name: str
    make: Callable[[], Policy]


def _tuned(kind: Callable[..., Policy], **ranges: Iterable[int]) -> list[Setting]:
    return [
        Setting(", ".join(f"{name}={value}" for name, value in given.items()), lambda given=given: kind(**given))  # type: ignore[misc]
        for values in product(*ranges.values())
        for given in [dict(zip(ranges, values, strict=True))]
    ]


def _without(*names: str) -> list[Setting]:
    return [Setting("", lambda: policies.SEER(**dict.fromkeys(names, False)))]


ETAS, FIRST = (2, 3, 4), (1, 3)
CONTENDERS: dict[str, list[Setting]] = {
    OURS: _without(),
    ALONE: _without(*OFF),
    "halving": _tuned(policies.Halving, eta=ETAS, first_rung=FIRST),
    "ASHA": _tuned(policies.ASHA, eta=ETAS, first_rung=FIRST),
    "Hyperband": _tuned(policies.Hyperband, eta=ETAS),
    "HyperSched": _tuned(policies.HyperSched, eta=ETAS, first_rung=FIRST),
    "RubberBand": _tuned(policies.RubberBand, eta=ETAS, first_rung=FIRST),
    "naive elastic": _tuned(policies.NaiveElastic, eta=ETAS, first_rung=FIRST),
    "random search": _tuned(policies.RandomSearch),
    **{f"SEER without {name}": _without(name) for name in OFF},
}
BASELINES = tuple(name for name in CONTENDERS if not name.startswith(OURS))
ABLATIONS = tuple(name for name in CONTENDERS if name.startswith(f"{OURS} without"))
