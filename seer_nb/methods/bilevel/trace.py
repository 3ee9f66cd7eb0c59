"""The result of a minimisation: its points, and one trace row per outer step."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from seer_nb.methods.result import MethodResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor

    from seer_nb.methods.bilevel.optimizers import StepInfo


class Point(NamedTuple):
    """The variables after an outer step."""

    step: int
    """Outer step, from 1; 0 is the start."""
    upper: float
    """f before the step moved u; NaN at the start."""
    u: list[Tensor]
    v: list[Tensor]


class Row(NamedTuple):
    """A row of the trace; see ``Minimum.frame`` for its columns."""

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
    def of(cls, step: int, info: StepInfo, value: float, seconds: float) -> Row:
        """Create the row of an outer step."""
        schedule = info.schedule
        stage = (schedule.gamma, schedule.regulariser, schedule.eps) if schedule else (math.nan,) * 3
        return cls(step, info.upper, info.lower, info.residual, *stage, value, seconds)


@dataclass(frozen=True)
class Minimum(MethodResult):
    """The result of ``minimize``."""

    method: str
    reason: str
    """Why the minimisation ended."""
    best: Point
    """Point with the smallest monitor value; without a monitor the last point."""
    last: Point
    """Last point with finite numbers."""
    rows: tuple[Row, ...]
    """Trace, one row per outer step."""

    @property
    def u(self) -> list[Tensor]:
        """Value of u at the best point."""
        return self.best.u

    @property
    def v(self) -> list[Tensor]:
        """Value of v at the best point."""
        return self.best.v

    @property
    def frame(self) -> pd.DataFrame:
        """The trace, one row per outer step.

        Columns: step, upper (f), lower (g), residual (||grad_v g||), gamma, regulariser (lambda) and eps (NaN unless
        the method is "penalty"), value (the monitor's; NaN at steps without a call), seconds (since the start).
        """
        import pandas as pd

        frame = pd.DataFrame(list(self.rows), columns=list(Row._fields))
        return frame.astype({name: "int64" if name == "step" else "float64" for name in Row._fields})

    def curves(self) -> pd.DataFrame:
        """Return the trace, the same as ``frame``."""
        return self.frame

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures: "levels" (f and g by outer step), "penalty" (||grad_v g|| and the schedule)."""
        from seer_nb.methods.bilevel.figures import plot_levels, plot_penalty

        return {"levels": plot_levels(self.rows), "penalty": plot_penalty(self.rows)}

    def __repr__(self) -> str:
        last = f"upper {self.last.upper:.6g} after step {self.last.step}"
        return f"<Minimum by {self.method!r}: {last}; {self.reason}, {self._seed_and_duration}>"


@dataclass(frozen=True, kw_only=True)
class TracedResult(MethodResult):
    """The result of an application of ``minimize``: its minimum is the trace, and gives the figures."""

    minimum: Minimum

    def curves(self) -> pd.DataFrame:
        """Return the trace, one row per outer step, with the columns of ``Minimum.frame``."""
        return self.minimum.frame

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Plotly figures by name: those of ``Minimum``, and those of the application."""
        return {**self.minimum.figures, **self._own_figures()}

    @abstractmethod
    def _own_figures(self) -> Mapping[str, Figure]:
        """Return the application's figures by name."""
