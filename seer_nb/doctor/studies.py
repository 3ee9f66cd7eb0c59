"""What has become of the studies that are here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from seer_nb.catalog import attach, names
from seer_nb.doctor.finding import Finding, brief
from seer_nb.doctor.home import room
from seer_nb.runner import files, stores
from seer_nb.runner.lock import runner_pid
from seer_nb.standstill import GOING

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
    except Exception as error:  # noqa: BLE001 - whatever is in one folder, the others are looked at
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
    if reason := study.stuck:
        advice = f"look at seer-nb show {name}, and into {folder / files.LOGS}"
        yield Finding("studies", "problem", f"{name!r} does not get on: {reason}", advice)
    store = stores.folder(state.settings.store)
    if store is not None and store.is_dir():
        finding = room("studies", store)
        if finding.level != "ok":
            yield finding


def _runner(name: str, pid: int | None) -> Iterator[Finding]:
    if pid is not None and not (pid and psutil.pid_exists(pid)):
        text = f"the lock of {name!r} is held, but its runner {pid} does not run on this computer"
        advice = "if it runs on another one, use it from there; else something that it started still lives: end that"
        yield Finding("studies", "problem", text, advice)
