"""Plotly figures of a study, real or simulated: ``seer.figures.curves(study)`` and so on; plain plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from seer_nb.core.history import History
    from seer_nb.core.state import State
    from seer_nb.simulate import Outcome
    from seer_nb.study.forecast import Forecast
    from seer_nb.study.study import Study


__all__ = [
    "burn",
    "curves",
    "frontier",
    "parallel_coordinates",
    "parallelism",
    "parameter_importance",
    "timeline",
]


def curves(study: Study | Outcome) -> Figure:
    """Learning curves: survivors in colour, all others in grey, the best marked."""
    from seer_nb.views.plotly_curves import plot_curves

    return plot_curves(_read(study)[0])


def parallelism(study: Study | Outcome) -> Figure:
    """Workers of each trial over time, and the size of the cluster."""
    from seer_nb.views import figure_data
    from seer_nb.views.plotly_time import parallelism_plot
    from seer_nb.views.view_model import view_of

    state, history = _read(study)
    view = view_of(state)
    coloured = [trial.trial for trial in figure_data.curves(view).coloured]
    return parallelism_plot(figure_data.parallelism(state, history, view, coloured))


def burn(study: Study | Outcome, forecast: Forecast | None = None) -> Figure:
    """Spending over time, with budget and deadline.

    Args:
        study: To be shown.
        forecast: What ``study.forecast()`` gave at any time: then its band is shown as well.
    """
    from seer_nb.views import figure_data
    from seer_nb.views.plotly_time import burn_plot
    from seer_nb.views.view_model import view_of

    state, history = _read(study)
    return burn_plot(figure_data.burn(history, view_of(state), figure_data.told(forecast) if forecast else None))


def timeline(study: Study | Outcome) -> Figure:
    """Which trial trained when, on how many workers, and what has become of it."""
    from seer_nb.views.plotly_time import timeline_info, timeline_plot

    return timeline_plot(timeline_info(*_read(study)))


def parallel_coordinates(study: Study | Outcome) -> Figure:
    """A line a trial across an axis a hyperparameter, coloured by the best value."""
    from seer_nb.views.plotly_curves import coordinates_info, coordinates_plot

    return coordinates_plot(coordinates_info(_read(study)[0]))


def parameter_importance(study: Study | Outcome) -> Figure:
    """Which hyperparameters matter; see ``seer_nb.search_space.surrogate``.

    Raises:
        ValueError: Fewer than eight trials have reported.
    """
    from seer_nb.views.plotly_curves import importance_info, importance_plot

    return importance_plot(importance_info(_read(study)[0]))


def frontier(study: Study, epoch_seconds: float | None = None) -> Figure:
    """The best value to be expected against the budget, for several deadlines; see ``Study.plot_frontier``."""
    figure: Figure = study.plot_frontier(epoch_seconds)
    return figure


def _read(study: Study | Outcome) -> tuple[State, History]:
    from seer_nb.simulate import Outcome

    if isinstance(study, Outcome):
        return study.state, study.history
    return study.state, study.history
