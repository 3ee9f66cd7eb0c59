"""The list of all faults, and random pairs of them."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from seer_nb.bench.faults import inject_clocks, inject_networks, inject_processes, inject_stores, training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.bench.faults.case import Case
    from seer_nb.bench.faults.fault import Fault


FAULTS = [
    *inject_processes.PROCESS_FAULTS,
    *inject_processes.MOMENT_FAULTS,
    *inject_stores.FAULTS,
    *training.FAULTS,
    *inject_processes.CLOUD_FAULTS,
    *inject_clocks.FAULTS,
    *inject_networks.FAULTS,
]
AND = " + "
PAIRED = [
    *inject_processes.PROCESS_FAULTS[:8],
    *[
        fault
        for fault in inject_processes.PROCESS_FAULTS
        if fault.name in {"the runner is killed", "the runner receives SIGTERM"}
    ],
]
"""Faults that can be combined in one study."""


def by_name(name: str) -> Fault:
    """Return a fault, or a pair of faults, by its name.

    Raises:
        KeyError: No fault has this name.
    """
    known = {fault.name: fault for fault in FAULTS}
    if AND not in name:
        return known[name]
    first, second = (known[part] for part in name.split(AND))

    def inject(case: Case) -> None:
        first.inject(case)
        second.inject(case)

    return replace(
        first,
        name=name,
        inject=inject,
        options={**second.options, **first.options},
        repeats=max(first.repeats, second.repeats),
        within_s=None,
    )


def missing(fault: Fault) -> str:
    """Return the requirements of a fault that are missing here; an empty string means none."""
    if fault.root and os.geteuid() != 0:
        return "root"
    return ", ".join(command for command in fault.needs if shutil.which(command) is None)


def pairs(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield (name, where) for random pairs of faults."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    for _ in range(count):
        first, second = rng.choice(PAIRED), rng.choice(PAIRED)
        where = rng.choice(sorted(set(first.where) & set(second.where)))
        yield f"{first.name}{AND}{second.name}", where
