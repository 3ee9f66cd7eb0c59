"""Requests from outside the runner: commands in the inbox, and the deadline on the wall clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from seer_nb import core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core.state import State
    from seer_nb.storage.journal import Journal


DRIFT_S = 1.0
"""Seconds by which the clocks must have drifted apart before a wall-clock deadline is converted again."""


class PendingCommand(NamedTuple):
    """A command that no runner has taken yet."""

    numbers: list[int]
    """Its number in the inbox, after the numbers of earlier commands that it replaces."""
    command: core.Command | None
    """The command; None if this version of seer_nb does not know its kind."""


def pending_commands(journal: Journal) -> list[PendingCommand]:
    """Return the commands that no runner has taken yet, oldest first; of consecutive slider moves only the last."""
    found: list[PendingCommand] = []
    for number, command in journal.inbox():
        before = found[-1] if found else None
        if before and isinstance(command, core.SetBudget | core.SetDeadline) and type(before.command) is type(command):
            before.numbers.append(number)
            found[-1] = PendingCommand(before.numbers, command)
        else:
            found.append(PendingCommand([number], command))
    return found


def moved_deadline(state: State, now_s: float) -> tuple[core.DeadlineMoved, ...]:
    """Convert a wall-clock deadline to study seconds again if the clocks have drifted apart; otherwise nothing.

    Args:
        state: State of the study.
        now_s: Study seconds.
    """
    return _moved(state.deadline_s, state.deadline_wall, now_s)


def with_current_deadline(state: State, commands: Sequence[core.Command], now_s: float) -> list[core.Event]:
    """Return the commands, preceded by conversions of a wall-clock deadline where it must be up to date.

    While a study is paused its own clock is stopped, but the wall clock is not. The deadline is converted only if the
    study runs or is resumed.

    Args:
        state: State of the study.
        commands: Commands, oldest first.
        now_s: Study seconds.
    """
    resumes = state.phase != "paused" or any(isinstance(command, core.Resume) for command in commands)
    found: list[core.Event] = [*moved_deadline(state, now_s)] if resumes else []
    for command in commands:
        found.append(command)
        if resumes and isinstance(command, core.SetDeadline):
            # The command may have been sent while the study's clock was stopped.
            found += _moved(command.deadline_s, command.deadline_wall, now_s)
    return found


def _moved(deadline_s: float, wall: float | None, now_s: float) -> tuple[core.DeadlineMoved, ...]:
    if wall is None:
        return ()
    true_s = now_s + wall - time.time()
    return (core.DeadlineMoved(deadline_s=true_s),) if abs(true_s - deadline_s) > DRIFT_S else ()
