"""The campaign: every fault, so many times, in a table that grows until all is done."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from seer_nb.bench.faults.catalog import FAULTS, pairs, possible
from seer_nb.bench.faults.verdict import Verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

OUT = Path("faults.csv")
LIMIT_S = 400.0
"""One study never takes longer."""
Task = tuple[str, str, int]
"""(fault, where, seed)."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("faults", help="real studies in which everything goes wrong, and what was lost")
    parser.add_argument("--times", type=int, default=10, help="of each fault; default: %(default)s")
    parser.add_argument("--pairs", type=int, default=0, help="so many random pairs of faults besides")
    parser.add_argument("--only", default="", metavar="WORDS", help="faults with these words in their names")
    parser.add_argument("--where", choices=["local", "cloud"], default=None, help="default: both")
    parser.add_argument("--jobs", type=int, default=1, help="studies at a time; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=None, help="begin no study after so long")
    parser.add_argument("--out", type=Path, default=OUT, help="the table, which is gone on with; default: %(default)s")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    done = read(options.out)
    known = {(row.fault, row.where, row.seed) for row in done}
    todo = [task for task in _tasks(options) if task not in known]
    end_s = time.monotonic() + 60 * (options.minutes or 1e9)
    left_out = sorted({fault.name for fault in FAULTS if not possible(fault)})
    if left_out:
        print(f"only root can bring about: {', '.join(left_out)}")
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda task: _one(task, end_s), todo):
            if row is not None:
                _append(options.out, row)
                print(_line(row), flush=True)
    rows = read(options.out)
    print(table(rows))
    return 1 if any(row.wrong for row in rows) else 0


def _tasks(options: argparse.Namespace) -> list[Task]:
    """Every fault once, then every fault a second time, and so on."""
    wanted = [fault for fault in FAULTS if options.only in fault.name and possible(fault)]
    single = [
        (fault.name, where, seed)
        for seed in range(options.times)
        for fault in wanted
        for where in fault.where
        if options.where in {None, where}
    ]
    double = [
        (name, where, seed)
        for seed, (name, where) in enumerate(pairs(0, options.pairs))
        if options.where in {None, where}
    ]
    return [*single, *double]


def _one(task: Task, end_s: float) -> Verdict | None:
    """In a process of its own, for a cloud is one a process, and a fault may take its own process along."""
    name, where, seed = task
    if time.monotonic() > end_s:
        return None
    command = [sys.executable, "-m", "seer_nb.bench.faults.one", name, where, str(seed)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        return Verdict(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
        return Verdict(name, where, seed, None, 0, 0, 0, 0.0, 0, wrong=f"no verdict: {error!r}", took_s=LIMIT_S)


def read(path: Path) -> list[Verdict]:
    """The table so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [_parsed(row) for row in csv.DictReader(file)]


def _parsed(row: dict[str, str]) -> Verdict:
    resumed_s = None if row["resumed_s"] == "" else float(row["resumed_s"])
    return Verdict(
        fault=row["fault"],
        where=row["where"],
        seed=int(row["seed"]),
        resumed_s=resumed_s,
        repeated=int(row["repeated"]),
        lost_records=int(row["lost_records"]),
        over_budget=int(row["over_budget"]),
        over_deadline_s=float(row["over_deadline_s"]),
        leftovers=int(row["leftovers"]),
        wrong=row["wrong"],
        took_s=float(row["took_s"]),
    )


def _append(path: Path, row: Verdict) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, Verdict._fields)
        if new:
            writer.writeheader()
        writer.writerow(row._asdict())


def _line(row: Verdict) -> str:
    resumed = "" if row.resumed_s is None else f"goes on after {row.resumed_s:.1f} s, "
    word = row.wrong.splitlines()[-1] if row.wrong else "kept"
    return f"{row.where:5} {row.seed:3} {row.fault}: {resumed}{row.repeated} repeated: {word} ({row.took_s:.0f} s)"


def table(rows: Iterable[Verdict]) -> str:
    """A line a fault, as markdown; the last one is of all."""
    rows = list(rows)
    lines = ["| fault | where | studies | goes on after, median (worst) | epochs repeated, worst | not as promised |"]
    lines.append("|---|---|---|---|---|---|")
    for key in dict.fromkeys((row.fault, row.where) for row in rows):
        of = [row for row in rows if (row.fault, row.where) == key]
        resumed = [row.resumed_s for row in of if row.resumed_s is not None]
        after = f"{median(resumed):.1f} ({max(resumed):.1f}) s" if resumed else ""
        wrong = sum(bool(row.wrong) for row in of)
        lines.append(f"| {key[0]} | {key[1]} | {len(of)} | {after} | {max(row.repeated for row in of)} | {wrong} |")
    over = sum(row.over_budget > 0 for row in rows)
    late = sum(row.over_deadline_s > 2 for row in rows)  # noqa: PLR2004 - the promise
    lost, left = sum(row.lost_records for row in rows), sum(row.leftovers for row in rows)
    wrong = sum(bool(row.wrong) for row in rows)
    lines.append(
        f"\n{len(rows)} studies: {over} over budget, {late} over the deadline, {lost} records lost, {left} leftovers; "
        f"{wrong} not as promised"
    )
    return "\n".join(lines)
