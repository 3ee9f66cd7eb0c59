"""A study as its journal has it, for a runner that takes it up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb import snapshots
from seer_nb.core import model as m
from seer_nb.core.engine import Engine
from seer_nb.errors import SeerError
from seer_nb.runner.files import placed

if TYPE_CHECKING:
    from seer_nb.core.engine import Policy
    from seer_nb.journal import Journal
    from seer_nb.runner.janitor import Janitor


class Restored(NamedTuple):
    """What was found."""

    engine: Engine
    unsaved: int
    """Records that are in no snapshot."""
    fresh: bool
    """Whether no runner was before."""
    unseen_s: float
    """Seconds since the last record, which no runner has seen."""


def restore(journal: Journal, policy: Policy, janitor: Janitor) -> Restored:
    """Read it, from the last snapshot on if there is one, and tell the janitor.

    Raises:
        SeerError: It is no journal of a study.
    """
    engine: Engine | None = None
    wall, count, seq = 0.0, 0, 0
    found = snapshots.load(journal)
    if found is not None:
        # Not the snapshot's: in that of a copy, the store was placed already.
        settings = placed(journal.settings(), journal.path.parent)
        engine, seq = Engine(settings, policy), found.seq
        engine.state = found.state
        engine.state.settings = settings
        janitor.resume(engine.state)
    # The snapshot's own record once more: its wall time is wanted too, if none has followed.
    for entry in journal.read(max(0, seq - 1)):
        if entry.seq == seq:
            wall = entry.wall
            continue
        if engine is None:
            if not isinstance(entry.record, m.Began):
                raise SeerError(f"{journal.path} does not begin with the study's settings")
            engine = Engine(placed(entry.record.settings, journal.path.parent), policy)
        engine.state.apply(entry.record, entry.at_s)
        janitor.note(engine.state, entry.record)
        wall, count = entry.wall, count + 1
    if engine is None:
        raise SeerError(f"{journal.path} is empty")
    fresh = seq + count == 1
    return Restored(engine, count, fresh, 0.0 if fresh else _since(wall, engine.state.settings.lease_s))


def _since(wall: float, lease_s: float) -> float:
    """Seconds since then; a lease if the clock was set back so far that nobody can tell."""
    seconds = time.time() - wall
    return seconds if seconds >= 0 else lease_s
