"""The campaign's table: stored as csv with one row per study, shown as Markdown with one row per fault."""

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
    "promises kept",
    "repeated epochs, maximum",
    "recovery time, median (maximum)",
    "lost reports",
    "over budget",
    "late",
    "leftovers",
)
PAGE = """# Injected faults and what they cost

`python -m seer_nb.bench faults` wrote this page. The command runs real studies, on this computer ("local") and on a
loopback cloud ("cloud"), and injects one fault or two into each.

*Promises kept* counts the studies in which every promise was kept:

- spending never exceeded the budget;
- no machine ran more than {late_s:.0f} s past the deadline;
- no report was lost, and no process or machine was left over;
- the best checkpoint loads, and the journal replays to the same state;
- each affected gang repeated at most one epoch. More are allowed after two faults, after damage to a checkpoint or the
  journal, and where checkpoints are stored less often than every epoch;
- training continued within 10 s where another worker was available, and within 20 s where a machine had to be rented.
  Faults that block training for longer, such as a disconnection of 40 s, have no such limit.

*Recovery time* runs from the fault to the end of the next complete epoch of an affected trial. Most epochs take 0.4 s.

"""


def read(path: Path) -> list[Verdict]:
    """Return the rows stored so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [_parsed(row) for row in csv.DictReader(file)]


def append(path: Path, row: Verdict) -> None:
    """Append the row of one study."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, Verdict._fields)
        if new:
            writer.writeheader()
        writer.writerow(row._asdict())


def line(row: Verdict) -> str:
    """Return one line of text about a study."""
    resumed = "" if row.resumed_s is None else f"recovered after {row.resumed_s:.1f} s, "
    word = row.wrong.splitlines()[-1] if row.wrong else "kept"
    return f"{row.where:5} {row.seed:3} {row.fault}: {resumed}{row.repeated} repeated: {word} ({row.took_s:.0f} s)"


def markdown(rows: Iterable[Verdict]) -> str:
    """Return one table row per fault, and a row with the totals."""
    by_fault: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    everything = list(rows)
    for row in everything:
        by_fault[row.fault, row.where].append(row)
    lines = [_joined(HEAD), _joined(["---"] * len(HEAD))]
    # Keep the rows of a fault together: local, then cloud.
    first = {fault: place for place, (fault, _) in reversed([*enumerate(by_fault)])}
    lines += [_joined([*key, *_figures(by_fault[key])]) for key in sorted(by_fault, key=lambda key: first[key[0]])]
    if everything:
        lines.append(_joined(["all", "", *_figures(everything)]))
    return "\n".join(lines)


def page(rows: Sequence[Verdict]) -> str:
    """Return the table as a Markdown page, followed by the broken promises."""
    broken = [
        f"- {row.fault} ({row.where}, seed {row.seed}): {row.wrong.splitlines()[-1]}" for row in rows if row.wrong
    ]
    text = PAGE.format(late_s=LATE_S) + markdown(rows) + "\n"
    return text + ("\n## Broken promises\n\n" + "\n".join(broken) + "\n" if broken else "")


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
