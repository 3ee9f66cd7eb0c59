"""Train networks with random configurations, and store their learning curves as tables for policy comparisons.

Each configuration is trained with the same `Run` as in a study, on one thread. Curves depend on the seed and the torch
version, but not on other recordings. Seconds per epoch are CPU time of the thread, so other load hardly affects them.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from seer_nb._utils.randomness import seed_all
from seer_nb._utils.units import format_duration
from seer_nb.bench.tasks import TASKS
from seer_nb.errors import SeerError, StopTraining
from seer_nb.simulate.curve_files import CurveFile, Point, shipped_tables
from seer_nb.worker.agent import GangSignals
from seer_nb.worker.checkpointing import CheckpointManager
from seer_nb.worker.messages import MemberTask
from seer_nb.worker.run import Run

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from seer_nb.core import Config, Reported


__all__ = ["record", "shipped_tables", "summary"]

OUT = Path("curves")
SAVE_S = 5.0
"""Seconds between two saves: the work that a kill can lose. Ctrl-C loses only the trial in progress."""
SHOW_S, SHOW_LOG_S = 0.2, 30.0
"""Seconds between two progress lines, on a terminal and elsewhere."""
BAR_WIDTH = 30
INTERRUPTED = 130


def record(  # noqa: PLR0913 - options of the command
    name: str,
    out: Path = OUT,
    *,
    configurations: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    processes: int = 1,
) -> Path:
    """Record the curves of one task; curves that its file already holds are not trained again.

    Args:
        name: Name of a task in `TASKS`.
        out: Folder of the table, created if needed.
        configurations: Number of configurations; None for the task's default.
        epochs: Maximum epochs per configuration, and the length of schedules; None for the task's default.
        seed: Seed of configurations and training; default 0.
        processes: Number of processes that train in parallel, each on one thread; default 1.

    Returns:
        The path of the table.

    Raises:
        SeerError: The existing file was recorded with other settings, or pyarrow is missing.
    """
    task = TASKS[name]
    wanted = task.configurations if configurations is None else configurations
    epochs = task.max_epochs if epochs is None else epochs
    out.mkdir(parents=True, exist_ok=True)
    file = CurveFile(out / f"{name}.parquet", task, epochs, seed)
    jobs = [Job(name, n, file.config(n), epochs, file.seed) for n in range(wanted) if n not in file.curves]
    progress = Progress(name, wanted - len(jobs), wanted)
    saved_s = time.monotonic()
    try:
        with contextlib.closing(_train_all(jobs, processes)) as curves:
            for number, curve in curves:
                file.curves[number] = curve
                progress.advance()
                if time.monotonic() > saved_s + SAVE_S:
                    file.save()
                    saved_s = time.monotonic()
    finally:
        progress.close()
        if jobs:
            file.save()
    return file.path


class Job(NamedTuple):
    """One configuration to train."""

    task: str
    number: int
    config: Config
    epochs: int
    seed: int


def train(job: Job) -> tuple[int, list[Point]]:
    """Train one configuration; return its number and its curve, which ends on divergence."""
    task = TASKS[job.task]
    curve: list[Point] = []

    def keep(report: Reported) -> None:
        value, test_value = (_float(v) for v in (report.value, report.metrics[f"test_{task.metric}"]))
        curve.append(Point(value, test_value, time.thread_time() - run.epoch_started_s))
        if math.isnan(value):
            raise StopTraining

    order = MemberTask(
        gang=0,
        trial=job.number,
        config=job.config,
        rank=0,
        world_size=1,
        store_host="",
        store_port=0,
        from_epoch=0,
        checkpoint=None,
        until=job.epochs,
        max_epochs=job.epochs,
        metric=task.metric,
        seed=job.seed,
        store="",
    )
    run = _Timed(order, _NoCheckpoints(order, None), None, keep, GangSignals(), time.monotonic())
    seed_all(order.seed, order.trial)
    with contextlib.suppress(StopTraining):
        task.train(job.config, run)
    return job.number, curve


def summary(path: Path) -> str:
    """Return one line of statistics about a table's curves."""
    import pandas as pd

    from seer_nb.simulate.curve_files import metadata

    about = metadata(path)
    wide = pd.read_parquet(path).pivot_table(index="trial", columns="epoch", values="value", dropna=False)
    sign = 1 if about["mode"] == "min" else -1
    losses = (sign * wide).fillna(math.inf)
    bests = losses.min(axis=1)
    ranks = losses.rank()
    first, last = ranks.columns[0], ranks.columns[-1]
    return (
        f"{path}: {len(wide)} configurations x {last} epochs, {path.stat().st_size / 1000:.0f} kB; {about['metric']} "
        f"best {sign * bests.min():.4g}, median {sign * bests.median():.4g}; "
        f"{100 * wide.isna().any(axis=1).mean():.1f} % diverged; "
        f"rank correlation of epoch {first} with {last}: {ranks[first].corr(ranks[last]):.2f}"
    )


class Progress:
    """A progress line on stderr: updated in place on a terminal, printed at intervals elsewhere."""

    def __init__(self, name: str, done: int, total: int, sink: TextIO | None = None) -> None:
        self._name, self._done, self._total = name, done, total
        self._before = done
        self._sink = sys.stderr if sink is None else sink
        self._in_place = self._sink.isatty()
        self._started_s = self._shown_s = time.monotonic()
        self._width = 0

    def __str__(self) -> str:
        """The line."""
        full = BAR_WIDTH * min(self._done, self._total) // self._total
        elapsed_s = time.monotonic() - self._started_s
        trained = self._done - self._before
        left_s = elapsed_s / trained * (self._total - self._done) if trained else None
        times = f", {format_duration(elapsed_s)}" if trained else ""
        left = f", about {format_duration(left_s)} left" if left_s else ""
        return f"{self._name} [{'#' * full}{'.' * (BAR_WIDTH - full)}] {self._done}/{self._total}{times}{left}"

    def advance(self, count: int = 1) -> None:
        """Count finished configurations and show the progress if due."""
        self._done += count
        if time.monotonic() > self._shown_s + (SHOW_S if self._in_place else SHOW_LOG_S):
            self._show()

    def close(self) -> None:
        """Show the final state and end the line."""
        self._show()
        if self._in_place:
            print(file=self._sink, flush=True)

    def _show(self) -> None:
        line = str(self)
        if self._in_place:
            print(f"\r{line:<{self._width}}", end="", file=self._sink, flush=True)
        else:
            print(line, file=self._sink, flush=True)
        self._width, self._shown_s = len(line), time.monotonic()


class _Timed(Run):
    """Run that stores the thread's CPU time at the start of each epoch."""

    epoch_started_s = 0.0

    def epochs(self) -> Iterator[int]:
        """Yield the epochs of the run."""
        for epoch in super().epochs():
            self.epoch_started_s = time.thread_time()
            yield epoch


class _NoCheckpoints(CheckpointManager):
    """Checkpoint manager that stores nothing."""

    has_state = False


def _train_all(jobs: list[Job], processes: int) -> Generator[tuple[int, list[Point]]]:
    """Yield (number, curve) as configurations finish."""
    if processes == 1:
        _use_one_thread()
        yield from map(train, jobs)
        return
    count = max(1, min(processes, len(jobs)))
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_init_worker) as pool:
        curves = [pool.submit(train, job) for job in jobs]
        try:
            for curve in as_completed(curves):
                yield curve.result()
        except BrokenProcessPool as error:
            raise SeerError(
                "a training process died (out of memory?); run the same command again to continue"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _init_worker() -> None:
    # Ctrl-C reaches the whole process group; only the parent reacts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _use_one_thread()


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _float(value: float | None) -> float:
    return math.nan if value is None else value


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("record", help="train networks with random configurations and store their curves")
    parser.add_argument(
        "--task", action="append", choices=[*TASKS], default=None, help="task to record; may be repeated; default: all"
    )
    parser.add_argument(
        "--configurations",
        type=_positive,
        default=None,
        metavar="N",
        help="number of configurations; default: of the task",
    )
    parser.add_argument(
        "--epochs", type=_positive, default=None, metavar="R", help="maximum epochs; default: of the task"
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="DIR", help="folder of the tables; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed; default: %(default)s")
    parser.add_argument(
        "--processes", type=_positive, default=1, metavar="P", help="parallel processes; default: %(default)s"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        for name in dict.fromkeys(options.task or TASKS):
            path = record(
                name,
                options.out,
                configurations=options.configurations,
                epochs=options.epochs,
                seed=options.seed,
                processes=options.processes,
            )
            print(summary(path), flush=True)
    except (SeerError, OSError) as error:
        print(f"record: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"record: interrupted; finished curves are in {options.out}; run the same command again to continue",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer >= 1")
    return int(text)
