"""Policies: pure functions from what there is to what is wanted. Each is one short file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb.policies.asha import ASHA
from seer_nb.policies.random_search import RandomSearch
from seer_nb.policies.seer import SEER

if TYPE_CHECKING:
    from seer_nb.core.engine import Policy

__all__ = ["ASHA", "SEER", "RandomSearch", "by_name"]

_BY_NAME: dict[str, type[SEER | ASHA | RandomSearch]] = {"seer": SEER, "asha": ASHA, "random_search": RandomSearch}


def by_name(name: str) -> Policy:
    """The policy of that name, with its default settings.

    Raises:
        ValueError: There is none.
    """
    if name not in _BY_NAME:
        known = ", ".join(f'"{each}"' for each in _BY_NAME)
        raise ValueError(f"policy={name!r} is unknown: give one of {known}, or an object with decide(snapshot)")
    return _BY_NAME[name]()
