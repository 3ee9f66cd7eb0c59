"""Trains real networks with random configurations, and writes their learning curves as tables to compare policies on.

Each configuration is trained through the same `Run` as in a study, on one thread, so its curve is what a study would
see. Curves depend on the seed and on torch's version, not on what was recorded before or beside. Seconds are measured:
those that the thread really ran, so that it matters little what else the machine does.
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
from seer_nb.errors import SeerError
from seer_nb.simulate.curve_files import CurveFile, Point, shipped_tables
from seer_nb.worker.agent import GangSignals
from seer_nb.worker.checkpointing import CheckpointManager
from seer_nb.worker.messages import MemberTask
from seer_nb.worker.run import Run, StopTraining

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from seer_nb.core import Config, Reported


__all__ = ["record", "shipped_tables", "summary"]

OUT = Path("curves")
SAVE_S = 5.0
"""So much work may be lost when the process is killed; none is by Ctrl-C, but the trial in progress."""
SHOW_S, SHOW_HEADLESS_S = 0.2, 30.0
"""How often the progress is shown, and where it is not shown on a terminal."""
BAR = 30
INTERRUPTED = 130


def record(  # noqa: PLR0913 - the options of the command
    name: str,
    out: Path = OUT,
    *,
    configurations: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    processes: int = 1,
) -> Path:
    """Record one task; what its file in the folder holds already is not trained again.

    Args:
        name: One of TASKS.
        out: A folder; made if need be.
        configurations: How many there shall be; None: as the task has it.
        epochs: Most epochs of each, and the length of their schedules; None: as the task has it.
        seed: Of everything.
        processes: How many train at once, each on one thread.

    Returns:
        The file.

    Raises:
        SeerError: The file there was recorded otherwise, or pyarrow is missing.
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
        with contextlib.closing(_trained(jobs, processes)) as curves:
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
    """One configuration's number and curve, which ends when it diverges."""
    task = TASKS[job.task]
    curve: list[Point] = []

    def keep(report: Reported) -> None:
        value, test_value = (_float(v) for v in (report.value, report.metrics[f"test_{task.metric}"]))
        curve.append(Point(value, test_value, time.thread_time() - run.epoch_began_s))
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
    run = _Timed(order, _Forgetful(order, None), None, keep, GangSignals(), time.monotonic())
    seed_all(order.seed, order.trial)
    with contextlib.suppress(StopTraining):
        task.train(job.config, run)
    return job.number, curve


def summary(path: Path) -> str:
    """How a file's curves are spread, in a line."""
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
    """A line on stderr: rewritten in place on a terminal, elsewhere now and then a line."""

    def __init__(self, name: str, done: int, total: int, sink: TextIO | None = None) -> None:
        self._name, self._done, self._total = name, done, total
        self._before = done
        self._sink = sys.stderr if sink is None else sink
        self._in_place = self._sink.isatty()
        self._begun_s = self._shown_s = time.monotonic()
        self._width = 0

    def __str__(self) -> str:
        """The line."""
        full = BAR * min(self._done, self._total) // self._total
        elapsed_s = time.monotonic() - self._begun_s
        trained = self._done - self._before
        left_s = elapsed_s / trained * (self._total - self._done) if trained else None
        times = f", {format_duration(elapsed_s)}" if trained else ""
        left = f", about {format_duration(left_s)} left" if left_s else ""
        return f"{self._name} [{'#' * full}{'.' * (BAR - full)}] {self._done}/{self._total}{times}{left}"

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if time.monotonic() > self._shown_s + (SHOW_S if self._in_place else SHOW_HEADLESS_S):
            self._show()

    def close(self) -> None:
        """Show the last state, and end the line."""
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
    """Knows this thread's processor time at which the epoch in progress began."""

    epoch_began_s = 0.0

    def epochs(self) -> Iterator[int]:
        """As a run's."""
        for epoch in super().epochs():
            self.epoch_began_s = time.thread_time()
            yield epoch


class _Forgetful(CheckpointManager):
    """Stores nothing: a recording has no use for checkpoints."""

    keeps = False


def _trained(jobs: list[Job], processes: int) -> Generator[tuple[int, list[Point]]]:
    """Curves, as they come."""
    if processes == 1:
        _one_thread()
        yield from map(train, jobs)
        return
    count = max(1, min(processes, len(jobs)))
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_as_worker) as pool:
        curves = [pool.submit(train, job) for job in jobs]
        try:
            for curve in as_completed(curves):
                yield curve.result()
        except BrokenProcessPool as error:
            raise SeerError("a process that trained has died (out of memory?); the same command goes on") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _as_worker() -> None:
    # Ctrl-C reaches the whole process group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _one_thread()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _float(value: float | None) -> float:
    return math.nan if value is None else value


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("record", help="train networks with random configurations and store their curves")
    parser.add_argument("--task", action="append", choices=[*TASKS], default=None, help="may be repeated; default: all")
    parser.add_argument("--configurations", type=_positive, default=None, metavar="N", help="default: as the task has")
    parser.add_argument("--epochs", type=_positive, default=None, metavar="R", help="default: as the task has")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument("--processes", type=_positive, default=1, metavar="P", help="default: %(default)s")
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
        print(f"record: interrupted; what is finished lies in {options.out}, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number from 1 on")
    return int(text)
