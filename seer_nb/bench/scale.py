"""``python -m seer_nb.bench scale``: 10 000 trials, a journal of 10 million events, 4 000 real trials."""

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


LOOK_S = 1.0
WORKERS = 2
SETTLED = 0.5
"""Share of the time in which memory may still grow: pools fill, modules are imported, logs reach their bounds."""
ATTACH = """
import sys, time
import seer_nb as seer
import seer_nb.study
begun_s = time.monotonic()
study = seer.attach("many")
attached_s = time.monotonic() - begun_s
study.best, study.status
print(attached_s, time.monotonic() - begun_s)
"""


def journal(*, quick: bool) -> list[Figure]:
    """A journal of many events: made, opened without and with a snapshot, and attached to in a fresh process."""
    n_records, n_trials, n_workers = (200_000, 500, 100) if quick else (10_000_000, 10_000, 2000)
    with temporary_home() as home:
        folder = home / "many"
        folder.mkdir()
        files.write_atomically(folder / layout.PARTS, dumps_parts(policy=RandomSearch()), private=True)
        path = folder / layout.JOURNAL
        begun_s, rest = time.monotonic(), journal_writer.SNAPSHOT_EVERY - 1
        stream = _large.make(path, n_records - rest, rest, n_trials, n_workers)
        made_s = time.monotonic() - begun_s
        first_s = _timed(lambda: _snapshot(folder))
        # The worst that can be: another snapshot would be written at the next event.
        again = Journal(path)
        _large.append(again, stream, rest)
        view = JournalView(again)
        open_s = _timed(view.state)
        size = snapshot.path_of(again).stat().st_size
        again.close()
        attach_s, best_s = _attached()
        second_s = _timed(lambda: _snapshot(folder))
        return [
            Figure("events in the journal", view.seq),
            Figure("writing them, in batches", made_s, "s"),
            Figure("journal", path.stat().st_size / 1e6, "MB"),
            Figure("snapshot", size / 1e6, "MB"),
            Figure("the first snapshot: all events are read", first_s, "s"),
            Figure("opening: snapshot, and the most events that can follow it", open_s, "s", most=5),
            Figure("the next snapshot, by a process of its own", second_s, "s"),
            Figure("attach in a fresh process", attach_s, "s", most=2),
            Figure("... and its best trial and status", best_s, "s"),
        ]


def _snapshot(folder: Path) -> None:
    """As the runner has it done."""
    subprocess.run([sys.executable, "-m", "seer_nb.runner.journal_writer", str(folder)], check=True)


def _attached() -> tuple[float, float]:
    told = subprocess.run([sys.executable, "-c", ATTACH], check=True, capture_output=True, text=True).stdout
    attach_s, best_s = map(float, told.split())
    return attach_s, best_s


def real(*, quick: bool) -> list[Figure]:
    """Many short trials on two workers: what memory do the runner and the workers have over time?"""
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
        seen = _watched(study, home / "bench")
        state = JournalView(Journal(home / "bench" / layout.JOURNAL)).state()
        full = sum(len(trial.curve) == 10 for trial in state.trials.values())  # noqa: PLR2004 - max_epochs
    figures = [Figure("short trials with all 10 reports", full, least=n_trials), Figure("in", state.now_s, "s")]
    for who, samples in seen.items():
        late = samples[int(SETTLED * len(samples)) :]
        per_1000 = (late[-1] - late[0]) / (1 - SETTLED) * 1000 / n_trials
        figures += [
            Figure(f"{who}: memory at the end", samples[-1], "MB"),
            # A few seconds are not enough to tell growth from a start.
            Figure(f"{who}: growth, by the second half", per_1000, "MB/1000 trials", most=None if quick else 30),
        ]
    return figures


def _watched(study: Any, folder: Path) -> dict[str, list[float]]:
    """MB of the runner, and of the workers, until the study has ended."""
    seen: dict[str, list[float]] = {"runner": [], "its workers": []}
    while True:
        try:
            study.wait(timeout=LOOK_S)
        except TimeoutError:
            _look(runner_pid(folder), seen)
        else:
            return seen


def _look(pid: int | None, seen: dict[str, list[float]]) -> None:
    try:
        runner = psutil.Process(pid) if pid else None
        if runner is None:
            return
        below = sorted(child.memory_info().rss for child in runner.children(recursive=True))
        if len(below) >= WORKERS:
            seen["runner"].append(runner.memory_info().rss / 1e6)
            # The largest: not those that come and go, such as the one that writes snapshots.
            seen["its workers"].append(sum(below[-WORKERS:]) / 1e6)
    except psutil.Error:
        pass  # one of them has just ended


def _timed(what: Callable[[], object]) -> float:
    gc.collect()
    begun_s = time.monotonic()
    what()
    return time.monotonic() - begun_s


PARTS: dict[str, Part] = {
    "wide": lambda options: wide(quick=options.quick),
    "journal": lambda options: journal(quick=options.quick),
    "real": lambda options: real(quick=options.quick),
}


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = command(commands, "scale", "10 000 trials on 2 000 workers, 10 million events, flat memory", PARTS)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of all that, in a minute")
