"""Plotly figures over time: workers, money, and who trained when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from seer_nb.core.history import begun, value_at
from seer_nb.views.figure_data import burn, told
from seer_nb.views.palette import GREY, OKABE_ITO, PLOTLY_DASHES, Look, Palette
from seer_nb.views.plotly_curves import shown
from seer_nb.views.view_model import view_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from plotly.graph_objects import Bar, Figure, Scatter

    from seer_nb.core import TrialState
    from seer_nb.core.history import History, Mark, Steps
    from seer_nb.core.state import State
    from seer_nb.study.forecast import Forecast
    from seer_nb.views.figure_data import Band, BurnInfo, ParallelismInfo


_STATES: dict[TrialState, tuple[str, str]] = {
    "running": (OKABE_ITO[0], ""),
    "completed": (OKABE_ITO[2], "x"),
    "paused": (OKABE_ITO[5], "/"),
    "stopped": (GREY, "."),
    "failed": (OKABE_ITO[3], "+"),
}
"""Colours and hatches: never colour alone."""


class Span(NamedTuple):
    """A time in which a trial trained on so many workers."""

    trial: int
    begin_s: float
    end_s: float
    workers: int
    state: TrialState
    """Of the trial now."""


class TimelineInfo(NamedTuple):
    """Who trained when."""

    spans: tuple[Span, ...]
    deadline_s: float


def timeline_info(state: State, history: History) -> TimelineInfo:
    """Who trained when: a span for each time that a trial had workers."""
    spans = []
    for trial, steps in history.workers.items():
        ends = [at_s for at_s, _ in steps[1:]] + [state.now_s]
        for (begin_s, workers), end_s in zip(steps, ends, strict=True):
            if workers and end_s > begin_s:
                spans.append(Span(trial, begin_s, end_s, int(workers), state.trials[trial].state))
    return TimelineInfo(tuple(spans), state.deadline_s)


def timeline_plot(info: TimelineInfo) -> Figure:
    """A row a trial, a bar a span, coloured and hatched by what has become of the trial."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": "plotly_white", "title": {"text": "Who trained when"}})
    for state, (colour, hatch) in _STATES.items():
        spans = [span for span in info.spans if span.state == state]
        if spans:
            figure.add_trace(_bars(spans, state, colour, hatch))
    figure.add_vline(x=info.deadline_s, line={"dash": "dash"}, annotation_text="deadline")
    figure.update_layout(barmode="overlay", bargap=0.1, legend_title_text="the trial is")
    figure.update_xaxes(title_text="seconds of the study", rangemode="tozero")
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
    """A band a trial, the cluster's size as a line, losses and changes marked."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": "plotly_white", "title": {"text": "Workers"}})
    looks = Palette().deal(band.trial for band in info.bands if band.trial is not None)
    moments = sorted({at_s for band in info.bands for at_s, _ in band.steps} | {info.now_s})
    for band in info.bands:
        figure.add_trace(_band(band, moments, looks.get(band.trial) if band.trial is not None else None))
    figure.add_trace(_stairs(info.size, info.now_s, "ready", {"color": "#444444", "width": 2}))
    figure.add_trace(_stairs(info.wanted, info.now_s, "wanted", {"color": "#444444", "dash": "dot"}))
    if info.losses:
        at = list(info.losses)
        cross = {"symbol": "x", "size": 9, "color": OKABE_ITO[3]}
        figure.add_trace(
            go.Scatter(x=at, y=[value_at(info.size, s) for s in at], mode="markers", marker=cross, name="lost")
        )
    _mark(figure, info.marks)
    figure.update_xaxes(title_text="seconds of the study", range=[0, info.until_s])
    figure.update_yaxes(title_text="workers", rangemode="tozero")
    return figure


def _band(band: Band, moments: list[float], drawn: Look | None) -> Scatter:
    import plotly.graph_objects as go

    name = "other trials" if band.trial is None else f"trial {band.trial}"
    line = {"width": 1, "shape": "hv", "color": drawn.colour if drawn else GREY}
    if drawn:
        line["dash"] = PLOTLY_DASHES[drawn.dash]
    workers = [value_at(band.steps, at_s) for at_s in moments]
    return go.Scatter(x=moments, y=workers, name=name, stackgroup="workers", line=line)


def _stairs(steps: Steps, until_s: float, name: str, line: Mapping[str, object]) -> Scatter:
    import plotly.graph_objects as go

    x, y = [at_s for at_s, _ in steps] + [until_s], [value for _, value in steps] + [steps[-1][1]]
    return go.Scatter(x=x, y=y, name=name, line={**line, "shape": "hv"}, mode="lines")


def burn_plot(info: BurnInfo) -> Figure:
    """Spending over the plan's band, with budget and deadline as lines."""
    import plotly.graph_objects as go

    figure = go.Figure(_expected(info.plan), layout={"template": "plotly_white", "title": {"text": "Money"}})
    _add_spending(figure, info)
    return figure


def forecast_plot(found: Forecast, state: State | None, history: History | None) -> Figure:
    """Expected spending and workers; beside what was spent, if there is a study."""
    import plotly.graph_objects as go

    title = {"text": "Spending: plan and actual"}
    plan = told(found)
    figure = go.Figure(_expected(plan.cost), layout={"template": "plotly_white", "title": title})
    table, stairs = found.over_time, {"shape": "hv"}
    figure.add_trace(go.Scatter(x=table.elapsed_s, y=table.workers, name="workers", yaxis="y2", line=stairs))
    if state is not None:
        history = begun(state.settings) if history is None else history
        _add_spending(figure, burn(history, view_of(state), plan))
    right = {"title": {"text": "workers"}, "overlaying": "y", "side": "right", "rangemode": "tozero"}
    figure.update_layout(yaxis2=right)
    return figure


def _expected(plan: Sequence[tuple[float, float, float, float]]) -> list[Scatter]:
    """What is expected to be spent, with its band."""
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
    """What was spent, the limits, and what a person changed."""
    import plotly.graph_objects as go

    x, y = [at_s for at_s, _ in info.spent], [money for _, money in info.spent]
    figure.add_trace(go.Scatter(x=x, y=y, name="spent", line={"color": "#444444", "width": 3}))
    limit = {"color": OKABE_ITO[3], "dash": "dash"}
    figure.add_trace(_stairs(info.budgets, info.until_s, "budget", limit))
    figure.add_vline(x=info.deadlines[-1][1], line=limit, annotation_text="deadline")
    _mark(figure, info.marks)
    figure.update_xaxes(title_text="seconds of the study", rangemode="tozero")
    figure.update_yaxes(title_text="USD", rangemode="tozero")


def _mark(figure: Figure, marks: Iterable[Mark]) -> None:
    for mark in marks:
        line = {"color": OKABE_ITO[4], "dash": "dot"}
        figure.add_vline(x=mark.at_s, line=line, annotation_text=shown(mark.text), annotation_textangle=-90)
