"""The base class of the results of all methods: tables, figures, and export to files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from seer_nb._utils.units import format_duration
from seer_nb._utils.validation import check_choice
from seer_nb.views.export import export

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd
    from plotly.graph_objects import Figure


Seed: TypeAlias = int | tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodResult(ABC):
    """The result of a method, with the same interface as a study's: pandas tables and plotly figures."""

    seed: Seed
    """Seed of all random draws; a tuple if the method ran once per seed; None if nothing was drawn."""
    wall_s: float
    """Seconds from start to end; for a study, the seconds in which it ran."""

    if TYPE_CHECKING:
        # Not abstract: some dataclasses define it as a field.
        @property
        def best(self) -> Any:
            """The best outcome that the method found."""

    @property
    @abstractmethod
    def frame(self) -> pd.DataFrame:
        """The table of results."""

    @abstractmethod
    def curves(self) -> pd.DataFrame:
        """Return the table of intermediate results, one row per step."""

    @property
    @abstractmethod
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures by name."""

    @property
    def _tables(self) -> Mapping[str, Callable[[], pd.DataFrame]]:
        """The tables that ``export`` can write, by name."""
        return {"results": lambda: self.frame, "curves": self.curves}

    @property
    def _seed_and_duration(self) -> str:
        """Seed and duration as text, for the end of a repr."""
        seed = f"{len(self.seed)} seeds" if isinstance(self.seed, tuple) else f"seed {self.seed}"
        return f"{seed}, {format_duration(self.wall_s)}"

    def export(self, path: str | os.PathLike[str], table: str = "results") -> Path:
        """Write a table to a file; the suffix selects the format, as in ``seer_nb.views.export.export``.

        Args:
            path: File with the suffix csv, parquet, json, md, tex, html or xlsx.
            table: "results" (``frame``), "curves" (``curves()``), or another table that the method adds.

        Returns:
            The path of the written file.

        Raises:
            TypeError, ValueError, SeerError: The table or suffix is unknown, or the folder does not exist.

        Example:
            >>> result.export("results.csv")
            >>> result.export("curves.parquet", table="curves")
        """
        tables = self._tables
        return export(tables[check_choice(table, "table", tables)](), path, title=table)
