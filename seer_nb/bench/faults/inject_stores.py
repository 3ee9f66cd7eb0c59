"""Faults of the store and the journal: full, read-only, unreachable, damaged, truncated."""

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


UNREACHABLE_S = 30.0
SHORT_S = 6.0
SIZE = "24m"


def _mounted(case: Case, name: str) -> Path:
    """Mount a small file system and return its folder."""
    folder = case.folder / name
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder))
    case.stack.callback(_run, "umount", "-l", str(folder))
    return folder


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _with_store(harm: Callable[[Case, Path], None], *, then_kill: bool = False) -> Callable[[Case], None]:
    def inject(case: Case) -> None:
        store = _mounted(case, "store")
        case.make(str(store))
        case.start()
        gang = case.training_gang()
        case.wait_randomly()
        case.record_fault(gang.trial)
        if then_kill:
            kill(case.worker(gang.workers[0]))
        harm(case, store)

    return inject


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
    # The remount fails while a file is open for writing.
    command = ("mount", "-o", "remount,ro", str(store))
    while subprocess.run(command, check=False, capture_output=True).returncode:
        time.sleep(0.01)
    time.sleep(SHORT_S)
    _run("mount", "-o", "remount,rw", str(store))


def _unreachable(_: Case, store: Path) -> None:
    """Cover the store with an empty read-only file system."""
    _run("mount", "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs", str(store))
    time.sleep(UNREACHABLE_S)
    _run("umount", "-l", str(store))


def _checkpoint(damage: Callable[[Path], None]) -> Callable[[Case], None]:
    """Return a fault that damages a trial's latest checkpoint and kills its worker, so that the checkpoint is read."""

    def inject(case: Case) -> None:
        case.start()
        gang = case.training_gang()
        pid = case.worker(gang.workers[0])
        case.wait_randomly()
        # Suspend the worker, so that it stores no newer checkpoint.
        kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        resume = case.state.trials[gang.trial].resume
        assert resume is not None
        assert resume.checkpoint
        damage(case.folder / "studies" / "study" / layout.CHECKPOINTS / resume.checkpoint)
        case.record_fault(gang.trial)
        kill(pid)

    return inject


def _truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _journal_full(case: Case) -> None:
    """Fill the disk of the study's folder for a while."""
    home = _mounted(case, "studies")
    case.make(str(case.folder / "store"))
    case.start()
    gang = case.training_gang()
    case.wait_randomly()
    case.record_fault(gang.trial)
    _full(case, home)


def _journal_truncated(case: Case) -> None:
    """Simulate a power failure during a journal write: truncate the write-ahead log."""
    case.start()
    case.training_gang()
    pid = case.runner()
    case.wait_randomly()
    kill(pid)
    case.until(lambda: case.study.status == "interrupted", "the runner's exit")
    case.record_fault()
    # After a power failure no reader has the journal open.
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
    Fault("the store is unreachable for 30 s", _with_store(_unreachable), (LOCAL,), {"deadline_s": 90.0}, root=True),
    Fault(
        "the store is unreachable for 30 s, and a worker is killed",
        _with_store(_unreachable, then_kill=True),
        (LOCAL,),
        {"deadline_s": 120.0, "report_timeout": 60.0},
        within_s=None,
        root=True,
    ),
    Fault("a checkpoint is truncated", _checkpoint(_truncated), (LOCAL,), repeats=2, within_s=15.0),
    Fault("a bit of a checkpoint is flipped", _checkpoint(_flipped), (LOCAL,), repeats=2, within_s=15.0),
    Fault("the journal's disk is full for 6 s", _journal_full, (LOCAL,), within_s=None, root=True),
    Fault("the journal is truncated during a write", _journal_truncated, (LOCAL,), within_s=None, repeats=3),
]
