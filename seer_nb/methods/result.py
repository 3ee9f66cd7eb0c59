"""What the results of all methods have: a frame, curves, figures, and files of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from seer_nb.export import export
from seer_nb.methods.arguments import one_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd
    from plotly.graph_objects import Figure


class MethodResult(ABC):
    """The result of a method, of the same shape as a study's: tables as pandas frames, figures as plotly's."""

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

    def export(self, path: str | os.PathLike[str], table: str = "results") -> Path:
        """Write a table to a file, in the format that the suffix says; see ``seer_nb.export.export``.

        Args:
            path: With the suffix csv, parquet, json, md, tex, html or xlsx.
            table: "results" is ``frame``, "curves" is ``curves()``; a method may have more.

        Returns:
            The path.

        Raises:
            TypeError, ValueError, SeerError: For an unknown table or suffix, or a folder that does not exist.
        """
        tables = self._tables
        return export(tables[one_of(table, "table", tables)](), path, title=table)
