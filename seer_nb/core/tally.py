"""Who is what in a study, kept up with each change: asking thousands of machines and trials at each event is too slow.

All of it follows from the state's trials, machines and gangs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seer_nb.core import model as m
    from seer_nb.core.state import State


@dataclass
class Tally:
    """Counts and sets."""

    waiting: dict[int, None] = field(default_factory=dict)
    """Trials that were drawn and have not begun, in that order."""
    best: tuple[float, int] | None = None
    """(value, the lower the better; trial) of the best stored report of all."""
    reported: bool = False
    """Whether any trial has."""
    idle: set[int] = field(default_factory=set)
    """Ready machines that stay, with a worker that no gang uses."""
    leaving: set[int] = field(default_factory=set)
    """Machines that live, and that their provider will take away."""
    retiring: set[int] = field(default_factory=set)
    """Machines that live, and were told to go."""
    live_of: Counter[str] = field(default_factory=Counter)
    """Machines that live, by offer."""
    slots: int = 0
    """Workers of machines that live."""
    ready_slots: int = 0
    """Workers of ready machines."""
    staying_slots: int = 0
    """Workers of machines that can be counted on to train."""
    booting: int = 0
    """Machines that boot."""
    training: int = 0
    """Workers that gangs use."""

    @classmethod
    def of(cls, state: State) -> Tally:
        """Counted anew."""
        tally = cls()
        tally.waiting = {trial.id: None for trial in state.trials.values() if trial.state == "waiting"}
        for trial in state.trials.values():
            tally.trial(trial, state.settings.mode)
        for machine in state.live.values():
            tally.machine(None, machine, state.busy)
        tally.training = sum(gang.parallelism for gang in state.gangs.values())
        return tally

    def trial(self, trial: m.Trial, mode: m.Mode) -> None:
        """A trial has changed."""
        if trial.state != "waiting":
            self.waiting.pop(trial.id, None)
        self.reported = self.reported or bool(trial.curve)
        # A trial's best report is followed by a worse one only when its checkpoint is damaged: see ``rank``.
        if trial.best is not None and trial.best.value is not None:
            key = (trial.best.value if mode == "min" else -trial.best.value, trial.id)
            self.best = key if self.best is None else min(self.best, key)

    def rank(self, state: State) -> None:
        """Find the best anew, as a trial has lost its best report."""
        self.best = None
        for trial in state.trials.values():
            self.trial(trial, state.settings.mode)

    def machine(self, old: m.Machine | None, new: m.Machine, busy: set[str]) -> None:
        """A machine has changed, or (without an old one) is new."""
        if old is not None:
            self._count(old, -1)
        self._count(new, 1)
        _keep(self.leaving, new.id, new.state != "ended" and new.leaves_s is not None)
        _keep(self.retiring, new.id, new.state != "ended" and new.retired_s is not None)
        self._settle(new, busy)

    def gang(self, gang: m.Gang, change: int, state: State) -> None:
        """A gang has begun (1), or has ended (-1)."""
        self.training += change * gang.parallelism
        for machine in state.machines_of(gang):
            self._settle(state.machines[machine], state.busy)

    def _count(self, machine: m.Machine, change: int) -> None:
        if machine.state != "ended":
            self.live_of[machine.offer] += change
            self.slots += change * machine.slots
            self.ready_slots += change * machine.slots * (machine.state == "ready")
            self.staying_slots += change * machine.slots * machine.stays
            self.booting += change * (machine.state == "booting")

    def _settle(self, machine: m.Machine, busy: set[str]) -> None:
        able = machine.state == "ready" and machine.leaves_s is None
        _keep(self.idle, machine.id, able and not busy.issuperset(machine.workers))


def _keep(members: set[int], number: int, belongs: bool) -> None:  # noqa: FBT001 - private
    if belongs:
        members.add(number)
    else:
        members.discard(number)
