"""Plotly figures of a real or simulated study.

Example:
    figure = seer.figures.curves(study)
    figure.update_layout(height=600)
    figure.write_html("curves.html")
"""

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
    """Plot the learning curves: survivors in colour, all others grey, the best marked."""
    from seer_nb.views.plotly_curves import plot_curves

    return plot_curves(_read(study)[0])


def parallelism(study: Study | Outcome) -> Figure:
    """Plot each trial's number of workers over time, and the size of the cluster."""
    from seer_nb.views import figure_data
    from seer_nb.views.plotly_time import parallelism_plot
    from seer_nb.views.view_model import build_view

    state, history = _read(study)
    view = build_view(state)
    coloured = [trial.trial for trial in figure_data.curves_info(view).coloured]
    return parallelism_plot(figure_data.parallelism_info(state, history, view, coloured))


def burn(study: Study | Outcome, forecast: Forecast | None = None) -> Figure:
    """Plot the money spent over time, with budget and deadline.

    Args:
        study: A study or a simulation's outcome.
        forecast: Result of ``study.forecast()``, at any time; its band is plotted too. Default: no forecast.
    """
    from seer_nb.views import figure_data
    from seer_nb.views.plotly_time import burn_plot
    from seer_nb.views.view_model import build_view

    state, history = _read(study)
    expected = figure_data.spending_forecast(forecast) if forecast else None
    return burn_plot(figure_data.burn_info(history, build_view(state), expected))


def timeline(study: Study | Outcome) -> Figure:
    """Plot when each trial trained and on how many workers, coloured by the trial's state."""
    from seer_nb.views.plotly_time import timeline_info, timeline_plot

    return timeline_plot(timeline_info(*_read(study)))


def parallel_coordinates(study: Study | Outcome) -> Figure:
    """Plot one line per trial across one axis per hyperparameter, coloured by the trial's best value."""
    from seer_nb.views.plotly_curves import coordinates_info, coordinates_plot

    return coordinates_plot(coordinates_info(_read(study)[0]))


def parameter_importance(study: Study | Outcome) -> Figure:
    """Plot the importance of each hyperparameter; see ``seer_nb.search_space.surrogate``.

    Raises:
        ValueError: Fewer than eight trials have reported.
    """
    from seer_nb.views.plotly_curves import importance_info, importance_plot

    return importance_plot(importance_info(_read(study)[0]))


def frontier(study: Study, epoch_seconds: float | None = None) -> Figure:
    """Plot the expected best value against the budget, for several deadlines; see ``Study.plot_frontier``."""
    figure: Figure = study.plot_frontier(epoch_seconds)
    return figure


def _read(study: Study | Outcome) -> tuple[State, History]:
    return study.state, study.history
