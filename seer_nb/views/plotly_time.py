"""Plotly figures over time: workers, money, and the timeline of trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.history import initial_history, step_value_at
from seer_nb.views.figure_data import burn_info, spending_forecast
from seer_nb.views.palette import GREY, OKABE_ITO, PLOTLY_DASHES, LineStyle, Palette
from seer_nb.views.plotly_curves import escape_text
from seer_nb.views.view_model import build_view

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from plotly.graph_objects import Bar, Figure, Scatter

    from seer_nb.core import TrialState
    from seer_nb.core.history import History, Mark, Steps
    from seer_nb.core.state import State
    from seer_nb.study.forecast import Forecast
    from seer_nb.views.figure_data import Band, BurnInfo, ParallelismInfo, SpendingPoint


_STATES: dict[TrialState, tuple[str, str]] = {
    "running": (OKABE_ITO[0], ""),
    "completed": (OKABE_ITO[2], "x"),
    "paused": (OKABE_ITO[5], "/"),
    "stopped": (GREY, "."),
    "failed": (OKABE_ITO[3], "+"),
}
"""(colour, hatch) of each trial state; colour alone never distinguishes two states."""


class Span(NamedTuple):
    """A period in which a trial trained on a constant number of workers. Times are study seconds."""

    trial: int
    begin_s: float
    end_s: float
    workers: int
    state: TrialState
    """State of the trial now."""


class TimelineInfo(NamedTuple):
    """Data of the timeline."""

    spans: tuple[Span, ...]
    deadline_s: float


def timeline_info(state: State, history: History) -> TimelineInfo:
    """Collect the periods in which trials had workers."""
    spans = []
    for trial, steps in history.workers.items():
        ends = [at_s for at_s, _ in steps[1:]] + [state.now_s]
        for (begin_s, workers), end_s in zip(steps, ends, strict=True):
            if workers and end_s > begin_s:
                spans.append(Span(trial, begin_s, end_s, int(workers), state.trials[trial].state))
    return TimelineInfo(tuple(spans), state.deadline_s)


def timeline_plot(info: TimelineInfo) -> Figure:
    """Plot one row per trial and one bar per span, coloured and hatched by the trial's state."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": "plotly_white", "title": {"text": "Timeline of trials"}})
    for state, (colour, hatch) in _STATES.items():
        spans = [span for span in info.spans if span.state == state]
        if spans:
            figure.add_trace(_bars(spans, state, colour, hatch))
    figure.add_vline(x=info.deadline_s, line={"dash": "dash"}, annotation_text="deadline")
    figure.update_layout(barmode="overlay", bargap=0.1, legend_title_text="state of the trial")
    figure.update_xaxes(title_text="study seconds", rangemode="tozero")
    figure.update_yaxes(title_text="trial", autorange="reversed")
    return figure


def _bars(spans: list[Span], state: TrialState, colour: str, hatch: str) -> Bar:
    import plotly.graph_objects as go

    return go.Bar(
        x=[span.end_s - span.begin_s for span in spans],
        base=[span.begin_s for span in spans],
        y=[span.trial for span in spans],
        customdata=[span.workers for span in spans],
        orientation="h",
        name=state,
        marker={"color": colour, "pattern": {"shape": hatch}},
        hovertemplate="trial %{y}: %{customdata} workers from %{base:.1f} s for %{x:.1f} s<extra></extra>",
    )


def parallelism_plot(info: ParallelismInfo) -> Figure:
    """Plot one band per trial, the number of ready workers as a line, losses, and changes of limits."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": "plotly_white", "title": {"text": "Workers"}})
    styles = Palette().assign(band.trial for band in info.bands if band.trial is not None)
    moments = sorted({at_s for band in info.bands for at_s, _ in band.steps} | {info.now_s})
    for band in info.bands:
        figure.add_trace(_band(band, moments, styles.get(band.trial) if band.trial is not None else None))
    figure.add_trace(_stairs(info.size, info.now_s, "ready", {"color": "#444444", "width": 2}))
    figure.add_trace(_stairs(info.wanted, info.now_s, "wanted", {"color": "#444444", "dash": "dot"}))
    if info.losses:
        at = list(info.losses)
        cross = {"symbol": "x", "size": 9, "color": OKABE_ITO[3]}
        figure.add_trace(
            go.Scatter(x=at, y=[step_value_at(info.size, s) for s in at], mode="markers", marker=cross, name="lost")
        )
    _mark(figure, info.marks)
    figure.update_xaxes(title_text="study seconds", range=[0, info.until_s])
    figure.update_yaxes(title_text="workers", rangemode="tozero")
    return figure


def _band(band: Band, moments: list[float], style: LineStyle | None) -> Scatter:
    import plotly.graph_objects as go

    name = "other trials" if band.trial is None else f"trial {band.trial}"
    line = {"width": 1, "shape": "hv", "color": style.colour if style else GREY}
    if style:
        line["dash"] = PLOTLY_DASHES[style.dash]
    workers = [step_value_at(band.steps, at_s) for at_s in moments]
    return go.Scatter(x=moments, y=workers, name=name, stackgroup="workers", line=line)


def _stairs(steps: Steps, until_s: float, name: str, line: Mapping[str, object]) -> Scatter:
    import plotly.graph_objects as go

    x, y = [at_s for at_s, _ in steps] + [until_s], [value for _, value in steps] + [steps[-1][1]]
    return go.Scatter(x=x, y=y, name=name, line={**line, "shape": "hv"}, mode="lines")


def burn_plot(info: BurnInfo) -> Figure:
    """Plot the spending over the forecast's band, with budget and deadline as lines."""
    import plotly.graph_objects as go

    figure = go.Figure(_expected(info.plan), layout={"template": "plotly_white", "title": {"text": "Money"}})
    _add_spending(figure, info)
    return figure


def forecast_plot(forecast: Forecast, state: State | None, history: History | None) -> Figure:
    """Plot expected spending and workers, with the actual spending if a state is given."""
    import plotly.graph_objects as go

    title = {"text": "Spending: plan and actual"}
    plan = spending_forecast(forecast)
    figure = go.Figure(_expected(plan.points), layout={"template": "plotly_white", "title": title})
    table, stairs = forecast.over_time, {"shape": "hv"}
    figure.add_trace(go.Scatter(x=table.elapsed_s, y=table.workers, name="workers", yaxis="y2", line=stairs))
    if state is not None:
        history = initial_history(state.settings) if history is None else history
        _add_spending(figure, burn_info(history, build_view(state), plan))
    right = {"title": {"text": "workers"}, "overlaying": "y", "side": "right", "rangemode": "tozero"}
    figure.update_layout(yaxis2=right)
    return figure


def _expected(plan: Sequence[SpendingPoint]) -> list[Scatter]:
    """Draw the expected spending with its band."""
    import plotly.graph_objects as go

    if not plan:
        return []
    times, middle, low, high = zip(*plan, strict=True)
    fill = {"fill": "toself", "fillcolor": "rgba(0, 114, 178, 0.2)", "line": {"width": 0}}
    return [
        go.Scatter(x=[*times, *times[::-1]], y=[*high, *low[::-1]], name="band", hoverinfo="skip", **fill),
        go.Scatter(x=times, y=middle, name="expected", line={"color": OKABE_ITO[0], "dash": "dot"}),
    ]


def _add_spending(figure: Figure, info: BurnInfo) -> None:
    """Draw the actual spending, the limits, and changes of limits."""
    import plotly.graph_objects as go

    x, y = [at_s for at_s, _ in info.spent], [money for _, money in info.spent]
    figure.add_trace(go.Scatter(x=x, y=y, name="spent", line={"color": "#444444", "width": 3}))
    limit = {"color": OKABE_ITO[3], "dash": "dash"}
    figure.add_trace(_stairs(info.budgets, info.until_s, "budget", limit))
    figure.add_vline(x=info.deadlines[-1][1], line=limit, annotation_text="deadline")
    _mark(figure, info.marks)
    figure.update_xaxes(title_text="study seconds", rangemode="tozero")
    figure.update_yaxes(title_text="USD", rangemode="tozero")


def _mark(figure: Figure, marks: Iterable[Mark]) -> None:
    for mark in marks:
        line = {"color": OKABE_ITO[4], "dash": "dot"}
        figure.add_vline(x=mark.at_s, line=line, annotation_text=escape_text(mark.text), annotation_textangle=-90)
