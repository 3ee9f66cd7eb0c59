"""Diagnosis of a running study without progress, from its journal and its processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from seer_nb._utils.text import one_line
from seer_nb._utils.units import format_duration
from seer_nb.core import liveness
from seer_nb.core.model import SLACK_S
from seer_nb.errors import RunnerError, StudyFailedError
from seer_nb.runner.launch import log_tail
from seer_nb.storage import layout
from seer_nb.storage.lock import runner_pid

if TYPE_CHECKING:
    from pathlib import Path

    from seer_nb.core.state import State
    from seer_nb.storage.replay import JournalView


MAX_EXTRAPOLATION = 2.0
"""Leases after the last record for which study seconds are assumed to pass; a runner silent for longer may be dead."""
LAUNCH_S = 10.0
"""Seconds within which a new runner takes its study's lock."""
MISSED_HEARTBEATS = 2.0
"""Heartbeats without a record after which the runner counts as silent."""


def check_ended(folder: Path, state: State) -> None:
    """Raise an error if a study without a runner has not ended, or failed.

    Args:
        folder: The study's folder.
        state: Its state.

    Raises:
        RunnerError: The runner has died.
        StudyFailedError: The study failed.
    """
    if state.phase != "ended":
        raise RunnerError(
            f"the runner of study {folder.name!r} has died; resume() continues from its journal. End of its log:\n"
            + log_tail(folder)
        )
    if state.failed:
        raise StudyFailedError(f"study {folder.name!r} failed: {one_line(state.reason)}")


def was_just_created(view: JournalView) -> bool:
    """Return whether a study was created a moment ago, so that its runner has perhaps not taken the lock yet."""
    return view.state().now_s == 0 and view.seq == 1 and time.time() - view.wall < LAUNCH_S


def now_s(view: JournalView, state: State, status: str) -> float:
    """Return the study seconds now, extrapolated from the last record.

    Args:
        view: The study's journal.
        state: Its state.
        status: ``Study.status``.
    """
    if status not in liveness.ACTIVE or state.phase not in liveness.ACTIVE:
        return state.now_s
    return state.now_s + min(max(0.0, time.time() - view.wall), MAX_EXTRAPOLATION * state.settings.lease_s)


def explain_problem(folder: Path, view: JournalView, state: State, status: str) -> str:
    """Return one sentence on why a study makes no progress; empty if it does, or does not run.

    Args:
        folder: The study's folder.
        view: The study's journal.
        state: Its state.
        status: ``Study.status``.
    """
    if status not in liveness.ACTIVE:
        return ""
    return _runner_problem(folder, time.time() - view.wall, state) or liveness.explain_stall(
        state, now_s(view, state, status)
    )


def _runner_problem(folder: Path, silent_s: float, state: State) -> str:
    pid = runner_pid(folder)
    if pid and _is_suspended(pid):
        return f"its runner is suspended: kill -CONT {pid} continues it"
    if state.live_machines and silent_s > MISSED_HEARTBEATS * state.heartbeat_s + SLACK_S:
        log = folder / layout.LOGS / "runner.log"
        return f"its runner has written nothing for {format_duration(silent_s)}: see {log}"
    return ""


def _is_suspended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    except psutil.Error:
        return False
