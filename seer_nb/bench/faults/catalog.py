"""All faults."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from seer_nb.bench.faults import clouds, functions, moments, processes, stores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.bench.faults.case import Case
    from seer_nb.bench.faults.fault import Fault

FAULTS = [*processes.FAULTS, *moments.FAULTS, *stores.FAULTS, *functions.FAULTS, *clouds.FAULTS]
AND = " + "
PAIRED = [*processes.FAULTS[:6], *[fault for fault in processes.FAULTS if fault.name == "the runner is killed"]]
"""Faults that can follow another one in the same study."""


def by_name(name: str) -> Fault:
    """One, or a pair of them.

    Raises:
        KeyError: There is no such fault.
    """
    known = {fault.name: fault for fault in FAULTS}
    if AND not in name:
        return known[name]
    first, second = (known[part] for part in name.split(AND))

    def strike(case: Case) -> None:
        first.strike(case)
        second.strike(case)

    return replace(first, name=name, strike=strike, repeats=first.repeats + second.repeats, within_s=None)


def possible(fault: Fault) -> bool:
    """Whether it can be brought about by this user on this computer."""
    return not fault.root or os.geteuid() == 0


def pairs(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """(name, where) of random pairs."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    for _ in range(count):
        first, second = rng.choice(PAIRED), rng.choice(PAIRED)
        where = rng.choice(sorted(set(first.where) & set(second.where)))
        yield f"{first.name}{AND}{second.name}", where
