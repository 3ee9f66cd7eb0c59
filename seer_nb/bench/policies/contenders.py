"""Who is compared: SEER, SEER without its parts, and the others with the settings that each is tuned over."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from seer_nb import policies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seer_nb.core.engine import Policy

OURS = "SEER"
ALONE = "SEER alone"
OFF = ("proposals", "rounds", "overlap", "slopes", "tops")
"""What SEER adds to elastic halving, each of which can be switched off."""


class Setting(NamedTuple):
    """One way to run a contender."""

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
