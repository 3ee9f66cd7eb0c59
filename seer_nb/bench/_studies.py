"""Runs a study as a user would, in a folder of its own, and reads from its journal what happened when."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from sklearn.base import BaseEstimator, RegressorMixin

from seer_nb import core
from seer_nb._utils import environment
from seer_nb.bench._figures import Figure
from seer_nb.providers import Local
from seer_nb.storage import layout
from seer_nb.storage.journal import Entry, Journal
from seer_nb.storage.lock import runner_pid
from seer_nb.storage.replay import JournalView
from seer_nb.study.study import Study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State


LOOK_S = 0.25
"""How often the runner's memory is looked at."""


class Ran(NamedTuple):
    """What a study has come to."""

    state: State
    entries: tuple[Entry, ...]
    """Every record with its time."""
    peak_mb: float
    """The most memory that the runner's process had, in MB of 10^6 bytes."""
    checkpoint_mb: float
    """Size of the largest checkpoint that was kept."""


class Piece(NamedTuple):
    """One gang's life, in study seconds."""

    start: core.StartGang
    started_s: float
    """When the runner decided to start it."""
    step_s: float
    """When its first step began."""
    told_s: float | None
    """When the runner decided to stop it; None if it did not."""
    trained_s: float
    """When its last epoch ended."""
    reported_s: float
    """When its last report, with its checkpoint stored, had come."""

    @property
    def parallelism(self) -> int:
        """Number of workers."""
        return len(self.start.workers)


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """A SEER_HOME that vanishes afterwards."""
    before = os.environ.get(environment.HOME)
    with tempfile.TemporaryDirectory(prefix="seer-bench-", ignore_cleanup_errors=True) as folder:
        os.environ[environment.HOME] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ[environment.HOME]
            else:
                os.environ[environment.HOME] = before


def run(  # noqa: PLR0913 - what a study is made of
    train: Callable[..., Any],
    space: dict[str, Any],
    *,
    max_epochs: int,
    deadline: str,
    policy: str | Policy,
    workers: int = 2,
) -> Ran:
    """Run a study on this machine until it has ended. The metric of all is a loss."""
    with temporary_home() as home:
        study = Study(
            train,
            space,
            metric="loss",
            mode="min",
            max_epochs=max_epochs,
            deadline=deadline,
            budget="$0.05",
            provider=Local(max_workers=workers),
            policy=policy,
            name="bench",
        ).start()
        peak_mb = _wait(study, home / "bench")
        return read(home / "bench", peak_mb)


def read(folder: Path, peak_mb: float = 0.0) -> Ran:
    """What the journal in a study's folder tells."""
    journal = Journal(folder / layout.JOURNAL)
    try:
        stored = [path.stat().st_size for path in (folder / layout.CHECKPOINTS).rglob("*") if path.is_file()]
        return Ran(JournalView(journal).state(), tuple(journal.read()), peak_mb, max(stored, default=0) / 1e6)
    finally:
        journal.close()


def pieces(ran: Ran) -> list[Piece]:
    """The gangs that have reported, in order of their start."""
    starts = {e.record.gang: (e.record, e.at_s) for e in ran.entries if isinstance(e.record, core.StartGang)}
    told = {e.record.gang: e.at_s for e in ran.entries if isinstance(e.record, core.StopGang)}
    reports: dict[int, list[tuple[float, core.Reported]]] = {}
    for entry in ran.entries:
        if isinstance(entry.record, core.Reported):
            reports.setdefault(entry.record.gang, []).append((entry.at_s, entry.record))
    found = []
    for gang, (start, started_s) in starts.items():
        if gang in reports:
            (first_s, first), (last_s, last) = reports[gang][0], reports[gang][-1]
            step_s = first_s - first.seconds - first.save_s
            found.append(Piece(start, started_s, step_s, told.get(gang), last_s - last.save_s, last_s))
    return found


def _wait(study: Study, folder: Path) -> float:
    peak_mb = 0.0
    while True:
        try:
            study.wait(timeout=LOOK_S)
        except TimeoutError:
            pid = runner_pid(folder)
            peak_mb = max(peak_mb, _memory_mb(pid) if pid else 0.0)
        else:
            return peak_mb


def _memory_mb(pid: int) -> float:
    """The most memory that a process has had so far; where the system does not know, what it has now."""
    import psutil

    try:
        status = Path(f"/proc/{pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(peak.split()[1]) * 1024 / 1e6
        return float(psutil.Process(pid).memory_info().rss / 1e6)
    except (OSError, StopIteration, psutil.Error):
        return 0.0  # it has just ended


TIMES = 5
_IMPORT = """
import sys, time
begun = time.perf_counter()
{statement}
print(time.perf_counter() - begun, int("torch" in sys.modules))
"""


def startup(times: int = TIMES) -> list[Figure]:
    """Imports in fresh processes, and ``seer-nb --help``."""
    figures = []
    for statement in ("import seer_nb", "from seer_nb import Study, loguniform, Local"):
        seconds, torch = zip(*(_imported(statement) for _ in range(times)), strict=True)
        figures += [
            Figure(f"{statement}, median of {times}", median(seconds), "s", most=1.5),
            Figure("... and torch was imported by it, times", sum(torch), most=0),
        ]
    help_s = [_wall_s([*command(), "--help"]) for _ in range(times)]
    bare_s = [_wall_s([sys.executable, "-c", "pass"]) for _ in range(times)]
    return [
        *figures,
        Figure(f"seer-nb --help, whole process, median of {times}", median(help_s), "s", most=1),
        Figure(f"python that does nothing, median of {times}", median(bare_s), "s"),
    ]


def _imported(statement: str) -> tuple[float, int]:
    """Seconds that an import takes, and whether torch came with it."""
    code = _IMPORT.format(statement=statement)
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), int(said[1])


def command() -> list[str]:
    """The installed command; without one, what it would run."""
    beside = Path(sys.executable).with_name("seer-nb")
    found = str(beside) if beside.exists() else shutil.which("seer-nb")
    return [found] if found else [sys.executable, "-c", "import sys; from seer_nb.ui.cli import main; sys.exit(main())"]


def _wall_s(command: Sequence[str]) -> float:
    begun_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun_s


class Waiting(RegressorMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no annotations
    """Predicts the mean after a while in which it leaves the cores to others."""

    def __init__(self, seconds: float = 0.5, place: int = 0) -> None:
        self.seconds, self.place = seconds, place

    def fit(self, _: Any, y: Any) -> Waiting:
        """Wait."""
        time.sleep(self.seconds)
        self.mean_ = y.mean(axis=0)
        return self

    def predict(self, x: Any) -> Any:
        """The mean."""
        import numpy as np

        return np.tile(self.mean_, (len(x), 1))
