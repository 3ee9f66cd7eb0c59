"""``python -m seer_nb.bench faults``: run real studies with injected faults and measure what was lost."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb.bench.faults import table
from seer_nb.bench.faults.case import LIMIT_S
from seer_nb.bench.faults.catalog import FAULTS, missing, pairs
from seer_nb.bench.faults.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.bench.faults.fault import Fault


__all__ = ["add"]


OUT = Path("faults.csv")
SPARE_S = 60.0
"""Seconds to clean up a study after its time limit."""
Task = tuple[str, str, int]
"""A study to run: (fault, where, seed)."""
ABOUT = """
Run real studies on this computer and on a loopback cloud, and inject one fault into each. For each study, measure what
was lost: repeated epochs, missing reports, money, time, leftover processes.

The promises: spending never exceeds the budget; no machine runs more than 2 s past the deadline; no report is lost; no
process is left over; each affected gang repeats at most one epoch; training continues within 10 s after the loss of a
worker, or within 20 s if a machine must be rented.
"""
EXAMPLES = """
examples:
  %(prog)s --list                                        list the faults and their requirements
  %(prog)s --only "the runner is killed" --times 1       run one fault once
  %(prog)s --only clock --only suspended --where local   run the faults with a word in their names
  %(prog)s --times 20 --pairs 60 --nice 10 &             run all faults in the background (takes hours)
  %(prog)s --times 0 --markdown docs/faults.md           run no study, only write the table

Ctrl-C (or SIGTERM) stops the campaign after the running studies; a second Ctrl-C stops it at once. Run it again with
the same --out to continue. The exit code is 1 if a promise was broken.
"""


def add(commands: Any) -> None:
    """Add the subcommand ``faults``."""
    parser = commands.add_parser(
        "faults",
        help="run real studies with injected faults and measure what was lost",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--times", type=int, default=10, help="studies per fault; default: %(default)s")
    parser.add_argument("--pairs", type=int, default=0, help="studies with two random faults; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pairs; default: %(default)s")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORDS",
        help="run only faults whose names contain WORDS; may be repeated",
    )
    parser.add_argument("--where", choices=["local", "cloud"], default=None, help="where studies run; default: both")
    parser.add_argument("--jobs", type=int, default=1, help="studies in parallel; default: %(default)s")
    parser.add_argument("--nice", type=int, default=0, help="niceness to add; studies then take longer")
    parser.add_argument("--minutes", type=float, default=None, help="start no study after this many minutes")
    parser.add_argument("--out", type=Path, default=OUT, help="csv file to append to; default: %(default)s")
    parser.add_argument("--markdown", type=Path, default=None, metavar="FILE", help="write a Markdown page too")
    parser.add_argument("--list", action="store_true", help="list the faults and exit")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.list:
        print("\n".join(_describe(fault) for fault in _selected(options)))
        return 0
    known = {(row.fault, row.where, row.seed) for row in table.read(options.out)}
    todo = [task for task in _tasks(options) if task not in known]
    for fault in _selected(options):
        if missing(fault):
            print(f"skipped, needs {missing(fault)}: {fault.name}")
    if todo:
        _run_tasks(todo, options)
    rows = table.read(options.out)
    print(table.markdown(rows))
    if options.markdown is not None:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(table.page(rows))
    return 1 if any(row.wrong for row in rows) else 0


def _run_tasks(todo: list[Task], options: argparse.Namespace) -> None:
    os.nice(options.nice)
    with _stop_event(options.minutes) as stop, ThreadPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(run_study, task, stop) for task in todo]):
            row = done.result()
            if row is not None:
                table.append(options.out, row)
                print(table.line(row), flush=True)


@contextlib.contextmanager
def _stop_event(minutes: float | None) -> Iterator[threading.Event]:
    """Yield an event that is set after ``minutes``, or on the first SIGINT or SIGTERM."""
    stop = threading.Event()
    timer = threading.Timer(threading.TIMEOUT_MAX if minutes is None else 60 * minutes, stop.set)
    timer.daemon = True
    timer.start()

    def handle(number: int, _: object) -> None:
        print("stopping after the running studies; press Ctrl-C again to stop at once", flush=True)
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe(fault: Fault) -> str:
    lacks = f" (skipped here, needs {missing(fault)})" if missing(fault) else ""
    return f"{fault.name} [{', '.join(fault.where)}]{lacks}"


def _selected(options: argparse.Namespace) -> list[Fault]:
    return [fault for fault in FAULTS if any(words in fault.name for words in options.only or [""])]


def _tasks(options: argparse.Namespace) -> list[Task]:
    """Return the studies: every fault with seed 0, then every fault with seed 1, and so on."""
    selected = [fault for fault in _selected(options) if not missing(fault)]
    single = [
        (fault.name, where, seed)
        for seed in range(options.times)
        for fault in selected
        for where in fault.where
        if options.where in {None, where}
    ]
    double = [
        (name, where, options.seed * 1000 + number)
        for number, (name, where) in enumerate(pairs(options.seed, options.pairs))
        if options.where in {None, where}
    ]
    return [*single, *double]


def run_study(task: Task, stop: threading.Event) -> Verdict | None:
    """Run a study in its own process: a process can have one cloud, and a fault may kill its process."""
    name, where, seed = task
    if stop.is_set():
        return None
    started_s = time.monotonic()
    command = [sys.executable, "-m", "seer_nb.bench.faults.run_one", name, where, str(seed)]
    # A new session: Ctrl-C must reach only the campaign, which waits for the study.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=LIMIT_S + SPARE_S)
            return Verdict(**json.loads(output.splitlines()[-1]))
        except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
            process.kill()
            took_s = time.monotonic() - started_s
            return Verdict(name, where, seed, None, 0, 0, 0, 0.0, 0, wrong=f"no verdict: {error!r}", took_s=took_s)
