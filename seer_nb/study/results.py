"""What a study has come to, read from its journal: tables, figures, the best trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from seer_nb._utils.text import show
from seer_nb._utils.units import parse_duration
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

    from seer_nb.core.history import History
    from seer_nb.core.policy import Policy
    from seer_nb.core.state import State
    from seer_nb.search_space import Space
    from seer_nb.storage.replay import View
    from seer_nb.study.settings import Money, Time


Table = Literal["results", "curves", "spending", "events"]


class Reading(ABC):
    """The part of a study that only reads."""

    name: str

    @property
    @abstractmethod
    def stuck(self) -> str:
        """Why it does not get on, though it runs, in a sentence; empty if it does."""

    @property
    @abstractmethod
    def status(self) -> str:
        """One word: created, running, pausing, paused, ending, ended, failed, or interrupted (its runner died)."""

    @property
    @abstractmethod
    def state(self) -> State:
        """The newest state."""

    @abstractmethod
    def _now_s(self) -> float:
        """Study seconds now, which the newest state may not have seen yet."""

    @property
    @abstractmethod
    def history(self) -> History:
        """How it came to its state."""

    @abstractmethod
    def _space(self) -> Space:
        """What is searched. Raises SeerError if that cannot be read."""

    @abstractmethod
    def _started(self) -> View:
        """The journal's view. Raises SeerError before the study was started."""

    @property
    def reason(self) -> str:
        """Why it ended; empty before."""
        return self.state.reason

    @property
    def best(self) -> best_checkpoint.Best | None:
        """The trial and epoch with the best value whose checkpoint is stored; None before the first."""
        return best_checkpoint.of(self.state)

    def results(self, view: Literal["best", "last"] = "best") -> pd.DataFrame:
        """A row a trial; its value and epoch are those of its best stored report, or of its last one."""
        from seer_nb.views.tables import results_frame

        return results_frame(self.state, view=view)

    def curves(self) -> pd.DataFrame:
        """A row a report."""
        from seer_nb.views.tables import curves_frame

        return curves_frame(self.state)

    def spending(self) -> pd.DataFrame:
        """Money over time, by machine."""
        from seer_nb.views.tables import spending_frame

        return spending_frame(self.state)

    def events(self) -> pd.DataFrame:
        """Every event and every decision with its reason."""
        from seer_nb.views.tables import events_frame

        view = self._started()
        return events_frame((e.seq, e.at_s, e.record) for e in view.journal.read())

    def export(self, path: str | os.PathLike[str], table: Table = "results") -> Path:
        """Write a table to a file.

        Args:
            path: Its suffix says the format: csv, parquet, json, md, tex, html or xlsx.
            table: "results", "curves", "spending" or "events".

        Raises:
            ValueError: For an unknown suffix or table.
        """
        from seer_nb.views.export import export

        tables: dict[str, Callable[[], pd.DataFrame]] = {
            "results": self.results,
            "curves": self.curves,
            "spending": self.spending,
            "events": self.events,
        }
        if table not in tables:
            raise ValueError(f"table={show(table)} is unknown: give one of {', '.join(map(repr, tables))}")
        return export(tables[table](), path, title=f"{self.name}: {table}")

    def plot_curves(self) -> Any:
        """The learning curves as a plotly figure."""
        from seer_nb.views.plotly_curves import plot_curves

        return plot_curves(self.state)

    def to_optuna(self, storage: Any = None) -> optuna.Study:
        """The study as an ``optuna.Study``, for Optuna's figures and its dashboard; see ``seer_nb.study.optuna``.

        Its ``best_trial`` is ``study.best``. Trials that were stopped early are PRUNED, those that were in the running
        to the end COMPLETE; the user attribute "state" of each has the word that ``results()`` has, "epoch" how far it
        was trained.

        Args:
            storage: An Optuna storage, or its URL, such as "sqlite:///optuna.db"; None: in memory. An earlier copy of
                this study in it is replaced.

        Raises:
            ValueError: The storage has another study of that name.
        """
        from seer_nb.study.optuna import to_optuna

        first = next(iter(self._started().journal.read()))
        return to_optuna(self.state, self._space(), first.wall, storage)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write all there is to see of it as one html file that works without a network.

        Returns:
            The path.
        """
        from seer_nb.views.page import write

        return write(path, self.name, self.state, self.history, self.status)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from seer_nb.views import page
        from seer_nb.views.page import Subject, Wish

        subject = Subject(self.state, self.history, self.status, self._now_s(), stuck=self.stuck)
        return {"text/plain": self._summary(), "text/html": page.fragment(subject, Wish(n_rows=page.N_ROWS))}

    def _summary(self) -> str:
        """As a terminal shows it."""
        from seer_nb.views import text

        return text.summary(self.state, self.status, self.stuck, self._now_s())


class Foretelling(Reading):
    """The part of a study that foretells."""

    @abstractmethod
    def _policy(self) -> Policy:
        """The study's."""

    def forecast(
        self, epoch_seconds: float | None = None, *, patience: str | float | timedelta | None = None
    ) -> Forecast:
        """What is to be expected of the time and money that are left, by simulation; see `Forecast`.

        The study's policy is run in the simulator, several times, on curves that continue those seen so far. That takes
        a few seconds, more where thousands of trials are to come. Before the first report nothing is known of the
        metric, so no value is forecast.

        Args:
            epoch_seconds: Of an epoch on one worker: a guess, needed before the first one was measured.
            patience: Processor time that it may take: seconds, or text such as "2min". Default: 20 seconds. After that
                the forecast has only what the planner says, in ``stages``.

        Raises:
            ValueError: Nothing was measured yet and epoch_seconds is not given.
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
        """What `forecast` would say after `adjust`; nothing is changed.

        Raises:
            ValueError, SeerError: As for `adjust` and `forecast`.
        """
        state = self.state
        return forecast(
            state,
            self._policy(),
            epoch_seconds=epoch_seconds,
            budget=None if budget is None else new_budget(state, budget).budget,
            deadline_s=None if deadline is None else new_deadline(state, deadline).deadline_s,
            limit_s=_seconds(patience),
        )

    def plot_forecast(
        self, epoch_seconds: float | None = None, *, patience: str | float | timedelta | None = None
    ) -> Any:
        """Expected spending and workers beside what was spent so far, as a plotly figure."""
        return self.forecast(epoch_seconds, patience=patience).plot(self.state, self.history)

    def plot_frontier(
        self, epoch_seconds: float | None = None, *, patience: str | float | timedelta | None = None
    ) -> Any:
        """The best value to be expected against the budget, for several deadlines, as a plotly figure.

        Budgets from a half to four times the study's, deadlines from a half to twice.

        Args:
            epoch_seconds: As for `forecast`.
            patience: Processor time that all may take. Default: 40 seconds. What is not simulated by then is left out.

        Raises:
            ValueError: Nothing was reported yet.
        """
        state = self.state
        if not any(trial.curve for trial in state.trials.values()):
            raise ValueError("nothing was reported yet, so nothing is known of the metric: wait for the first epochs")
        least, used_s = state.ledger.floor(state.now_s), state.now_s
        budgets = sorted({max(least, round(state.budget * share)) for share in (0.5, 1, 2, 4)})
        deadlines = sorted({max(used_s + 1.0, state.deadline_s * share) for share in (0.5, 1.0, 2.0)})
        limit_s = _seconds(patience)
        table = frontier(state, self._policy(), budgets, deadlines, epoch_seconds=epoch_seconds, limit_s=limit_s)
        return plot_frontier(table, state.settings.metric)


def _seconds(patience: str | float | timedelta | None) -> float | None:
    return None if patience is None else parse_duration(patience, "patience")
