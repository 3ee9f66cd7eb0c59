"""``python -m seer_nb.bench faults``: real studies in which everything goes wrong, and what was lost each time."""

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
"""What a study may take beyond its limit to be cleared away."""
Task = tuple[str, str, int]
"""(fault, where, seed)."""
ABOUT = """
Real studies, on this computer and on a cloud that it plays itself, in each of which something goes wrong; and what was
lost each time: epochs that had to be trained again, reports that are missing, money, time, processes left behind.

What is promised: never over budget; never over the deadline by more than 2 s; no report is lost; nothing is left
behind; for each gang that is struck one epoch is trained again at most; training goes on within 10 s of the loss of a
worker, where another one can be had at once, or 20 s, where a machine has to be rented.
"""
EXAMPLES = """
examples:
  %(prog)s --list                                        the faults, and what each needs
  %(prog)s --only "the runner is killed" --times 1       one of them, once
  %(prog)s --only clock --only suspended --where local   those with a word in their names
  %(prog)s --times 20 --pairs 60 --nice 10 &             all of it, in the background: hours
  %(prog)s --times 0 --markdown docs/faults.md           nothing more, only the table of what was done

It can be stopped at any time: the first Ctrl-C (or SIGTERM) lets the studies under way end, the second one does not.
Run again with the same --out, it goes on where it was. It exits with 1 if a promise was not kept.
"""


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "faults",
        help="real studies in which everything goes wrong, and what was lost",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--times", type=int, default=10, help="studies for each fault; default: %(default)s")
    parser.add_argument("--pairs", type=int, default=0, help="studies with two faults drawn at random, besides")
    parser.add_argument("--seed", type=int, default=0, help="for which pairs are drawn; default: %(default)s")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORDS", help="faults with this in their names; may be repeated"
    )
    parser.add_argument("--where", choices=["local", "cloud"], default=None, help="default: both")
    parser.add_argument("--jobs", type=int, default=1, help="studies at a time; default: %(default)s")
    parser.add_argument("--nice", type=int, default=0, help="give way to others by so much; then things take longer")
    parser.add_argument("--minutes", type=float, default=None, help="begin no study after so long")
    parser.add_argument("--out", type=Path, default=OUT, help="the table as csv, which is gone on with; %(default)s")
    parser.add_argument("--markdown", type=Path, default=None, metavar="FILE", help="also write the table as a page")
    parser.add_argument("--list", action="store_true", help="list the faults, and run none")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.list:
        print("\n".join(_described(fault) for fault in _wanted(options)))
        return 0
    known = {(row.fault, row.where, row.seed) for row in table.read(options.out)}
    todo = [task for task in _tasks(options) if task not in known]
    for fault in _wanted(options):
        if missing(fault):
            print(f"left out, for it needs {missing(fault)}: {fault.name}")
    if todo:
        _carry_out(todo, options)
    rows = table.read(options.out)
    print(table.markdown(rows))
    if options.markdown is not None:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(table.page(rows))
    return 1 if any(row.wrong for row in rows) else 0


def _carry_out(todo: list[Task], options: argparse.Namespace) -> None:
    os.nice(options.nice)
    with _until_told(options.minutes) as stop, ThreadPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(_one, task, stop) for task in todo]):
            row = done.result()
            if row is not None:
                table.append(options.out, row)
                print(table.line(row), flush=True)


@contextlib.contextmanager
def _until_told(minutes: float | None) -> Iterator[threading.Event]:
    """Set once no further study is to begin: the time is over, or somebody has said so."""
    stop = threading.Event()
    timer = threading.Timer(threading.TIMEOUT_MAX if minutes is None else 60 * minutes, stop.set)
    timer.daemon = True
    timer.start()

    def told(number: int, _: object) -> None:
        print("no further study begins; those under way are waited for (once more: they are not)", flush=True)
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _described(fault: Fault) -> str:
    lacks = f" (left out here, for it needs {missing(fault)})" if missing(fault) else ""
    return f"{fault.name} [{', '.join(fault.where)}]{lacks}"


def _wanted(options: argparse.Namespace) -> list[Fault]:
    return [fault for fault in FAULTS if any(words in fault.name for words in options.only or [""])]


def _tasks(options: argparse.Namespace) -> list[Task]:
    """Every fault once, then every fault a second time, and so on."""
    wanted = [fault for fault in _wanted(options) if not missing(fault)]
    single = [
        (fault.name, where, seed)
        for seed in range(options.times)
        for fault in wanted
        for where in fault.where
        if options.where in {None, where}
    ]
    double = [
        (name, where, options.seed * 1000 + number)
        for number, (name, where) in enumerate(pairs(options.seed, options.pairs))
        if options.where in {None, where}
    ]
    return [*single, *double]


def _one(task: Task, stop: threading.Event) -> Verdict | None:
    """In a process of its own, for a cloud is one a process, and a fault may take its own process along."""
    name, where, seed = task
    if stop.is_set():
        return None
    began_s = time.monotonic()
    command = [sys.executable, "-m", "seer_nb.bench.faults.run_one", name, where, str(seed)]
    # In a session of its own: Ctrl-C is for the campaign, which waits for it.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            told, _ = process.communicate(timeout=LIMIT_S + SPARE_S)
            return Verdict(**json.loads(told.splitlines()[-1]))
        except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
            process.kill()
            took_s = time.monotonic() - began_s
            return Verdict(name, where, seed, None, 0, 0, 0, 0.0, 0, wrong=f"no verdict: {error!r}", took_s=took_s)
