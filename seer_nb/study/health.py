"""Why a study does not get on, as whoever reads its journal can tell: what the runner says, or that it says nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from seer_nb._utils.units import format_duration
from seer_nb.core import liveness
from seer_nb.core.model import SLACK_S
from seer_nb.storage.lock import runner_pid

if TYPE_CHECKING:
    from pathlib import Path

    from seer_nb.core.state import State
    from seer_nb.storage.replay import View


GOING = frozenset({"running", "pausing", "ending"})
"""Statuses in which time passes."""
MAX_SILENCE = 2.0
"""Leases after which a runner that says nothing is not thought to go on."""
HEARTBEATS = 2.0
"""So many times it should have written something since."""


def now_s(view: View, state: State, status: str) -> float:
    """Study seconds now: the journal tells only those of its last record."""
    if status not in GOING:
        return state.now_s
    return state.now_s + min(max(0.0, time.time() - view.wall), MAX_SILENCE * state.settings.lease_s)


def why(folder: Path, view: View, state: State, status: str) -> str:
    """Why a study does not get on, in a sentence; empty if it does, or is not meant to.

    Args:
        folder: The study's.
        view: Of its journal.
        state: As the view has it.
        status: ``Study.status``.
    """
    if status not in GOING:
        return ""
    return _runner(folder, time.time() - view.wall, state) or liveness.why(state, now_s(view, state, status))


def _runner(folder: Path, silent_s: float, state: State) -> str:
    """Of the runner: without it nothing goes on."""
    pid = runner_pid(folder)
    if pid and _stands_still(pid):
        return f"its runner stands still: kill -CONT {pid} has it go on"
    if state.live and silent_s > HEARTBEATS * state.heartbeat_s + SLACK_S:
        return (
            f"its runner has written nothing for {format_duration(silent_s)}: logs/runner.log in {folder} may say why"
        )
    return ""


def _stands_still(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    except psutil.Error:
        return False
