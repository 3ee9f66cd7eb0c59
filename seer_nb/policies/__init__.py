"""Policies: pure functions from a policy view to a plan. SEER is a package; each of its rivals is one file.

All policies receive the same ``core.PolicyView`` and return a ``core.Plan``. They perform no I/O, read no
clock and draw no random numbers, so that a replayed journal gives the same decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb._utils.validation import did_you_mean
from seer_nb.policies.asha import ASHA
from seer_nb.policies.halving import Halving
from seer_nb.policies.hyperband import Hyperband
from seer_nb.policies.hypersched import HyperSched
from seer_nb.policies.naive_elastic import NaiveElastic
from seer_nb.policies.random_search import Grid, RandomSearch
from seer_nb.policies.rubberband import RubberBand
from seer_nb.policies.seer import SEER

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.policy import Policy


__all__ = [
    "ASHA",
    "SEER",
    "Grid",
    "Halving",
    "HyperSched",
    "Hyperband",
    "NaiveElastic",
    "RandomSearch",
    "RubberBand",
    "by_name",
]

_BY_NAME: dict[str, Callable[[], Policy]] = {
    "seer": SEER,
    "asha": ASHA,
    "halving": Halving,
    "hyperband": Hyperband,
    "hypersched": HyperSched,
    "rubberband": RubberBand,
    "naive_elastic": NaiveElastic,
    "random_search": RandomSearch,
    "grid": Grid,
}


def by_name(name: str) -> Policy:
    """Return a policy with its default settings.

    Raises:
        ValueError: No policy has this name.
    """
    if name not in _BY_NAME:
        known = ", ".join(f'"{each}"' for each in _BY_NAME)
        meant = did_you_mean(name, _BY_NAME, '"')
        raise ValueError(
            f"policy={name!r}: unknown policy{meant}; expected one of {known}, or an object with decide(view)"
        )
    return _BY_NAME[name]()
