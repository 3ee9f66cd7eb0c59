"""``python -m seer_nb.bench scale``: measure 10 000 simulated trials, 10 million events and 4 000 real trials."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil

import seer_nb as seer
from seer_nb._utils import files
from seer_nb.bench import _large, _workloads
from seer_nb.bench._figures import Figure, Part, command
from seer_nb.bench._large import wide
from seer_nb.bench._studies import temporary_home
from seer_nb.policies import RandomSearch
from seer_nb.runner import journal_writer
from seer_nb.storage import layout, snapshot
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import runner_pid
from seer_nb.storage.replay import JournalView
from seer_nb.study.serialization import dumps_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


POLL_S = 1.0
WORKERS = 2
WARM_UP_SHARE = 0.5
"""Share of the samples to skip, in which imports and pools still grow."""
ATTACH = """
import sys, time
import seer_nb as seer
import seer_nb.study
started_s = time.monotonic()
study = seer.attach("many")
attached_s = time.monotonic() - started_s
study.best, study.status
print(attached_s, time.monotonic() - started_s)
"""


def journal(*, quick: bool) -> list[Figure]:
    """Measure the journal of a large study, 2 000 trials x 100 epochs, and one of 10 million events."""
    figures = _journal(200_000, n_trials=2000, n_workers=100, attach_within_s=2.0)
    # A snapshot is one msgpack message, so that attaching to the longest journals takes as long as reading it.
    return figures if quick else [*figures, *_journal(10_000_000, n_trials=10_000, n_workers=2000)]


def _journal(n_records: int, *, n_trials: int, n_workers: int, attach_within_s: float | None = None) -> list[Figure]:
    """Measure a journal: writing, opening without and with a snapshot, and attaching in a new process."""
    with temporary_home() as home:
        folder = home / "many"
        folder.mkdir()
        files.write_atomically(folder / layout.PARTS, dumps_parts(policy=RandomSearch()), private=True)
        path = folder / layout.JOURNAL
        started_s, rest = time.monotonic(), journal_writer.SNAPSHOT_EVERY - 1
        stream = _large.write_long_journal(path, n_records - rest, rest, n_trials, n_workers)
        made_s = time.monotonic() - started_s
        first_s = _seconds_of(lambda: _snapshot(folder))
        # Worst case: one more event would trigger the next snapshot.
        again = Journal(path)
        _large.append_records(again, stream, rest)
        view = JournalView(again)
        open_s = _seconds_of(view.state)
        size = snapshot.path_of(again).stat().st_size
        again.close()
        attach_s, best_s = _attached()
        second_s = _seconds_of(lambda: _snapshot(folder))
        return [
            Figure("events in the journal", view.seq),
            Figure("writing all events in batches", made_s, "s"),
            Figure("journal", path.stat().st_size / 1e6, "MB"),
            Figure("snapshot", size / 1e6, "MB"),
            Figure("first snapshot, which reads all events", first_s, "s"),
            Figure("opening: snapshot and the largest number of later events", open_s, "s", most=5),
            Figure("next snapshot, in its own process", second_s, "s"),
            Figure("attach in a new process", attach_s, "s", most=attach_within_s),
            Figure("... with best trial and status", best_s, "s"),
        ]


def _snapshot(folder: Path) -> None:
    """Write a snapshot in a new process, as the runner does."""
    subprocess.run([sys.executable, "-m", "seer_nb.runner.journal_writer", str(folder)], check=True)


def _attached() -> tuple[float, float]:
    output = subprocess.run([sys.executable, "-c", ATTACH], check=True, capture_output=True, text=True).stdout
    attach_s, best_s = map(float, output.split())
    return attach_s, best_s


def real(*, quick: bool) -> list[Figure]:
    """Measure the memory of the runner and the workers during many short trials."""
    n_trials = 60 if quick else 4000
    with temporary_home() as home:
        study = seer.Study(
            _workloads.noop,
            {"x": seer.choice(range(1, n_trials + 1))},
            metric="loss",
            mode="min",
            max_epochs=10,
            deadline="20min",
            budget="$1",
            provider=seer.Local(max_workers=WORKERS),
            policy="random_search",
            name="bench",
        ).start()
        seen = _memory_samples(study, home / "bench")
        state = JournalView(Journal(home / "bench" / layout.JOURNAL)).state()
        full = sum(len(trial.curve) == 10 for trial in state.trials.values())  # noqa: PLR2004 - max_epochs
    figures = [
        Figure("short trials with all 10 reports", full, least=n_trials),
        Figure("time for all trials", state.now_s, "s"),
    ]
    for who, samples in seen.items():
        late = samples[int(WARM_UP_SHARE * len(samples)) :]
        per_1000 = (late[-1] - late[0]) / (1 - WARM_UP_SHARE) * 1000 / n_trials
        figures += [
            Figure(f"{who}: memory at the end", samples[-1], "MB"),
            # A quick run is too short to separate growth from start-up.
            Figure(f"{who}: growth in the second half", per_1000, "MB/1000 trials", most=None if quick else 30),
        ]
    return figures


def _memory_samples(study: Any, folder: Path) -> dict[str, list[float]]:
    """Sample the memory of the runner and of the workers in MB until the study ends."""
    seen: dict[str, list[float]] = {"runner": [], "its workers": []}
    while True:
        try:
            study.wait(timeout=POLL_S)
        except TimeoutError:
            _sample_memory(runner_pid(folder), seen)
        else:
            return seen


def _sample_memory(pid: int | None, seen: dict[str, list[float]]) -> None:
    try:
        runner = psutil.Process(pid) if pid else None
        if runner is None:
            return
        below = sorted(child.memory_info().rss for child in runner.children(recursive=True))
        if len(below) >= WORKERS:
            seen["runner"].append(runner.memory_info().rss / 1e6)
            # Take the largest processes: short-lived ones, such as the snapshot writer, do not count.
            seen["its workers"].append(sum(below[-WORKERS:]) / 1e6)
    except psutil.Error:
        pass  # a process has just exited


def _seconds_of(what: Callable[[], object]) -> float:
    gc.collect()
    started_s = time.monotonic()
    what()
    return time.monotonic() - started_s


PARTS: dict[str, Part] = {
    "wide": lambda options: wide(quick=options.quick),
    "journal": lambda options: journal(quick=options.quick),
    "real": lambda options: real(quick=options.quick),
}


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = command(commands, "scale", "10 000 trials on 2 000 workers, 10 million events, flat memory", PARTS)
    parser.add_argument("--quick", action="store_true", help="run a fiftieth of the work, in about a minute")
