"""Plotly figures of a study: ``seer.figures.curves(study)`` and so on; each is a plain plotly figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from seer_nb.forecast import Forecast
    from seer_nb.study import Study

__all__ = [
    "burn",
    "curves",
    "frontier",
    "parallel_coordinates",
    "parallelism",
    "parameter_importance",
    "timeline",
]


def curves(study: Study) -> Figure:
    """Learning curves: survivors in colour, all others in grey, the best marked."""
    from seer_nb.ui.figures import plot_curves

    return plot_curves(study._state())  # noqa: SLF001 - of the same package


def parallelism(study: Study) -> Figure:
    """Workers of each trial over time, and the size of the cluster."""
    from seer_nb.ui import infos
    from seer_nb.ui.figures_time import parallelism_plot
    from seer_nb.ui.view import look

    state, history = study._state(), study._history()  # noqa: SLF001 - of the same package
    view = look(state)
    coloured = [trial.trial for trial in infos.curves(view).coloured]
    return parallelism_plot(infos.parallelism(state, history, view, coloured))


def burn(study: Study, forecast: Forecast | None = None) -> Figure:
    """Spending over time, with budget and deadline.

    Args:
        study: To be shown.
        forecast: What ``study.forecast()`` gave at any time: then its band is shown as well.
    """
    from seer_nb.ui import infos
    from seer_nb.ui.figures_time import burn_plot
    from seer_nb.ui.view import look

    state, history = study._state(), study._history()  # noqa: SLF001 - of the same package
    return burn_plot(infos.burn(history, look(state), infos.told(forecast)))


def timeline(study: Study) -> Figure:
    """Which trial trained when, on how many workers, and what has become of it."""
    from seer_nb.ui.figures_time import timeline_info, timeline_plot

    return timeline_plot(timeline_info(study._state(), study._history()))  # noqa: SLF001 - of the same package


def parallel_coordinates(study: Study) -> Figure:
    """A line a trial across an axis a hyperparameter, coloured by the best value."""
    from seer_nb.ui.figures_space import coordinates_info, coordinates_plot

    return coordinates_plot(coordinates_info(study._state()))  # noqa: SLF001 - of the same package


def parameter_importance(study: Study) -> Figure:
    """Which hyperparameters matter; see ``seer_nb.importance``.

    Raises:
        ValueError: Fewer than eight trials have reported.
    """
    from seer_nb.ui.figures_space import importance_info, importance_plot

    return importance_plot(importance_info(study._state()))  # noqa: SLF001 - of the same package


def frontier(study: Study, epoch_seconds: float | None = None) -> Figure:
    """The best value to be expected against the budget, for several deadlines; see ``Study.plot_frontier``."""
    figure: Figure = study.plot_frontier(epoch_seconds)
    return figure
