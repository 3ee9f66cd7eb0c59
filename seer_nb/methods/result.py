"""What the results of all methods have: a frame, curves, figures, and files of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from seer_nb.core.units import show
from seer_nb.export import export

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from plotly.graph_objects import Figure

Table = Literal["results", "curves"]


class MethodResult(ABC):
    """The result of a method, of the same shape as a study's: tables as pandas frames, figures as plotly's."""

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

    def export(self, path: str | os.PathLike[str], table: Table = "results") -> Path:
        """Write a table to a file, in the format that the suffix says; see ``seer_nb.results.export``.

        Args:
            path: With the suffix csv, parquet, json, md, tex, html or xlsx.
            table: "results" is ``frame``, "curves" is ``curves()``.

        Returns:
            The path.

        Raises:
            ValueError: For an unknown table or suffix, or a folder that does not exist.
        """
        if table not in {"results", "curves"}:
            raise ValueError(f'table={show(table)} is unknown: give "results" or "curves"')
        return export(self.frame if table == "results" else self.curves(), path, table)
