"""What a study has come to, read from its journal: tables, figures, the best trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from seer_nb import best
from seer_nb.core.units import show

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    import optuna
    import pandas as pd

    from seer_nb.core.state import State
    from seer_nb.history import History
    from seer_nb.journal import View
    from seer_nb.space import Space

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

    @abstractmethod
    def _state(self) -> State:
        """The newest state."""

    @abstractmethod
    def _now_s(self) -> float:
        """Study seconds now, which the newest state may not have seen yet."""

    @abstractmethod
    def _history(self) -> History:
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
        return self._state().reason

    @property
    def best(self) -> best.Best | None:
        """The trial and epoch with the best value whose checkpoint is stored; None before the first."""
        return best.of(self._state())

    def results(self, view: Literal["best", "last"] = "best") -> pd.DataFrame:
        """A row a trial; its value and epoch are those of its best stored report, or of its last one."""
        from seer_nb.results import results_frame

        return results_frame(self._state(), view=view)

    def curves(self) -> pd.DataFrame:
        """A row a report."""
        from seer_nb.results import curves_frame

        return curves_frame(self._state())

    def spending(self) -> pd.DataFrame:
        """Money over time, by machine."""
        from seer_nb.results import spending_frame

        return spending_frame(self._state())

    def events(self) -> pd.DataFrame:
        """Every event and every decision with its reason."""
        from seer_nb.results import events_frame

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
        from seer_nb.export import export

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
        from seer_nb.ui.figures import plot_curves

        return plot_curves(self._state())

    def to_optuna(self, storage: Any = None) -> optuna.Study:
        """The study as an ``optuna.Study``, for Optuna's figures and its dashboard; see ``seer_nb.optuna_study``.

        Its ``best_trial`` is ``study.best``. Trials that were stopped early are PRUNED, those that were in the running
        to the end COMPLETE; the user attribute "state" of each has the word that ``results()`` has, "epoch" how far it
        was trained.

        Args:
            storage: An Optuna storage, or its URL, such as "sqlite:///optuna.db"; None: in memory. An earlier copy of
                this study in it is replaced.

        Raises:
            ValueError: The storage has another study of that name.
        """
        from seer_nb.optuna_study import to_optuna

        first = next(iter(self._started().journal.read()))
        return to_optuna(self._state(), self._space(), first.wall, storage)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write all there is to see of it as one html file that works without a network.

        Returns:
            The path.
        """
        from seer_nb.ui.report import write

        return write(path, self.name, self._state(), self._history(), self.status)

    def _ipython_display_(self) -> None:
        """Below a notebook's cell: the live view; elsewhere, or without widgets, a static picture or text."""
        from seer_nb.ui.show import show

        show(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from seer_nb.ui import static
        from seer_nb.ui.scene import Subject, Wish

        subject = Subject(self._state(), self._history(), self.status, self._now_s(), stuck=self.stuck)
        return {"text/plain": self._summary(), "text/html": static.fragment(subject, Wish(n_rows=static.N_ROWS))}

    def _summary(self) -> str:
        """As a terminal shows it."""
        from seer_nb.ui import text

        return text.summary(self._state(), self.status, self.stuck, self._now_s())
