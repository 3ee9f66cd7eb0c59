"""The journal as its runner keeps it: what the runner has in mind is acted on only once it is written down."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import TYPE_CHECKING

from seer_nb.core import model as m
from seer_nb.journal import View
from seer_nb.runner.clock import steady_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from seer_nb.core.state import State
    from seer_nb.journal import Journal

logger = logging.getLogger(__name__)
AGAIN_S = 0.25
"""How often the journal is tried again on a full disk."""


class Book:
    """Writes records down.

    Args:
        journal: The study's.
        patience_s: For how long a journal that cannot be written is tried again.
        waited: Called when it was waited for.
    """

    def __init__(self, journal: Journal, patience_s: Callable[[], float], waited: Callable[[], None]) -> None:
        self._journal = journal
        self._patience_s = patience_s
        self._waited = waited
        self._unwritten: list[m.Event] = []

    @property
    def behind(self) -> bool:
        """Whether the state has taken in what could not be written: nothing may be decided on that state any more."""
        return bool(self._unwritten)

    def open(self, events: Sequence[m.Event]) -> None:
        """The state begins to take events in; what follows is to be written next."""
        if self._unwritten:
            raise RuntimeError("the journal lacks what was taken in before")
        self._unwritten = list(events)

    def write(self, records: Sequence[tuple[float, m.Event | m.Action]], taken: Sequence[int] = ()) -> None:
        """Wait while the disk is full, for nothing is done that is not written down; not beyond leases and limits.

        Raises:
            sqlite3.Error: It could not be written.
        """
        end_s = steady_s() + self._patience_s()
        while True:
            try:
                self._journal.append(records, taken)
            except sqlite3.OperationalError as error:
                logger.warning("the journal cannot be written, which is tried again: %s", error)
                if steady_s() > end_s:
                    raise
                time.sleep(AGAIN_S)
                self._waited()
            else:
                self._unwritten = []
                return

    def add(self, events: Iterable[m.Event], now_s: float, state: State) -> None:
        """Write down what nothing is to be decided on any more.

        Args:
            events: What has happened.
            now_s: Study seconds.
            state: The study's. If it has taken in more than was written, what the journal makes of it counts, and what
                has ended by what was not written is added too.
        """
        if self._unwritten:
            events = [*(event for event in self._unwritten if isinstance(event, m.MachineEnded)), *events]
            state = View(self._journal).state()
        records: list[tuple[float, m.Event | m.Action]] = []
        for event in events:
            if not isinstance(event, m.MachineEnded) or event.machine in state.machines:
                records.append((now_s, told := news(state, event)))
                state.apply(told, now_s)
        self.write(records)


def news(state: State, event: m.Event) -> m.Event:
    """What a machine that was thought to have ended has really cost is not its end once more."""
    if not isinstance(event, m.MachineEnded) or event.machine in state.live or event.lived_s is None:
        return event
    return m.MachineBilled(machine=event.machine, lived_s=event.lived_s)
