"""Run a study in a temporary folder, and read the times of its events from the journal."""

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


POLL_S = 0.25
"""Seconds between two reads of the runner's memory."""


class Outcome(NamedTuple):
    """The outcome of a study."""

    state: State
    entries: tuple[Entry, ...]
    """All records with their times."""
    peak_mb: float
    """Peak memory of the runner's process in MB (10^6 bytes)."""
    checkpoint_mb: float
    """Size of the largest stored checkpoint in MB."""


class GangTimes(NamedTuple):
    """The times of one gang, in study seconds."""

    start: core.StartGang
    started_s: float
    """Time at which the runner decided to start it."""
    step_s: float
    """Start of its first step."""
    stop_s: float | None
    """Time at which the runner decided to stop it; None if it did not."""
    trained_s: float
    """End of its last epoch."""
    reported_s: float
    """Arrival of its last report, after its checkpoint was stored."""

    @property
    def parallelism(self) -> int:
        """Number of workers."""
        return len(self.start.workers)


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """Set SEER_HOME to a temporary folder."""
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


def run(  # noqa: PLR0913 - arguments of a study
    train: Callable[..., Any],
    space: dict[str, Any],
    *,
    max_epochs: int,
    deadline: str,
    policy: str | Policy,
    workers: int = 2,
) -> Outcome:
    """Run a study on this computer to its end; its metric is "loss"."""
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


def read(folder: Path, peak_mb: float = 0.0) -> Outcome:
    """Read the outcome from a study's folder."""
    journal = Journal(folder / layout.JOURNAL)
    try:
        stored = [path.stat().st_size for path in (folder / layout.CHECKPOINTS).rglob("*") if path.is_file()]
        return Outcome(JournalView(journal).state(), tuple(journal.read()), peak_mb, max(stored, default=0) / 1e6)
    finally:
        journal.close()


def gang_times(ran: Outcome) -> list[GangTimes]:
    """Return the gangs that reported, in order of their start."""
    starts = {e.record.gang: (e.record, e.at_s) for e in ran.entries if isinstance(e.record, core.StartGang)}
    stops = {e.record.gang: e.at_s for e in ran.entries if isinstance(e.record, core.StopGang)}
    reports: dict[int, list[tuple[float, core.Reported]]] = {}
    for entry in ran.entries:
        if isinstance(entry.record, core.Reported):
            reports.setdefault(entry.record.gang, []).append((entry.at_s, entry.record))
    found = []
    for gang, (start, started_s) in starts.items():
        if gang in reports:
            (first_s, first), (last_s, last) = reports[gang][0], reports[gang][-1]
            step_s = first_s - first.seconds - first.save_s
            found.append(GangTimes(start, started_s, step_s, stops.get(gang), last_s - last.save_s, last_s))
    return found


def _wait(study: Study, folder: Path) -> float:
    peak_mb = 0.0
    while True:
        try:
            study.wait(timeout=POLL_S)
        except TimeoutError:
            pid = runner_pid(folder)
            peak_mb = max(peak_mb, _memory_mb(pid) if pid else 0.0)
        else:
            return peak_mb


def _memory_mb(pid: int) -> float:
    """Return a process's peak memory in MB, or its current memory where the peak is unknown."""
    import psutil

    try:
        status = Path(f"/proc/{pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(peak.split()[1]) * 1024 / 1e6
        return float(psutil.Process(pid).memory_info().rss / 1e6)
    except (OSError, StopIteration, psutil.Error):
        return 0.0  # the process has exited


TIMES = 5
_IMPORT = """
import sys, time
started = time.perf_counter()
{statement}
print(time.perf_counter() - started, int("torch" in sys.modules))
"""


def startup(times: int = TIMES) -> list[Figure]:
    """Measure imports and ``seer-nb --help`` in new processes."""
    figures = []
    for statement in ("import seer_nb", "from seer_nb import Study, loguniform, Local"):
        seconds, torch = zip(*(_imported(statement) for _ in range(times)), strict=True)
        figures += [
            Figure(f"{statement}, median of {times}", median(seconds), "s", most=1.5),
            Figure("... imports of torch caused by it", sum(torch), most=0),
        ]
    help_s = [_wall_s([*command(), "--help"]) for _ in range(times)]
    bare_s = [_wall_s([sys.executable, "-c", "pass"]) for _ in range(times)]
    return [
        *figures,
        Figure(f"seer-nb --help, whole process, median of {times}", median(help_s), "s", most=1),
        Figure(f"python without a program, median of {times}", median(bare_s), "s"),
    ]


def _imported(statement: str) -> tuple[float, int]:
    """Return the seconds of an import, and 1 if it imported torch."""
    code = _IMPORT.format(statement=statement)
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return float(output[0]), int(output[1])


def command() -> list[str]:
    """Return the installed command, or an equivalent one."""
    beside = Path(sys.executable).with_name("seer-nb")
    found = str(beside) if beside.exists() else shutil.which("seer-nb")
    return [found] if found else [sys.executable, "-c", "import sys; from seer_nb.ui.cli import main; sys.exit(main())"]


def _wall_s(command: Sequence[str]) -> float:
    started_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started_s


class Waiting(RegressorMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no annotations
    """Estimator that sleeps in ``fit`` and predicts the mean."""

    def __init__(self, seconds: float = 0.5, place: int = 0) -> None:
        self.seconds, self.place = seconds, place

    def fit(self, _: Any, y: Any) -> Waiting:
        """Sleep, then store the mean of the targets."""
        time.sleep(self.seconds)
        self.mean_ = y.mean(axis=0)
        return self

    def predict(self, x: Any) -> Any:
        """Return the mean for every sample."""
        import numpy as np

        return np.tile(self.mean_, (len(x), 1))
