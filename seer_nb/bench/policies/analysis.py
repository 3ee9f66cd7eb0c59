"""Statistics of the comparison: mean regret, the money that other policies need for it, and intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seer_nb.bench.policies.grid import OURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray


CELL = ["crossed", "deadline", "speedup", "boot_s", "budget"]
"""Columns that identify a cell of the grid."""
PAIR = ["table", "seed"]
"""Columns by which studies of two policies are paired."""
LEVEL = 0.95
"""Level of the confidence intervals."""
DRAWS = 2000
"""Number of bootstrap samples."""


class Ratio(NamedTuple):
    """Money that another policy needs for a regret, divided by SEER's money."""

    value: float
    bound: str = ""
    """">" if the largest budget was not enough, "<" if the least one was more than enough, else empty."""

    def __str__(self) -> str:
        return f"{self.bound}{self.value:.2f}"


def chosen(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the setting with the least mean regret per contender and cell; tuning in hindsight flatters it."""
    return _best(runs, [*CELL, "contender"])


def one_setting(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the setting with the least mean regret over all cells per contender, as in real use."""
    return _best(runs, ["contender"])


def promising(runs: pd.DataFrame) -> set[tuple[Any, ...]]:
    """Return (cell, contender, setting) to run on more seeds: the best of each cell, and the best over all."""
    keys = [*CELL, "contender", "setting"]
    found = (part[keys].drop_duplicates() for part in (chosen(runs), one_setting(runs)))
    return {row for part in found for row in part.itertuples(index=False, name=None)}


def _best(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Keep the setting with the least mean regret among those with the most studies, per group."""
    means = runs.groupby([*by, "setting"], sort=True).regret.agg(["mean", "size"]).reset_index()
    means = means[means["size"] == means.groupby(by)["size"].transform("max")]
    best = means.loc[means.groupby(by)["mean"].idxmin()]
    return runs.merge(best[[*by, "setting"]], on=[*by, "setting"])


def cells(runs: pd.DataFrame, ours: str = OURS) -> pd.DataFrame:
    """Return one row per contender and cell, compared with SEER.

    Columns: those of a cell, contender, setting, regret with its interval (low, high), gap (the other's regret minus
    SEER's, paired by table and seed) with its interval, wins (share of pairs in which SEER is better; ties count half),
    ratio (money for SEER's regret over SEER's money) and its bound, spent, time, peak_workers, violated.

    Args:
        runs: Studies with one setting per contender and cell.
        ours: Name of the contender to compare with.
    """
    import pandas as pd

    rows = []
    base = {cell: _paired(part) for cell, part in runs[runs.contender == ours].groupby(CELL)}
    for (*cell, contender), part in runs.groupby([*CELL, "contender"]):
        low, high = interval(_paired(part).to_numpy())
        row = dict(zip(CELL, cell, strict=True)) | {
            "contender": contender,
            "setting": part.setting.iloc[0],
            "regret": part.regret.mean(),
            "low": low,
            "high": high,
        }
        mine = base.get(tuple(cell))
        if mine is not None:
            row |= _against(mine, _paired(part))
        for name in ("spent", "time", "peak_workers", "n_trials"):
            row[name] = part[name].mean()
        rows.append(row | {"violated": int(part.violated.sum()), "studies": len(part)})
    table = pd.DataFrame(rows)
    return table.merge(_ratios(table, ours), on=[*CELL, "contender"], how="left")


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return a confidence interval of the mean, by bootstrap over the values."""
    rng = np.random.default_rng(seed)
    means = rng.choice(values, size=(DRAWS, len(values))).mean(axis=1)
    tail = (1 - LEVEL) / 2
    return float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))


def money_ratio(budget: float, regret: float, budgets: Sequence[float], regrets: Sequence[float]) -> Ratio:
    """Return the money that another policy needs for a regret, over a budget.

    Args:
        budget: Budget with which SEER reached the regret.
        regret: That regret.
        budgets: Budgets of the other policy, ascending.
        regrets: Its mean regrets; between two budgets, the logarithm of money is interpolated.
    """
    # More money never increases the regret: a smaller budget could be used instead.
    least = np.minimum.accumulate(np.asarray(regrets, dtype=float))
    if regret >= least[0]:
        return Ratio(budgets[0] / budget, "<" if regret > least[0] else "")
    if regret < least[-1]:
        return Ratio(budgets[-1] / budget, ">")
    k = int(np.argmax(least <= regret))
    share = (least[k - 1] - regret) / (least[k - 1] - least[k])
    return Ratio(math.exp((1 - share) * math.log(budgets[k - 1]) + share * math.log(budgets[k])) / budget)


def _paired(part: pd.DataFrame) -> pd.Series:
    found: pd.Series = part.set_index(PAIR).regret.sort_index()
    return found


def _against(mine: pd.Series, other: pd.Series) -> dict[str, float]:
    gap = (other - mine).dropna().to_numpy()
    if not len(gap):
        return {}
    low, high = interval(gap)
    wins = float((gap > 0).mean() + (gap == 0).mean() / 2)
    return {"gap": float(gap.mean()), "gap_low": low, "gap_high": high, "wins": wins}


def _ratios(table: pd.DataFrame, ours: str) -> pd.DataFrame:
    import pandas as pd

    rows = []
    fixed = CELL[:-1]
    for (*setting, contender), part in table.groupby([*fixed, "contender"]):
        curve = part.sort_values("budget")
        same = (table[fixed] == setting).all(axis=1) & (table.contender == ours)
        for _, mine in table[same].iterrows():
            ratio = money_ratio(mine.budget, mine.regret, list(curve.budget), list(curve.regret))
            found = dict(zip(fixed, setting, strict=True)) | {"budget": mine.budget, "contender": contender}
            rows.append(found | {"ratio": ratio.value, "ratio_bound": ratio.bound})
    return pd.DataFrame(rows, columns=[*CELL, "contender", "ratio", "ratio_bound"])
