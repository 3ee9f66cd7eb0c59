"""The store and the journal: slow, full, read-only, gone, damaged, cut off."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import seer_nb as seer
from seer_nb.bench.faults.case import kill
from seer_nb.bench.faults.fault import LOCAL, Fault
from seer_nb.storage import layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from seer_nb.bench.faults.case import Case


AWAY_S = 30.0
SHORT_S = 6.0
SIZE = "24m"


def _mounted(case: Case, name: str) -> Path:
    """A small file system of its own."""
    folder = case.folder / name
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder))
    case.stack.callback(_run, "umount", "-l", str(folder))
    return folder


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _with_store(harm: Callable[[Case, Path], None], *, then_kill: bool = False) -> Callable[[Case], None]:
    def strike(case: Case) -> None:
        store = _mounted(case, "store")
        case.make(str(store))
        case.start()
        gang = case.underway()
        case.later()
        case.hit(gang.trial)
        if then_kill:
            kill(case.worker(gang.workers[0]))
        harm(case, store)

    return strike


def _full(_: Case, store: Path) -> None:
    filler = store / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            pass
        time.sleep(SHORT_S)
    filler.unlink()


def _read_only(_: Case, store: Path) -> None:
    # The kernel refuses while a file is open for writing.
    command = ("mount", "-o", "remount,ro", str(store))
    while subprocess.run(command, check=False, capture_output=True).returncode:
        time.sleep(0.01)
    time.sleep(SHORT_S)
    _run("mount", "-o", "remount,rw", str(store))


def _gone(_: Case, store: Path) -> None:
    """Covered by an empty file system that nobody can write to."""
    _run("mount", "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs", str(store))
    time.sleep(AWAY_S)
    _run("umount", "-l", str(store))


def _checkpoint(damage: Callable[[Path], None]) -> Callable[[Case], None]:
    """The latest one of a trial is damaged, and its worker is killed, so that it is needed."""

    def strike(case: Case) -> None:
        case.start()
        gang = case.underway()
        pid = case.worker(gang.workers[0])
        case.later()
        # It must not store another one meanwhile.
        kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        resume = case.state.trials[gang.trial].resume
        assert resume is not None
        assert resume.checkpoint
        damage(case.folder / "studies" / "study" / layout.CHECKPOINTS / resume.checkpoint)
        case.hit(gang.trial)
        kill(pid)

    return strike


def _truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _journal_full(case: Case) -> None:
    """The disk of the study's folder has no room for a while."""
    home = _mounted(case, "studies")
    case.make(str(case.folder / "store"))
    case.start()
    gang = case.underway()
    case.later()
    case.hit(gang.trial)
    _full(case, home)


def _journal_cut_off(case: Case) -> None:
    """The machine loses its power while the journal is written: the end of the log is missing."""
    case.start()
    case.underway()
    pid = case.runner()
    case.later()
    kill(pid)
    case.until(lambda: case.study.status == "interrupted", "the runner's death")
    case.hit()
    # Without power nobody reads on, either.
    case.study.journal.close()
    log = case.folder / "studies" / "study" / f"{layout.JOURNAL}-wal"
    if log.exists() and log.stat().st_size:
        with log.open("r+b") as file:
            file.truncate(max(0, log.stat().st_size - case.rng.randrange(1, 6000)))
    case.study = seer.attach("study")
    case.study.resume()


FAULTS = [
    Fault("the store is full for 6 s", _with_store(_full), (LOCAL,), root=True),
    Fault("the store is read-only for 6 s", _with_store(_read_only), (LOCAL,), root=True),
    Fault("the store is gone for 30 s", _with_store(_gone), (LOCAL,), {"deadline_s": 90.0}, root=True),
    Fault(
        "the store is gone for 30 s, and a worker is killed",
        _with_store(_gone, then_kill=True),
        (LOCAL,),
        {"deadline_s": 120.0, "report_timeout": 60.0},
        within_s=None,
        root=True,
    ),
    Fault("a checkpoint is truncated", _checkpoint(_truncated), (LOCAL,), repeats=2, within_s=15.0),
    Fault("a bit of a checkpoint is flipped", _checkpoint(_flipped), (LOCAL,), repeats=2, within_s=15.0),
    Fault("the journal's disk is full for 6 s", _journal_full, (LOCAL,), within_s=None, root=True),
    Fault("the journal is cut off in the middle of a write", _journal_cut_off, (LOCAL,), within_s=None, repeats=3),
]
