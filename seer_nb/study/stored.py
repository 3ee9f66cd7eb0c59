"""A study's folder as its readers see it: the journal, the status, and the runner that drives the study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb import core
from seer_nb._utils.text import one_line
from seer_nb.core.history import initial_history
from seer_nb.core.state import State
from seer_nb.errors import SeerError, StudyEndedError
from seer_nb.storage.lock import runner_pid
from seer_nb.study import health
from seer_nb.study.results import StudyResults

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from seer_nb.core import Settings
    from seer_nb.core.history import History
    from seer_nb.storage.journal import Journal
    from seer_nb.storage.replay import JournalView


OVER = frozenset({"ended", "failed"})
"""Statuses of a study that is over, unless it is resumed."""


class StoredStudy(StudyResults):
    """Access to a study's journal and status. `Study` adds creation and commands."""

    folder: Path
    """Folder of the study; it exists once the study was started."""
    settings: Settings
    """Settings that the study was created with."""
    journal_view: JournalView | None
    """State and history of the study; None before it was started."""
    _launched: list[subprocess.Popen[bytes]]
    """Runners that this object has launched."""

    def __repr__(self) -> str:
        # Without control characters: a terminal prints it as it is, and the journal may come from somebody else.
        return f"<Study {self.name!r}: {self.settings.mode} {one_line(self.settings.metric)}>"

    # --- status ---

    @property
    def status(self) -> str:
        """created, running, pausing, paused, ending, ended, failed, or interrupted (the runner died)."""
        if self.journal_view is None:
            return "created"
        resumes = self._resumes()  # read before the state, which contains the command once a runner has taken it
        state = self.journal_view.state()
        if resumes and state.phase in {"paused", "ended"} and self._has_runner():
            return "running"
        if state.phase == "ended":
            return "failed" if state.failed else "ended"
        return state.phase if self._has_runner() else "interrupted"

    @property
    def started(self) -> bool:
        """Whether the study was started, so that it has a journal."""
        return self.journal_view is not None

    @property
    def stalled(self) -> str:
        """Why the running study makes no progress, in one sentence; empty if it does."""
        return (
            ""
            if self.journal_view is None
            else health.explain_problem(self.folder, self.journal_view, self.state, self.status)
        )

    def settled(self) -> bool:
        """Return whether the study has ended; raise if it failed, or cannot end because its runner died."""
        view = self._started()
        driven = self._has_runner()
        # Read after the check of the process: a runner that has exited since has written all of its records.
        state = view.state()
        if driven:
            return False  # also until the last process has exited, because the caller may want to resume()
        health.check_ended(self.folder, state)
        return True

    # --- journal ---

    def _started(self) -> JournalView:
        if self.journal_view is None:
            raise SeerError(f"study {self.name!r} has not been started: start() it first")
        return self.journal_view

    @property
    def journal(self) -> Journal:
        """Journal of the study; SeerError before the study was started."""
        return self._started().journal

    @property
    def state(self) -> State:
        """State after the newest record of the journal."""
        return State(self.settings) if self.journal_view is None else self.journal_view.state()

    @property
    def now_s(self) -> float:
        """Study seconds now, which may be later than the newest record."""
        state = self.state
        return state.now_s if self.journal_view is None else health.now_s(self.journal_view, state, self.status)

    @property
    def history(self) -> History:
        """Values over time and the log of decisions, up to the same record as `state`."""
        return initial_history(self.settings) if self.journal_view is None else self.journal_view.history

    def send(self, command: core.Command) -> None:
        """Queue a command for the runner; SeerError before the study was started."""
        self._started().journal.send(command)

    # --- runner ---

    def _has_runner(self) -> bool:
        """Return whether a runner is alive, including a new process that has not taken the lock yet."""
        if any(process.poll() is None for process in self._launched) or runner_pid(self.folder) is not None:
            return True
        return self.journal_view is not None and not self._launched and health.was_just_created(self.journal_view)

    def _resumes(self) -> bool:
        """Return whether a command to resume was sent, and no runner has taken the command yet."""
        return any(isinstance(command, core.Resume) for _, command in self.journal.inbox())


def check_accepts_commands(name: str, status: str, word: str) -> None:
    """Refuse a command that no runner would read now: it would only take effect when the study is resumed.

    Args:
        name: The study's name.
        status: ``Study.status``.
        word: The command: "pause", "stop" or "pin".

    Raises:
        StudyEndedError: The study has ended.
        SeerError: The runner has died, and the command is "pause".
    """
    if status in OVER:
        raise StudyEndedError(f"study {name!r} has ended: there is nothing to {word}")
    if status == "interrupted" and word == "pause":
        raise SeerError(f"study {name!r} has no running process: its runner died; resume() continues it")
