"""What is asked of the runner from outside: commands in its inbox, and the deadline that the clock on the wall sets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb import core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core.state import State
    from seer_nb.storage.journal import Journal


DRIFT_S = 1.0
"""A wall-clock deadline is expressed anew when the clocks have drifted apart by so much."""


class Asked(NamedTuple):
    """A command."""

    numbers: list[int]
    """Of it in the inbox, and of those before it that it makes pointless."""
    command: core.Command | None
    """None: this version does not know it."""


def commands(journal: Journal) -> list[Asked]:
    """Those that no runner has taken yet, oldest first; of a slider's moves that follow each other only the last."""
    found: list[Asked] = []
    for number, command in journal.inbox():
        before = found[-1] if found else None
        if before and isinstance(command, core.SetBudget | core.SetDeadline) and type(before.command) is type(command):
            before.numbers.append(number)
            found[-1] = Asked(before.numbers, command)
        else:
            found.append(Asked([number], command))
    return found


def moved_deadline(state: State, now_s: float) -> tuple[core.DeadlineMoved, ...]:
    """The deadline expressed anew if it is one on the wall, and the clocks have drifted; else nothing.

    Args:
        state: The study's.
        now_s: Study seconds.
    """
    return _moved(state.deadline_s, state.deadline_wall, now_s)


def timely(state: State, asked: Sequence[core.Command], now_s: float) -> list[core.Event]:
    """Commands, with the deadline expressed anew before they are decided on.

    Args:
        state: The study's. While it is paused its clock stands still, and the one on the wall goes on: the deadline is
            expressed anew only where the study is to go on.
        asked: The commands, oldest first.
        now_s: Study seconds.
    """
    goes_on = state.phase != "paused" or any(isinstance(command, core.Resume) for command in asked)
    found: list[core.Event] = [*moved_deadline(state, now_s)] if goes_on else []
    for command in asked:
        found.append(command)
        if goes_on and isinstance(command, core.SetDeadline):
            # It was said when the study's clock may have stood still.
            found += _moved(command.deadline_s, command.deadline_wall, now_s)
    return found


def _moved(deadline_s: float, wall: float | None, now_s: float) -> tuple[core.DeadlineMoved, ...]:
    if wall is None:
        return ()
    true_s = now_s + wall - time.time()
    return (core.DeadlineMoved(deadline_s=true_s),) if abs(true_s - deadline_s) > DRIFT_S else ()
