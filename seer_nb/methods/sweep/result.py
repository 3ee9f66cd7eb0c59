"""The result of a sweep: one row per cell, one row per fit, the best configurations, and heat maps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from seer_nb._utils.validation import check_choice
from seer_nb.methods.result import MethodResult
from seer_nb.methods.sweep.figures import plot_cells, plot_pair, plot_ratios

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from plotly.graph_objects import Figure

    from seer_nb.core import Config
    from seer_nb.methods.sweep.cell import Fit
    from seer_nb.methods.sweep.figures import Shown
    from seer_nb.methods.sweep.grid import Cell
    from seer_nb.methods.sweep.task import SweepTask
    from seer_nb.study.study import Study


By: TypeAlias = Literal["rmse", "ct"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one cell."""

    cell: Cell
    state: str = "waiting"
    """"completed", "failed", "waiting" (not started), or another state of a study's trial."""
    fits: tuple[Fit, ...] = ()
    """Measurements of each repeat; empty unless the cell was completed."""
    error: str = ""
    """Error in one line; a study's ``trial(number)`` holds the traceback."""

    @property
    def value(self) -> float:
        """Validation RMSE, the mean over the repeats, by which configurations are compared; NaN without fits."""
        return mean(fit.validation for fit in self.fits) if self.fits else math.nan

    @property
    def rmse(self) -> float:
        """Test RMSE, the mean over the repeats; NaN without fits."""
        return mean(fit.rmse for fit in self.fits) if self.fits else math.nan

    @property
    def ct_s(self) -> float:
        """Seconds to fit, the median over the repeats; NaN without fits."""
        return median(fit.ct_s for fit in self.fits) if self.fits else math.nan


@dataclass(frozen=True)
class Best:
    """The cell with the smallest validation RMSE; of several, the one with the shortest time to fit."""

    cell: int
    """Row of the cell."""
    config: Config
    train_ratio: float
    value: float
    """Validation RMSE over all standardised targets, the mean over the repeats."""
    rmse: float
    """Test RMSE over all standardised targets, the mean over the repeats; it does not influence the choice."""
    rmse_of: Mapping[str, float]
    """Test RMSE of each target in its own unit, the mean over the repeats."""
    ct_s: float
    """Seconds to fit, the median over the repeats."""


@dataclass(frozen=True)
class SweepResult(MethodResult):
    """The result of a sweep, complete or not."""

    outcomes: tuple[Outcome, ...]
    """Outcomes of all cells, train ratio by train ratio."""
    names: tuple[str, ...]
    """Names of the grid's hyperparameters."""
    targets: tuple[str, ...]
    """Names of the targets."""
    reason: str
    """Why the sweep ended."""
    spent_usd: float = 0.0
    study: Study | None = field(default=None, compare=False)
    """Study that ran the cells; None if this process did."""

    @classmethod
    def of(cls, task: SweepTask, outcomes: Iterable[Outcome], **more: Any) -> SweepResult:
        """Create the result of a task's cells; ``more`` are the other fields."""
        return cls(tuple(outcomes), task.grid.names, task.samples.targets, seed=task.seed, **more)

    def __repr__(self) -> str:
        best = self.best
        found = "nothing found" if best is None else f"best RMSE {best.rmse:.4g} with {best.config}"
        done = sum(outcome.state == "completed" for outcome in self.outcomes)
        return f"SweepResult({done} of {len(self.outcomes)} cells, {found}, {self.reason}, {self._seed_and_duration})"

    @property
    def best(self) -> Best | None:
        """The best cell of all train ratios; None if no cell was completed."""
        ranked = rank_outcomes(self.outcomes, "rmse")
        return self._best(ranked[0]) if ranked else None

    def best_table(self, by: By = "rmse") -> pd.DataFrame:
        """Return the best configuration at each train ratio, with the columns of ``frame``.

        Args:
            by: "rmse" for the smallest validation RMSE, with ties broken by CT; "ct" for the smallest CT (computational
                time), with ties broken by RMSE.

        Raises:
            ValueError: ``by`` is unknown.

        Example:
            >>> result.best_table()[["train_ratio", "rmse", "ct_s"]]
        """
        by = check_choice(by, "by", get_args(By))  # type: ignore[assignment]
        ratios = dict.fromkeys(outcome.cell.train_ratio for outcome in self.outcomes)
        ranked = [rank_outcomes((x for x in self.outcomes if x.cell.train_ratio == ratio), by) for ratio in ratios]
        return self._table([found[0] for found in ranked if found])

    @property
    def frame(self) -> pd.DataFrame:
        """One row per cell.

        Columns: cell, train_ratio, config_* (plain values, and the repr of others), state, value (validation RMSE),
        rmse and rmse_sd (test RMSE: mean and standard deviation over the repeats), rmse_* (per target, in its own
        unit), rmse_standard_* (in standard deviations of the training part), ct_s (seconds), converged (share of the
        repeats), error.
        """
        return self._table(self.outcomes)

    def curves(self) -> pd.DataFrame:
        """Return one row per fit.

        Columns: cell, train_ratio, repeat, value (validation RMSE), rmse, rmse_* and rmse_standard_* (as in ``frame``),
        ct_s, converged.
        """
        import pandas as pd

        columns = ["cell", "train_ratio", "repeat", "value", "rmse", *self._target_columns(), "ct_s", "converged"]
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
        """Plotly figures: heat maps "rmse" and "ct" (configurations by train ratio), lines "best" (by train ratio)."""
        return {
            "rmse": plot_cells(self, "rmse"),
            "ct": plot_cells(self, "ct_s"),
            "best": plot_ratios(self),
        }

    def heat_map(self, across: str, down: str, *, show: Shown = "rmse", train_ratio: float | None = None) -> Figure:
        """Plot a heat map of two hyperparameters; the others take the values with the best validation RMSE.

        Args:
            across: Hyperparameter of the columns, or "train_ratio".
            down: Hyperparameter of the rows, or "train_ratio".
            show: "rmse" (test RMSE), "value" (validation RMSE) or "ct_s" (seconds to fit).
            train_ratio: Train ratio of the cells; None: the best one for each pair of values.

        Raises:
            ValueError: A name or train ratio is unknown.

        Example:
            >>> result.heat_map("hidden_layer_sizes", "solver", show="ct_s")
        """
        return plot_pair(self, across, down, show, train_ratio)

    def _target_columns(self) -> list[str]:
        return [*(f"rmse_{name}" for name in self.targets), *(f"rmse_standard_{name}" for name in self.targets)]

    def _table(self, outcomes: Iterable[Outcome]) -> pd.DataFrame:
        import pandas as pd

        columns = ["cell", "train_ratio", *(f"config_{name}" for name in self.names), "state", "value", "rmse"]
        columns += ["rmse_sd", *self._target_columns(), "ct_s", "converged", "error"]
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
        """Return the means over the repeats of both RMSEs of each target."""
        if not outcome.fits:
            return (math.nan,) * (2 * len(self.targets))
        columns = zip(*((*fit.units, *fit.standard) for fit in outcome.fits), strict=True)
        return tuple(mean(column) for column in columns)

    def _best(self, found: Outcome) -> Best:
        units = dict(zip(self.targets, self._means(found), strict=False))
        cell = found.cell
        return Best(cell.number, dict(cell.config), cell.train_ratio, found.value, found.rmse, units, found.ct_s)


def rank_outcomes(outcomes: Iterable[Outcome], by: By) -> list[Outcome]:
    """Return the outcomes with fits, best first; test samples do not influence the order."""
    found = [outcome for outcome in outcomes if outcome.fits]
    if by == "ct":
        return sorted(found, key=lambda x: (x.ct_s, x.value, x.cell.number))
    return sorted(found, key=lambda x: (x.value, x.ct_s, x.cell.number))
