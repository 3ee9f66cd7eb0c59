"""Tables and figures of the comparison, as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.bench.policies.analysis import CELL, cells, chosen, one_setting
from seer_nb.bench.policies.grid import ABLATIONS, ALONE, OURS, TIGHT
from seer_nb.views.palette import OKABE_ITO
from seer_nb.views.plotly_curves import write_figure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd
    from plotly.graph_objects import Figure


def write(runs: pd.DataFrame, out: Path, about: str) -> str:
    """Write cells.csv, summary.md and figures; return the summary.

    Args:
        runs: All studies.
        out: Existing folder.
        about: One or two sentences about the simulated studies.
    """
    tuned = cells(chosen(runs))
    tuned.to_csv(out / "cells.csv", index=False)
    text = summary(runs, tuned, about)
    (out / "summary.md").write_text(text)
    for crossed, part in tuned.groupby("crossed"):
        name = "regret-crossed" if crossed else "regret"
        write_figure(figure(part), out / f"{name}.html", title="Regret by budget")
    return text


def summary(runs: pd.DataFrame, tuned: pd.DataFrame, about: str) -> str:
    """Return the summary in markdown.

    Args:
        runs: All studies.
        tuned: One row per contender and cell, with the best setting of each cell.
        about: One or two sentences about the simulated studies.
    """
    parts = [f"# Policies compared\n\n{about}\n"]
    for crossed, part in runs.groupby("crossed"):
        where = "curves that cross early" if crossed else "curves as recorded"
        here = tuned[tuned.crossed == crossed]
        parts += [f"## On {where}\n", _money(part, here), _ablation(part), _regrets(here)]
    parts.append(_promises(runs))
    return "\n".join(parts)


def figure(tuned: pd.DataFrame) -> Figure:
    """Plot mean regret by budget, one panel per deadline, averaged over speedups and boots."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    shown = tuned[~tuned.contender.isin(ABLATIONS)]
    deadlines = sorted(shown.deadline.unique())
    titles = [f"deadline {deadline:g}" for deadline in deadlines]
    plot = make_subplots(rows=1, cols=len(deadlines), shared_yaxes=True, subplot_titles=titles)
    for number, (contender, rows) in enumerate(shown.groupby("contender")):
        style = {"color": OKABE_ITO[number % len(OKABE_ITO)], "width": 4 if contender == OURS else 1.5}
        for column, deadline in enumerate(deadlines, 1):
            curve = rows[rows.deadline == deadline].groupby("budget").regret.mean()
            trace = Scatter(
                x=curve.index,
                y=curve.to_numpy(),
                name=str(contender),
                line=style,
                mode="lines+markers",
                marker={"symbol": number},
                legendgroup=str(contender),
                showlegend=column == 1,
            )
            plot.add_trace(trace, row=1, col=column)
    plot.update_xaxes(type="log", title="budget, in full trainings on one worker")
    plot.update_yaxes(title="mean regret", col=1)
    return plot


def _money(runs: pd.DataFrame, tuned: pd.DataFrame) -> str:
    """Return the money that other policies need for the regret of SEER, and of SEER alone."""
    single = cells(one_setting(runs))
    rows: list[dict[str, Any]] = []
    for name in sorted(set(tuned.contender) - {OURS, *ABLATIONS}):
        row: dict[str, Any] = {"policy": name}
        for label, table in (("tuned in each cell", tuned), ("one setting", single)):
            mine = table[(table.contender == name) & table.ratio.notna()]
            tight, slack = mine[mine.deadline <= TIGHT], mine[mine.deadline > TIGHT]
            row |= {
                f"tight, median ({label})": _middle(tight),
                f"tight, least ({label})": _least(tight),
                f"slack, median ({label})": _middle(slack),
            }
        rows.append(row)
    head = "Money that a policy needs for SEER's mean regret, over SEER's money (> and <: beyond the budgets tried).\n"
    return f"{head}\n{_table(rows)}\n{_alone(runs)}"


def _alone(runs: pd.DataFrame) -> str:
    if ALONE not in set(runs.contender):
        return ""
    alone = cells(chosen(runs), ALONE)
    rows = []
    for name in sorted(set(alone.contender) - {OURS, ALONE, *ABLATIONS}):
        mine = alone[(alone.contender == name) & alone.ratio.notna()]
        tight = mine[mine.deadline <= TIGHT]
        rows.append(
            {
                "policy": name,
                "tight, median": _middle(tight),
                "tight, least": _least(tight),
                "cells in which SEER alone is worse beyond the interval": int((mine.gap_high < 0).sum()),
            }
        )
    return f"The same for SEER alone, without its additional parts; others tuned in each cell.\n\n{_table(rows)}"


def _ablation(runs: pd.DataFrame) -> str:
    names = [OURS, *(name for name in (*ABLATIONS, ALONE) if name in set(runs.contender))]
    rows = []
    ours = runs[runs.contender == OURS].set_index([*CELL, "table", "seed"]).regret
    for name in names:
        mine = runs[runs.contender == name].set_index([*CELL, "table", "seed"]).regret
        gap = (mine - ours).dropna()
        by_seed = gap.groupby(level="seed").mean()
        error = by_seed.std() / len(by_seed) ** 0.5 if len(by_seed) > 1 else float("nan")
        worst = mine.groupby(level="table").mean().max()
        rows.append(
            {
                "variant": name,
                "mean regret": f"{mine.mean():.3f}",
                "more than SEER": "" if name == OURS else f"{gap.mean():+.3f} ± {1.96 * error:.3f}",
                "worst table": f"{worst:.3f}",
            }
        )
    return f"\nAblation.\n\n{_table(rows)}" if len(rows) > 1 else ""


def _regrets(tuned: pd.DataFrame) -> str:
    """Return mean regrets: one row per contender, one column per deadline and budget."""
    shown = tuned[~tuned.contender.isin(ABLATIONS)]
    means: dict[Any, float] = shown.groupby(["contender", "deadline", "budget"]).regret.mean().to_dict()
    columns = sorted({(deadline, budget) for _, deadline, budget in means})
    rows = [
        {
            "policy": name,
            **{f"{t:g}, {b:g}": f"{means[name, t, b]:.3f}" if (name, t, b) in means else "" for t, b in columns},
        }
        for name in sorted({name for name, _, _ in means})
    ]
    return f"\nMean regret by deadline, budget; each tuned in each cell.\n\n{_table(rows)}"


def _promises(runs: pd.DataFrame) -> str:
    rows = [
        {
            "policy": name,
            "studies": len(part),
            "deadline or budget exceeded": int(part.violated.sum()),
            "money used": f"{100 * part.spent.mean():.0f} %",
            "time used": f"{100 * part.time.mean():.0f} %",
            "peak workers": int(part.peak_workers.max()),
            "mean decision, ms": f"{1000 * part.decide_s.sum() / max(1, part.decisions.sum()):.2f}",
            "longest decision, ms": f"{1000 * part.decide_most_s.max():.0f}",
        }
        for name, part in runs.groupby("contender")
    ]
    return f"\n## Promises\n\n{_table(rows)}"


def _middle(table: pd.DataFrame) -> str:
    if not len(table):
        return ""
    ordered = table.sort_values("ratio").reset_index(drop=True)
    row = ordered.iloc[(len(ordered) - 1) // 2]
    return f"{row.ratio_bound}{row.ratio:.2f}"


def _least(table: pd.DataFrame) -> str:
    if not len(table):
        return ""
    row = table.sort_values("ratio").iloc[0]
    return f"{row.ratio_bound}{row.ratio:.2f}"


def _table(rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
