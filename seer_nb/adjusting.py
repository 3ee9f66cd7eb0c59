"""What the sliders send: a new budget or deadline, checked against what cannot be taken back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from seer_nb.core import model as m
from seer_nb.core.units import format_duration, format_money, parse_deadline, parse_money, show

if TYPE_CHECKING:
    from seer_nb.core.state import State
    from seer_nb.settings import Money, Time


def new_budget(state: State, budget: Money) -> m.SetBudget:
    """The command for another budget. Raises ValueError for less than what is spent and committed."""
    amount = parse_money(budget, "budget")
    floor = state.ledger.floor(state.now_s)
    if amount < floor:
        raise ValueError(
            f"budget={show(budget)} is less than what is spent and committed, {format_money(floor)}: "
            "that cannot be taken back"
        )
    return m.SetBudget(budget=amount)


def new_deadline(state: State, deadline: Time) -> m.SetDeadline:
    """The command for another deadline. Raises ValueError for one that has passed."""
    deadline_s, wall = parse_deadline(deadline, time.time())
    used_s = state.now_s
    if wall is not None:
        deadline_s += used_s
    elif deadline_s <= used_s:
        raise ValueError(
            f"deadline={show(deadline)} has passed: the study has used {format_duration(used_s)} of its time already"
        )
    return m.SetDeadline(deadline_s=deadline_s, deadline_wall=wall)
