"""The campaign's table: kept as csv, a row a study; shown as markdown, a line a fault."""

from __future__ import annotations

import csv
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from seer_nb.bench.faults.verdict import LATE_S, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


HEAD = (
    "fault",
    "where",
    "studies",
    "kept",
    "epochs repeated, most",
    "goes on after, median (most)",
    "reports lost",
    "overspent",
    "late",
    "left over",
)
PAGE = """# What was lost when something went wrong

Written by `python -m seer_nb.bench faults`, which runs real studies, on the computer itself and on a cloud that it
plays, and has one thing go wrong in each, or two. *Kept* counts the studies in which every promise was kept: never over
the budget, never over the deadline by more than {late_s:.0f} s, no report lost, nothing left behind, the best can be
loaded, the journal replays to the same state, one epoch trained again at most for each gang that was struck (more where
two things went wrong, a checkpoint was damaged, or is so large that not each epoch's is stored), and training goes on
in time: within 10 s where another worker can be had at once, 20 s where a machine of the cloud has to be rented.
*Goes on after* counts from the fault to the end of the next whole epoch, of 0.4 s mostly, of a trial that it struck.

"""


def read(path: Path) -> list[Verdict]:
    """The table so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [_parsed(row) for row in csv.DictReader(file)]


def append(path: Path, row: Verdict) -> None:
    """A study has ended."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, Verdict._fields)
        if new:
            writer.writeheader()
        writer.writerow(row._asdict())


def line(row: Verdict) -> str:
    """One study in words."""
    resumed = "" if row.resumed_s is None else f"goes on after {row.resumed_s:.1f} s, "
    word = row.wrong.splitlines()[-1] if row.wrong else "kept"
    return f"{row.where:5} {row.seed:3} {row.fault}: {resumed}{row.repeated} repeated: {word} ({row.took_s:.0f} s)"


def markdown(rows: Iterable[Verdict]) -> str:
    """A line a fault, and what the studies come to."""
    by_fault: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    everything = list(rows)
    for row in everything:
        by_fault[row.fault, row.where].append(row)
    lines = [_joined(HEAD), _joined(["---"] * len(HEAD))]
    # Here and on a cloud one below the other.
    first = {fault: place for place, (fault, _) in reversed([*enumerate(by_fault)])}
    lines += [_joined([*key, *_figures(by_fault[key])]) for key in sorted(by_fault, key=lambda key: first[key[0]])]
    if everything:
        lines.append(_joined(["all", "", *_figures(everything)]))
    return "\n".join(lines)


def page(rows: Sequence[Verdict]) -> str:
    """The table as a page, with what was not kept."""
    broken = [
        f"- {row.fault} ({row.where}, seed {row.seed}): {row.wrong.splitlines()[-1]}" for row in rows if row.wrong
    ]
    text = PAGE.format(late_s=LATE_S) + markdown(rows) + "\n"
    return text + ("\n## Not kept\n\n" + "\n".join(broken) + "\n" if broken else "")


def _figures(of: Sequence[Verdict]) -> list[str]:
    after = [row.resumed_s for row in of if row.resumed_s is not None]
    return [
        str(len(of)),
        str(sum(not row.wrong for row in of)),
        str(max(row.repeated for row in of)),
        f"{median(after):.1f} ({max(after):.1f}) s" if after else "",
        str(sum(row.lost_records for row in of)),
        str(sum(row.over_budget > 0 for row in of)),
        str(sum(row.over_deadline_s > LATE_S for row in of)),
        str(sum(row.leftovers for row in of)),
    ]


def _joined(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parsed(row: dict[str, str]) -> Verdict:
    return Verdict(
        fault=row["fault"],
        where=row["where"],
        seed=int(row["seed"]),
        resumed_s=None if row["resumed_s"] == "" else float(row["resumed_s"]),
        repeated=int(row["repeated"]),
        lost_records=int(row["lost_records"]),
        over_budget=int(row["over_budget"]),
        over_deadline_s=float(row["over_deadline_s"]),
        leftovers=int(row["leftovers"]),
        wrong=row["wrong"],
        took_s=float(row["took_s"]),
    )
