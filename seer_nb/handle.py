"""A second hand on a study, for another thread than the user's: it reads the journal by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb import standstill, vitals
from seer_nb.study import Study

if TYPE_CHECKING:
    from pathlib import Path

    from seer_nb.core.model import Settings
    from seer_nb.core.state import State
    from seer_nb.history import History
    from seer_nb.vitals import Vitals


class Handle:
    """What views need of a study. Not to be used by two threads at once.

    Args:
        study: That the user holds.
    """

    def __init__(self, study: Study) -> None:
        self.given = study
        self._own: Study | None = None

    @property
    def study(self) -> Study:
        """For commands: the user's own until it has started."""
        if self._own is None and self.started:
            self._own = Study._attached(self.folder)  # noqa: SLF001 - it is what seer.attach does
            self._own._launched = self.given._launched  # noqa: SLF001 - a runner counts before it has taken its lock
        return self._own or self.given

    @property
    def started(self) -> bool:
        """Whether there is a journal."""
        return self.given._view is not None  # noqa: SLF001

    @property
    def folder(self) -> Path:
        """The study's files."""
        return self.given._folder  # noqa: SLF001

    @property
    def settings(self) -> Settings:
        """What it was created with."""
        return self.given._settings  # noqa: SLF001

    def state(self) -> State:
        """The newest."""
        return self.study._state()  # noqa: SLF001

    def history(self) -> History:
        """How the state that was read last came about."""
        return self.study._history()  # noqa: SLF001

    def status(self) -> str:
        """As ``Study.status``."""
        return self.study.status

    def vitals(self) -> Vitals | None:
        """What its processes use now, if any runs that tells."""
        return vitals.read(self.folder)

    def now_s(self, status: str) -> float:
        """Study seconds now: the journal tells only those of its last record."""
        state, view = self.state(), self.study._view  # noqa: SLF001
        return state.now_s if view is None else standstill.now_s(view, state, status)

    def stuck(self, status: str) -> str:
        """Why it does not get on, though its status says so; empty if it does."""
        state, view = self.state(), self.study._view  # noqa: SLF001
        return "" if view is None else standstill.why(self.folder, view, state, status)
