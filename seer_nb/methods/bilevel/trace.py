"""What became of a minimisation: points, and a row for each outer step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor

    from seer_nb.methods.bilevel.optimizers import Told


class Point(NamedTuple):
    """Where an outer step has led."""

    step: int
    """The outer step, from 1; 0 is the start."""
    upper: float
    """f, as the step saw it before it moved u."""
    u: list[Tensor]
    v: list[Tensor]


class Row(NamedTuple):
    """A row of the trace."""

    step: int
    upper: float
    lower: float
    residual: float
    gamma: float
    regulariser: float
    eps: float
    value: float
    seconds: float

    @classmethod
    def of(cls, step: int, told: Told, value: float, seconds: float) -> Row:
        """Of what an outer step told."""
        schedule = told.schedule
        tight = (schedule.gamma, schedule.regulariser, schedule.eps) if schedule else (math.nan,) * 3
        return cls(step, told.upper, told.lower, told.residual, *tight, value, seconds)


@dataclass(frozen=True)
class Minimum(MethodResult):
    """The result of ``minimize``."""

    method: str
    reason: str
    """Why it ended."""
    best: Point
    """Where the monitor was least; without a monitor the last point."""
    last: Point
    """The last point whose numbers are finite."""
    rows: tuple[Row, ...]

    @property
    def u(self) -> list[Tensor]:
        """Of the best point."""
        return self.best.u

    @property
    def v(self) -> list[Tensor]:
        """Of the best point."""
        return self.best.v

    @property
    def frame(self) -> pd.DataFrame:
        """The trace, a row an outer step.

        Columns: step, upper (f), lower (g), residual (||grad_v g||), gamma, regulariser (lambda), eps (these three are
        NaN unless the method is the penalty's), value (the monitor's; NaN where it did not look), seconds (since the
        beginning).
        """
        import pandas as pd

        frame = pd.DataFrame(list(self.rows), columns=list(Row._fields))
        return frame.astype({name: "int64" if name == "step" else "float64" for name in Row._fields})

    def curves(self) -> pd.DataFrame:
        """The same as ``frame``."""
        return self.frame

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures: "levels" (f and g by outer step), "penalty" (what the schedule did to ||grad_v g||)."""
        from seer_nb.methods.bilevel.figures import levels_plot, penalty_plot

        return {"levels": levels_plot(self.rows), "penalty": penalty_plot(self.rows)}

    def __repr__(self) -> str:
        told = f"upper {self.last.upper:.6g} after step {self.last.step}"
        return f"<Minimum by {self.method!r}: {told}; {self.reason}, {self._made}>"
