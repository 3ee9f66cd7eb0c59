"""Results of a study: tables, figures, the best trial, forecasts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from seer_nb._utils.text import short_repr
from seer_nb._utils.units import MICRO, parse_duration
from seer_nb.study import best as best_checkpoint
from seer_nb.study.forecast import Forecast, forecast, frontier, plot_frontier
from seer_nb.study.settings import new_budget, new_deadline

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path

    import optuna
    import pandas as pd

    from seer_nb.core import Config, TrialState
    from seer_nb.core.history import History
    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.search_space import Space
    from seer_nb.storage.replay import JournalView
    from seer_nb.study.settings import Money, Time


TableName = Literal["results", "curves", "spending", "events"]


class TrialResult(NamedTuple):
    """One trial of a study."""

    trial: int
    state: TrialState
    config: Config
    value: float | None
    """Best value whose checkpoint is stored; None without one."""
    best_epoch: int | None
    """Epoch of that value."""
    epochs: int
    """Number of epochs reported."""
    cost_usd: float
    """Cost of training the trial, without boots and idle workers."""
    reason: str
    """Why the trial was started, promoted, stopped or ended."""
    error: str
    """Traceback of the exception that ``train`` raised; empty without one."""


class StudyResults(ABC):
    """Results of a study: tables, figures, the best trial, forecasts.

    The class that mixes this in gives access to the journal.
    """

    name: str

    @property
    @abstractmethod
    def stalled(self) -> str:
        """Why the running study makes no progress, in one sentence; empty if it does."""

    @property
    @abstractmethod
    def status(self) -> str:
        """created, running, pausing, paused, ending, ended, failed, or interrupted (the runner died)."""

    @property
    @abstractmethod
    def state(self) -> State:
        """State after the newest record of the journal."""

    @property
    @abstractmethod
    def history(self) -> History:
        """Values over time and the log of decisions, up to the same record."""

    @property
    @abstractmethod
    def now_s(self) -> float:
        """Study seconds now, which may be later than the newest record."""

    @abstractmethod
    def read_space(self) -> Space: ...

    @abstractmethod
    def read_policy(self) -> Policy: ...

    @abstractmethod
    def _started(self) -> JournalView:
        """Return the view of the journal; raise SeerError before the study was started."""

    @property
    def reason(self) -> str:
        """Why the study ended; empty before."""
        return self.state.reason

    @property
    def best(self) -> best_checkpoint.Best | None:
        """Trial and epoch with the best value whose checkpoint is stored; None before the first one.

        Example:
            >>> model = study.best.load(Net(**study.best.config))
        """
        return best_checkpoint.best_of(self.state)

    def results(self, view: Literal["best", "last"] = "best") -> pd.DataFrame:
        """Return one row per trial, best value first.

        Trials without a value come last, failed ones at the very end.

        Args:
            view: Which report gives a trial's value: its "best" stored one (default), or its "last" one.

        Returns:
            Columns trial, state, value, best_epoch (of the best stored value), epochs (reported so far), config_*,
            cost_usd, worker_seconds, max_parallelism, started_s, ended_s (study seconds), reason, error. Long texts are
            shortened; `trial` has them in full.

        Raises:
            ValueError: The view is unknown.

        Example:
            >>> study.results().head()
        """
        from seer_nb.views.tables import results_frame

        return results_frame(self.state, view=view)

    def trial(self, trial: int) -> TrialResult:
        """Return one trial, with its reason and its error in full.

        Args:
            trial: Number of the trial, as in `results`.

        Raises:
            ValueError: There is no such trial.

        Example:
            >>> print(study.trial(3).error)
        """
        found = self.state.trials[self.check_trial(trial)]
        best = found.best
        return TrialResult(
            trial=found.id,
            state=found.state,
            config=found.config,
            value=best.value if best else None,
            best_epoch=best.epoch if best else None,
            epochs=found.epoch,
            cost_usd=found.cost_nano / (1000 * MICRO),
            reason=found.reason,
            error=found.error,
        )

    def check_trial(self, trial: Any) -> int:
        """Return a trial's number as an int; ValueError if the study has no such trial."""
        trials = self.state.trials
        if isinstance(trial, bool) or not isinstance(trial, Integral) or trial not in trials:
            last = f"0 to {len(trials) - 1}" if trials else "none so far"
            raise ValueError(f"trial={short_repr(trial)} is not a trial of study {self.name!r}: there are {last}")
        return int(trial)  # numpy integers, from a frame, cannot be stored

    def curves(self) -> pd.DataFrame:
        """Return one row per report: trial, epoch, value, elapsed_s, parallelism, cost_usd, and all other metrics."""
        from seer_nb.views.tables import curves_frame

        return curves_frame(self.state)

    def spending(self) -> pd.DataFrame:
        """Return the money spent over time, by machine."""
        from seer_nb.views.tables import spending_frame

        return spending_frame(self.state)

    def events(self) -> pd.DataFrame:
        """Return one row per record of the journal: every event, and every decision with its reason.

        Raises:
            SeerError: The study has not been started.
        """
        from seer_nb.views.tables import events_frame

        view = self._started()
        return events_frame((e.seq, e.at_s, e.record) for e in view.journal.read())

    def export(self, path: str | os.PathLike[str], table: TableName = "results") -> Path:
        """Write a table to a file.

        Args:
            path: File to write; its suffix selects the format: csv, parquet, json, md, tex, html or xlsx.
            table: "results" (default), "curves", "spending" or "events".

        Returns:
            The path.

        Raises:
            ValueError: The suffix or the table is unknown.

        Example:
            >>> study.export("results.csv")
        """
        from seer_nb.views.export import export

        tables: dict[str, Callable[[], pd.DataFrame]] = {
            "results": self.results,
            "curves": self.curves,
            "spending": self.spending,
            "events": self.events,
        }
        if table not in tables:
            raise ValueError(f"table={short_repr(table)} is unknown; expected one of {', '.join(map(repr, tables))}")
        return export(tables[table](), path, title=f"{self.name}: {table}")

    def plot_curves(self) -> Any:
        """Return a plotly figure of the learning curves."""
        from seer_nb.views.plotly_curves import plot_curves

        return plot_curves(self.state)

    def to_optuna(self, storage: Any = None) -> optuna.Study:
        """Return the study as an ``optuna.Study``, for Optuna's figures and dashboard; see ``seer_nb.study.optuna``.

        Its ``best_trial`` is ``study.best``. Trials that were stopped early are PRUNED; those that were still
        candidates at the end are COMPLETE. Of each trial's user attributes, "state" is the state in ``results()``, and
        "epochs" the number of trained epochs.

        Args:
            storage: Optuna storage or its URL, such as "sqlite:///optuna.db". Default: in memory. An earlier copy of
                this study in the storage is replaced.

        Raises:
            ValueError: The storage has another study of the same name.
            SeerError: The study has not been started.

        Example:
            >>> optuna.visualization.plot_param_importances(study.to_optuna())
        """
        from seer_nb.study.optuna import to_optuna

        first = next(iter(self._started().journal.read()))
        return to_optuna(self.state, self.read_space(), first.wall, storage)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write a report of the study as one HTML file that works without a network.

        Args:
            path: File to write.

        Returns:
            The path.
        """
        from seer_nb.views.page import write_report

        return write_report(path, self.name, self.state, self.history, self.status)

    def forecast(
        self, epoch_seconds: float | None = None, *, patience: str | float | timedelta | None = None
    ) -> Forecast:
        """Forecast how the study uses the time and money that are left; see `Forecast`.

        The simulator runs the study's policy several times on curves that continue the present ones. This takes a few
        seconds, or longer if thousands of trials are to come. Before the first report the forecast has no metric value.

        Args:
            epoch_seconds: Estimated seconds of one epoch on one worker; required until the first epoch was measured.
            patience: Limit on processor time: seconds, or text such as "2min". Default: 20 seconds. Beyond the limit
                the forecast has only the planner's ``stages``.

        Raises:
            ValueError: No epoch was measured yet and epoch_seconds is not given.

        Example:
            >>> study.forecast(epoch_seconds=2.0).cost_usd
        """
        return self.preview(epoch_seconds=epoch_seconds, patience=patience)

    def preview(
        self,
        *,
        budget: Money | None = None,
        deadline: Time | None = None,
        epoch_seconds: float | None = None,
        patience: str | float | timedelta | None = None,
    ) -> Forecast:
        """Return the forecast for another budget or deadline, without changing the study.

        For an ended study, this is what `adjust` and `resume` would lead to.

        Args:
            budget: As for `adjust`. Default: the present budget.
            deadline: As for `adjust`. Default: the present deadline.
            epoch_seconds: As for `forecast`.
            patience: As for `forecast`.

        Raises:
            ValueError, SeerError: As for `adjust` and `forecast`.
        """
        state = self.state
        return forecast(
            state,
            self.read_policy(),
            epoch_seconds=epoch_seconds,
            budget=None if budget is None else new_budget(state, budget).budget_micro,
            deadline_s=None if deadline is None else new_deadline(state, deadline).deadline_s,
            limit_s=_seconds(patience),
        )

    def plot_forecast(
        self, epoch_seconds: float | None = None, *, patience: str | float | timedelta | None = None
    ) -> Any:
        """Return a plotly figure of past and expected spending and workers.

        Args:
            epoch_seconds: As for `forecast`.
            patience: As for `forecast`.

        Raises:
            ValueError: As for `forecast`.
        """
        return self.forecast(epoch_seconds, patience=patience).plot(self.state, self.history)

    def plot_frontier(
        self, epoch_seconds: float | None = None, *, patience: str | float | timedelta | None = None
    ) -> Any:
        """Return a plotly figure of the expected best value against the budget, for several deadlines.

        Budgets range from half to four times the study's budget, deadlines from half to twice its deadline.

        Args:
            epoch_seconds: As for `forecast`.
            patience: Limit on processor time for the whole figure. Default: 40 seconds. Points that are not simulated
                by then are left out.

        Raises:
            ValueError: Nothing was reported yet.
        """
        state = self.state
        if not any(trial.curve for trial in state.trials.values()):
            raise ValueError("nothing was reported yet, so the metric is unknown: wait for the first epochs")
        least, used_s = state.ledger.least_budget_micro(state.now_s), state.now_s
        budgets = sorted({max(least, round(state.budget_micro * share)) for share in (0.5, 1, 2, 4)})
        deadlines = sorted({max(used_s + 1.0, state.deadline_s * share) for share in (0.5, 1.0, 2.0)})
        limit_s = _seconds(patience)
        table = frontier(state, self.read_policy(), budgets, deadlines, epoch_seconds=epoch_seconds, limit_s=limit_s)
        return plot_frontier(table, state.settings.metric)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from seer_nb.views import page
        from seer_nb.views.page import PageData, PageOptions

        subject = PageData(self.state, self.history, self.status, self.now_s, stalled=self.stalled)
        return {
            "text/plain": self.summary(),
            "text/html": page.render_fragment(subject, PageOptions(n_rows=page.STATIC_ROWS)),
        }

    def summary(self) -> str:
        """Return the study's state as text, as ``print`` shows it."""
        from seer_nb.views import text

        return text.format_summary(self.state, self.status, self.stalled, self.now_s)


def _seconds(patience: str | float | timedelta | None) -> float | None:
    return None if patience is None else parse_duration(patience, "patience")
