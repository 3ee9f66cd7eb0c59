"""What is asked of the runner from outside: commands in its inbox, and the deadline that the clock on the wall sets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core import model as m

if TYPE_CHECKING:
    from seer_nb.core.state import State
    from seer_nb.journal import Journal

DRIFT_S = 1.0
"""A wall-clock deadline is expressed anew when the clocks have drifted apart by so much."""


class Asked(NamedTuple):
    """A command."""

    numbers: list[int]
    """Of it in the inbox, and of those before it that it makes pointless."""
    command: m.Command | None
    """None: this version does not know it."""


def commands(journal: Journal) -> list[Asked]:
    """Those that no runner has taken yet, oldest first; of a slider's moves that follow each other only the last."""
    found: list[Asked] = []
    for number, command in journal.inbox():
        before = found[-1] if found else None
        if before and isinstance(command, m.SetBudget | m.SetDeadline) and type(before.command) is type(command):
            before.numbers.append(number)
            found[-1] = Asked(before.numbers, command)
        else:
            found.append(Asked([number], command))
    return found


def moved_deadline(state: State, now_s: float) -> tuple[m.DeadlineMoved, ...]:
    """The deadline expressed anew if it is one on the wall, and the clocks have drifted; else nothing.

    Args:
        state: The study's.
        now_s: Study seconds.
    """
    if state.deadline_wall is None:
        return ()
    deadline_s = now_s + state.deadline_wall - time.time()
    return (m.DeadlineMoved(deadline_s=deadline_s),) if abs(deadline_s - state.deadline_s) > DRIFT_S else ()
