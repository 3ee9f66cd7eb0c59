"""What a study is expected to come to, by simulation of what is left of it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from seer_nb.adjusting import new_budget, new_deadline
from seer_nb.core.units import parse_duration
from seer_nb.forecast import Forecast, forecast, frontier, plot_frontier
from seer_nb.reading import Reading

if TYPE_CHECKING:
    from datetime import timedelta

    from seer_nb.core.engine import Policy
    from seer_nb.settings import Money, Time


class Foretelling(Reading):
    """The part of a study that foretells."""

    @abstractmethod
    def _policy(self) -> Policy:
        """The study's."""

    def forecast(
        self, epoch_seconds: float | None = None, *, patience: str | float | timedelta | None = None
    ) -> Forecast:
        """What is to be expected of the time and money that are left, by simulation; see `seer_nb.forecast.Forecast`.

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
        state = self._state()
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
        return self.forecast(epoch_seconds, patience=patience).plot(self._state(), self._history())

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
        state = self._state()
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
