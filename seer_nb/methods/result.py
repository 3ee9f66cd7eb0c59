"""What the results of all methods have: a frame, curves, figures, and files of them."""

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
    """The result of a method, of the same shape as a study's: tables as pandas frames, figures as plotly's."""

    seed: Seed
    """That all which was drawn comes from; several, if all was done for each; None: nothing was drawn."""
    wall_s: float
    """Seconds from the beginning to the end; of a study, those in which it ran."""

    if TYPE_CHECKING:
        # Not abstract: dataclasses have it as a field.
        @property
        def best(self) -> Any:
            """What the method was asked for."""

    @property
    @abstractmethod
    def frame(self) -> pd.DataFrame:
        """What came of it, as a table."""

    @abstractmethod
    def curves(self) -> pd.DataFrame:
        """How it came about: a row a step."""

    @property
    @abstractmethod
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures by name."""

    @property
    def _tables(self) -> Mapping[str, Callable[[], pd.DataFrame]]:
        """What can be exported, by name."""
        return {"results": lambda: self.frame, "curves": self.curves}

    @property
    def _made(self) -> str:
        """With which seed, and how long it took: the end of its text."""
        seed = f"{len(self.seed)} seeds" if isinstance(self.seed, tuple) else f"seed {self.seed}"
        return f"{seed}, {format_duration(self.wall_s)}"

    def export(self, path: str | os.PathLike[str], table: str = "results") -> Path:
        """Write a table to a file, in the format that the suffix says; see ``seer_nb.views.export.export``.

        Args:
            path: With the suffix csv, parquet, json, md, tex, html or xlsx.
            table: "results" is ``frame``, "curves" is ``curves()``; a method may have more.

        Returns:
            The path.

        Raises:
            TypeError, ValueError, SeerError: For an unknown table or suffix, or a folder that does not exist.
        """
        tables = self._tables
        return export(tables[check_choice(table, "table", tables)](), path, title=table)
