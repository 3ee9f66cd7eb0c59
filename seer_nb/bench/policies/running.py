"""Simulates studies on all cores and stores each result, so that an interrupted command can continue."""

from __future__ import annotations

import csv
import hashlib
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import seer_nb
from seer_nb.bench.policies.grid import CONTENDERS, EPOCH_S, PRICE_PER_HOUR, Cell, speedup
from seer_nb.simulate import CurveTable, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seer_nb.core import Mode, Plan, PolicyView
    from seer_nb.core.policy import Policy


CHUNK = 8
"""Studies per task of the process pool."""
KEYS = ("contender", "setting", "table", "mode", "crossed", "deadline", "budget", "speedup", "boot_s", "seed", "code")
"""Columns that identify a study."""
FIGURES = (
    *("regret", "value", "spent", "time", "n_trials", "epochs", "peak_workers", "violated"),
    *("decisions", "decide_s", "decide_most_s"),
)
"""Columns with a study's results."""


class Job(NamedTuple):
    """One study to simulate."""

    contender: str
    setting: str
    table: str
    """Path of the file."""
    mode: Mode
    crossed: bool
    cell: Cell
    seed: int

    def key(self, code: str) -> tuple[str, ...]:
        """Return the values of ``KEYS`` as text."""
        given = (self.contender, self.setting, self.table, self.mode, int(self.crossed), *self.cell, self.seed, code)
        return tuple(map(str, given))


class Timed:
    """A policy that times its decisions."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.seconds: list[float] = []

    def __repr__(self) -> str:
        return repr(self._policy)

    def decide(self, view: PolicyView) -> Plan:
        begun_s = time.perf_counter()
        plan = self._policy.decide(view)
        self.seconds.append(time.perf_counter() - begun_s)
        return plan


@cache
def table_of(path: str, mode: Mode, *, crossed: bool) -> CurveTable:
    """Return a file's curves, scaled to ``EPOCH_S``."""
    table = CurveTable.read(path, mode).scaled(EPOCH_S)
    return table.crossed() if crossed else table


def reference(table: CurveTable) -> float:
    """Return the best value of the median configuration, which stands for no search."""
    import numpy as np

    worst = np.inf if table.mode == "min" else -np.inf
    finite = np.where(np.isfinite(table.values), table.values, worst)
    return float(np.median(finite.min(axis=1) if table.mode == "min" else finite.max(axis=1)))


def regret(table: CurveTable, value: float | None) -> float:
    """Return the regret of a value: 0 at the table's best, 1 at the reference or beyond."""
    if value is None:
        return 1.0
    return min(1.0, max(0.0, (value - table.best) / (reference(table) - table.best)))


def simulate(job: Job) -> dict[str, Any]:
    """Simulate one study and return the columns ``FIGURES``; money and time as shares of the limits."""
    table, cell = table_of(job.table, job.mode, crossed=job.crossed), job.cell
    whole_s = table.max_epochs * EPOCH_S
    deadline_s, budget = cell.deadline * whole_s, cell.budget * whole_s * PRICE_PER_HOUR / 3600
    make = next(setting.make for setting in CONTENDERS[job.contender] if setting.name == job.setting)
    policy = Timed(make())
    found = run(
        table,
        policy,
        deadline=deadline_s,
        budget=budget,
        epoch_seconds=EPOCH_S,
        speedup=speedup(cell.speedup),
        offer=cell.offer(),
        seed=job.seed,
    )
    return {
        "regret": regret(table, found.best_value),
        "value": found.best_value,
        "spent": found.spent_usd / budget,
        "time": found.elapsed_s / deadline_s,
        "n_trials": found.n_trials,
        "epochs": found.epochs,
        "peak_workers": found.peak_workers,
        "violated": int(found.violated),
        "decisions": len(policy.seconds),
        "decide_s": sum(policy.seconds),
        "decide_most_s": max(policy.seconds, default=0.0),
    }


def run_all(jobs: Sequence[Job], path: Path, processes: int, advance: Callable[[int], None]) -> None:
    """Simulate the studies that the file does not hold, and append one row each.

    Args:
        jobs: All studies.
        path: Path of the csv file; created if missing.
        processes: Number of processes.
        advance: Called with the number of further studies done.
    """
    code = version()
    known = {tuple(row[key] for key in KEYS) for row in _rows(path)}
    todo = [job for job in jobs if job.key(code) not in known]
    advance(len(jobs) - len(todo))
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow((*KEYS, *FIGURES))
        for chunk, found in _simulated(chunks, processes):
            for job, figures in zip(chunk, found, strict=True):
                writer.writerow((*job.key(code), *(figures[name] for name in FIGURES)))
            file.flush()
            advance(len(chunk))


@cache
def version() -> str:
    """Return a hash of the code that affects results, so that rows of other code are not reused."""
    root = Path(seer_nb.__file__).parent
    parts = [*(root / "core").glob("*.py"), *(root / "policies").rglob("*.py"), *(root / "simulate").glob("*.py")]
    digest = hashlib.sha256()
    for path in sorted([*parts, root / "search_space" / "surrogate.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames != [*KEYS, *FIGURES]:
                raise ValueError(f"{path}: written by another version; expected another --out")
            # The last line may have been cut off.
            yield from (row for row in rows if None not in row.values())


def _simulated(chunks: list[list[Job]], processes: int) -> Iterator[tuple[list[Job], list[dict[str, Any]]]]:
    if processes == 1:
        yield from ((chunk, run_chunk(chunk)) for chunk in chunks)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_chunk, chunk): chunk for chunk in chunks}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def run_chunk(jobs: list[Job]) -> list[dict[str, Any]]:
    """Simulate jobs one after the other, in one process."""
    return [simulate(job) for job in jobs]
