"""What became of a simulated study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from seer_nb.core.money import MICRO
from seer_nb.core.state import State
from seer_nb.history import History
from seer_nb.results import curves_frame, results_frame, spending_frame

if TYPE_CHECKING:
    import pandas as pd

    from seer_nb.simulate.cloud import WatchedCloud


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result, what it took, and whether the promises held."""

    best_value: float | None
    """The best value whose checkpoint is stored; None when there is none."""
    best_test_value: float | None
    """The test value of that trial at that epoch, which no policy saw."""
    spent_usd: float
    elapsed_s: float
    """Study seconds until the last machine was gone."""
    n_trials: int
    """Configurations that were begun."""
    epochs: int
    """That were trained in all."""
    peak_workers: int
    """Most workers rented at a time."""
    over_budget_usd: float
    """What the provider asked for beyond the budget in force: 0, always."""
    over_deadline_s: float
    """Seconds by which a machine outlived the deadline in force: 0, always."""
    reason: str
    """Why the study ended."""
    state: State
    """All of it."""
    history: History
    """How it came about."""

    @property
    def violated(self) -> bool:
        """Whether one of the two promises was broken."""
        return self.over_budget_usd > 0 or self.over_deadline_s > 0

    def results(self, view: Literal["best", "last"] = "best") -> pd.DataFrame:
        """A row a trial; the columns of ``Study.results``."""
        return results_frame(self.state, view=view)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from seer_nb.ui import static, text

        return {"text/plain": text.summary(self.state), "text/html": static.html(self.state, self.history)}

    def curves(self) -> pd.DataFrame:
        """A row a report; the columns of ``Study.curves``."""
        return curves_frame(self.state)

    def spending(self) -> pd.DataFrame:
        """Money over time by machine; the columns of ``Study.spending``."""
        return spending_frame(self.state)


def outcome_of(cloud: WatchedCloud) -> Outcome:
    """Of a study that has ended."""
    state = cloud.state
    best = state.best.best if state.best else None
    return Outcome(
        best_value=best.value if best else None,
        best_test_value=best.metrics.get("test_value") if best else None,
        spent_usd=cloud.real_bill() / MICRO,
        elapsed_s=cloud.now_s,
        n_trials=sum(trial.state != "waiting" for trial in state.trials.values()),
        epochs=sum(len(trial.curve) for trial in state.trials.values()),
        peak_workers=cloud.peak,
        over_budget_usd=cloud.over_budget / MICRO,
        over_deadline_s=cloud.over_deadline_s,
        reason=state.reason,
        state=state,
        history=cloud.history,
    )
