"""What has become of the studies that are here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from seer_nb.catalog import attach, names
from seer_nb.doctor.finding import Finding, brief
from seer_nb.doctor.home import room
from seer_nb.errors import SeerError
from seer_nb.handle import GOING, MAX_SILENCE
from seer_nb.runner import files
from seer_nb.runner.lock import runner_pid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.state import State
    from seer_nb.doctor.finding import Level
    from seer_nb.study import Study


def check() -> Iterator[Finding]:
    """Runners that have died, stand still or say nothing, locks that nobody holds, and stores that are full."""
    found, wrong = names(), 0
    for name in found:
        for finding in _study(name):
            wrong += finding.level != "ok"
            yield finding
    if not wrong:
        yield Finding("studies", "ok", f"{len(found)} in {files.home()}, and nothing is wrong with them")


def _study(name: str) -> Iterator[Finding]:
    try:
        study = attach(name)
        state, status = study._state(), study.status  # noqa: SLF001 - a view like the others
    except SeerError as error:
        yield Finding("studies", "warning", f"{name!r} cannot be read ({brief(error)})", "move its folder away")
        return
    if status == "interrupted":
        text = f"the runner of {name!r} has died" + (", and machines of it may still cost money" if state.live else "")
        level: Level = "problem" if state.live else "warning"
        yield Finding("studies", level, text, f"seer-nb resume {name} goes on, seer-nb stop {name} ends it")
    elif status in GOING:
        yield from _running(name, study, state)


def _running(name: str, study: Study, state: State) -> Iterator[Finding]:
    folder = files.home() / name
    yield from _runner(name, runner_pid(folder))
    view = study._started()  # noqa: SLF001
    silent_s = time.time() - view.wall
    if state.live and silent_s > MAX_SILENCE * state.settings.lease_s:
        text = f"the runner of {name!r} has written nothing for {silent_s:.0f} s"
        yield Finding("studies", "problem", text, f"look into {folder / files.LOGS / 'runner.log'}")
    store = Path(state.settings.store)
    if "://" not in state.settings.store and store.is_dir():
        finding = room("studies", store)
        if finding.level != "ok":
            yield finding


def _runner(name: str, pid: int | None) -> Iterator[Finding]:
    if pid is None:
        return  # it has just ended, or just begun
    try:
        status = psutil.Process(pid).status() if pid else psutil.STATUS_DEAD
    except psutil.NoSuchProcess:
        text = f"the lock of {name!r} is held, but its runner {pid} does not run on this computer"
        advice = "if it runs on another one, use it from there; else something that it started still lives: end that"
        yield Finding("studies", "problem", text, advice)
        return
    if status in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}:
        yield Finding("studies", "problem", f"the runner of {name!r} stands still", f"kill -CONT {pid}")
