"""What a sweep has found: a row a cell, a row a fit, the best configurations, heat maps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from seer_nb._utils.validation import check_choice
from seer_nb.methods.result import MethodResult
from seer_nb.methods.sweep import figures as sweep_figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from plotly.graph_objects import Figure

    from seer_nb.core import Config
    from seer_nb.methods.sweep.cell import Fit
    from seer_nb.methods.sweep.figures import Shown
    from seer_nb.methods.sweep.grid import Cell
    from seer_nb.methods.sweep.task import Task
    from seer_nb.study.study import Study


By: TypeAlias = Literal["rmse", "ct"]


@dataclass(frozen=True)
class Outcome:
    """What has become of a cell."""

    cell: Cell
    state: str = "waiting"
    """"completed", "failed", "waiting" (not begun), or another state of a study's trial."""
    fits: tuple[Fit, ...] = ()
    """Of each repeat; empty unless it was completed."""
    error: str = ""
    """In one line; a study's ``results()`` have the traceback."""

    @property
    def value(self) -> float:
        """Validation RMSE, the mean of the repeats: what configurations are compared by; NaN without fits."""
        return mean(fit.validation for fit in self.fits) if self.fits else math.nan

    @property
    def rmse(self) -> float:
        """Test RMSE, the mean of the repeats; NaN without fits."""
        return mean(fit.rmse for fit in self.fits) if self.fits else math.nan

    @property
    def ct_s(self) -> float:
        """Seconds to fit, the median of the repeats; NaN without fits."""
        return median(fit.ct_s for fit in self.fits) if self.fits else math.nan


@dataclass(frozen=True)
class Best:
    """The cell with the least validation RMSE; of several with the same, the one that is fitted fastest."""

    cell: int
    """Its row."""
    config: Config
    train_ratio: float
    value: float
    """Validation RMSE over all standardised targets, the mean of the repeats."""
    rmse: float
    """Test RMSE over all standardised targets, the mean of the repeats; it has chosen nothing."""
    rmse_of: Mapping[str, float]
    """Test RMSE of each target in its own unit, the mean of the repeats."""
    ct_s: float
    """Seconds to fit, the median of the repeats."""


@dataclass(frozen=True)
class SweepResult(MethodResult):
    """The result of a sweep, also of one that was cut short."""

    outcomes: tuple[Outcome, ...]
    """Of every cell, ratio by ratio."""
    names: tuple[str, ...]
    """Of the grid's hyperparameters."""
    targets: tuple[str, ...]
    reason: str
    """Why it has ended."""
    spent_usd: float = 0.0
    study: Study | None = field(default=None, compare=False)
    """That has done the work; None: this process has."""

    @classmethod
    def of(cls, task: Task, outcomes: Iterable[Outcome], reason: str, **more: Any) -> SweepResult:
        """Put together what has become of a task's cells."""
        return cls(tuple(outcomes), task.grid.names, task.table.targets, reason, seed=task.seed, **more)

    def __repr__(self) -> str:
        best = self.best
        found = "nothing found" if best is None else f"best RMSE {best.rmse:.4g} with {best.config}"
        done = sum(outcome.state == "completed" for outcome in self.outcomes)
        return f"SweepResult({done} of {len(self.outcomes)} cells, {found}, {self.reason}, {self._made})"

    @property
    def best(self) -> Best | None:
        """The best cell of all train ratios; None: not one was completed."""
        ranked = ranking(self.outcomes, "rmse")
        return self._best(ranked[0]) if ranked else None

    def best_table(self, by: By = "rmse") -> pd.DataFrame:
        """The best configuration at each train ratio; the columns of ``frame``.

        Args:
            by: "rmse": the least validation RMSE, ties broken by CT; "ct": the least CT, ties broken by RMSE.

        Raises:
            ValueError: For another word.
        """
        by = check_choice(by, "by", get_args(By))  # type: ignore[assignment]
        ratios = dict.fromkeys(outcome.cell.train_ratio for outcome in self.outcomes)
        ranked = [ranking((x for x in self.outcomes if x.cell.train_ratio == ratio), by) for ratio in ratios]
        return self._table([found[0] for found in ranked if found])

    @property
    def frame(self) -> pd.DataFrame:
        """A row a cell, all of them.

        Columns: cell, train_ratio, config_* (what is not plain by its repr), state, value (validation RMSE), rmse and
        rmse_sd (test RMSE: mean and standard deviation over the repeats), rmse_* (of each target, in its own unit),
        rmse_standard_* (in standard deviations of the training part), ct_s (seconds), converged (share of the repeats),
        error.
        """
        return self._table(self.outcomes)

    def curves(self) -> pd.DataFrame:
        """A row a fit.

        Columns: cell, train_ratio, repeat, value (validation RMSE), rmse, rmse_* and rmse_standard_* (as in ``frame``),
        ct_s, converged.
        """
        import pandas as pd

        columns = ["cell", "train_ratio", "repeat", "value", "rmse", *self._columns(), "ct_s", "converged"]
        rows = (
            (
                *(outcome.cell.number, outcome.cell.train_ratio, repeat, fit.validation, fit.rmse),
                *(*fit.units, *fit.standard, fit.ct_s, bool(fit.converged)),
            )
            for outcome in self.outcomes
            for repeat, fit in enumerate(outcome.fits, 1)
        )
        return pd.DataFrame(rows, columns=columns)

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Plotly heat maps by name: "rmse" and "ct" (configurations by train ratios), "best" (lines by train ratio)."""
        return {
            "rmse": sweep_figures.cells_plot(self, "rmse"),
            "ct": sweep_figures.cells_plot(self, "ct_s"),
            "best": sweep_figures.ratios_plot(self),
        }

    def heat_map(self, across: str, down: str, *, show: Shown = "rmse", train_ratio: float | None = None) -> Figure:
        """A heat map of two hyperparameters; of the others, the values that are best by validation RMSE.

        Args:
            across: A hyperparameter, or "train_ratio".
            down: Another one.
            show: "rmse" (test), "value" (validation RMSE) or "ct_s".
            train_ratio: At which; None: the best for each place.

        Raises:
            ValueError: For an unknown name or ratio.
        """
        return sweep_figures.pair_plot(self, across, down, show, train_ratio)

    def _columns(self) -> list[str]:
        return [*(f"rmse_{name}" for name in self.targets), *(f"rmse_standard_{name}" for name in self.targets)]

    def _table(self, outcomes: Iterable[Outcome]) -> pd.DataFrame:
        import pandas as pd

        columns = ["cell", "train_ratio", *(f"config_{name}" for name in self.names), "state", "value", "rmse"]
        columns += ["rmse_sd", *self._columns(), "ct_s", "converged", "error"]
        return pd.DataFrame([self._row(outcome) for outcome in outcomes], columns=columns)

    def _row(self, outcome: Outcome) -> tuple[Any, ...]:
        fits, cell = outcome.fits, outcome.cell
        return (
            *(cell.number, cell.train_ratio, *cell.labels, outcome.state, outcome.value, outcome.rmse),
            stdev(fit.rmse for fit in fits) if len(fits) > 1 else math.nan,
            *self._means(outcome),
            outcome.ct_s,
            mean(fit.converged for fit in fits) if fits else math.nan,
            outcome.error,
        )

    def _means(self, outcome: Outcome) -> tuple[float, ...]:
        """Of both RMSEs of each target."""
        if not outcome.fits:
            return (math.nan,) * (2 * len(self.targets))
        columns = zip(*((*fit.units, *fit.standard) for fit in outcome.fits), strict=True)
        return tuple(mean(column) for column in columns)

    def _best(self, found: Outcome) -> Best:
        units = dict(zip(self.targets, self._means(found), strict=False))
        cell = found.cell
        return Best(cell.number, dict(cell.config), cell.train_ratio, found.value, found.rmse, units, found.ct_s)


def ranking(outcomes: Iterable[Outcome], by: By) -> list[Outcome]:
    """Those that have fits, the best first; never by what the test samples say."""
    found = [outcome for outcome in outcomes if outcome.fits]
    if by == "ct":
        return sorted(found, key=lambda x: (x.ct_s, x.value, x.cell.number))
    return sorted(found, key=lambda x: (x.value, x.ct_s, x.cell.number))
