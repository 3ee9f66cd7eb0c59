"""Pages of a study: from its state and history to the live view, the static picture and the report."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seer_nb._utils.files import write_atomically
from seer_nb._utils.units import format_duration, format_money, format_usd
from seer_nb.core.history import step_value_at
from seer_nb.views import figure_data, svg_charts
from seer_nb.views import html as html_views
from seer_nb.views.html import Page
from seer_nb.views.palette import Palette
from seer_nb.views.view_model import DASH, StudyView, TrialView, ViewBuilder, format_value

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from seer_nb.core.history import History, LogEntry
    from seer_nb.core.state import State
    from seer_nb.storage.resource_usage import ResourceUsage, WorkerUsage
    from seer_nb.views.figure_data import ForecastAnswer


N_SURVIVORS = 50
"""Number of table rows while the table shows survivors only."""
STATIC_ROWS = 10
"""Number of table rows in the static picture."""
N_TABLE_TIMES = 12
"""Number of time steps in the tables below the figures over time."""


class PageData(NamedTuple):
    """The data that a page shows."""

    state: State
    history: History
    status: str | None = None
    """``Study.status``; None for the phase in the journal."""
    now_s: float | None = None
    """Present study seconds; None for the time of the last record."""
    forecast: ForecastAnswer | None = None
    stalled: str = ""
    """``Study.stalled``."""
    resource_usage: ResourceUsage | None = None
    """Resource usage of the study's processes; None if unknown."""


class PageOptions(NamedTuple):
    """Options of a page."""

    buttons: bool = False
    """Whether table rows and headings have buttons."""
    all_trials: bool = False
    """Whether the table shows all trials, or only survivors."""
    trial: int | None = None
    """The trial whose log lines are shown; None for all lines."""
    n_rows: int = N_SURVIVORS
    """Number of table rows, unless all trials are shown."""


class PageBuilder:
    """Builder of successive pages of one study, which reuses what has not changed."""

    def __init__(self) -> None:
        self._views = ViewBuilder()
        self._palette = Palette()
        self._pen = svg_charts.Pen()

    def view(self, subject: PageData) -> StudyView:
        """Build the view model."""
        return self._views.build(subject.state, subject.status, subject.now_s, subject.stalled)

    def page(self, subject: PageData, view: StudyView, wish: PageOptions) -> Page:
        """Render all parts and pieces of the page."""
        parts = {
            "title": html_views.title(view),
            "head": html_views.head(view, subject.forecast),
            "status": html_views.status_line(view),
            "columns": html_views.headings(view, buttons=wish.buttons),
            "caption": html_views.escape(_caption(view, wish)),
            "machines": _machines_table(subject.state, subject.resource_usage),
        }
        lists: dict[str, Sequence[svg_charts.Piece]] = {
            "rows": html_views.rows(view, _shown(view, wish), buttons=wish.buttons),
            "log": html_views.log_lines(_log(subject.history, wish)),
        }
        for figure in self._figures(subject, view):
            parts |= figure.parts
            lists |= figure.lists
        return Page(parts, lists)

    def _figures(self, subject: PageData, view: StudyView) -> list[Page]:
        forecast = subject.forecast
        projected = forecast.projected if forecast is not None and view.may_have_workers else None
        curves = figure_data.curves_info(view, projected)
        coloured = [trial.trial for trial in curves.coloured]
        styles = self._palette.assign(coloured)
        workers = figure_data.parallelism_info(subject.state, subject.history, view, coloured)
        burn = figure_data.burn_info(subject.history, view, None if forecast is None else forecast.spending)
        return [
            html_views.figure_parts(
                svg_charts.CURVES, svg_charts.draw_curves(curves, styles, self._pen), _curves_table(curves)
            ),
            html_views.figure_parts(
                svg_charts.WORKERS, svg_charts.draw_parallelism(workers, styles), _workers_table(workers, view)
            ),
            html_views.figure_parts(svg_charts.BURN, svg_charts.draw_burn(burn), _burn_table(burn)),
        ]


def skeleton(page: Page | None = None, *, live: bool, controls: str = "", bare: bool = False) -> str:
    """Render the skeleton of a page.

    Args:
        page: Content of the places. Default: the places stay empty, and a browser fills them.
        live: Whether the page belongs to the live view.
        controls: Html between the head and the figures. Default: none.
        bare: Leave out figures and machines, because there is no trial yet. Default: False.
    """
    plots = () if bare else (svg_charts.CURVES, svg_charts.WORKERS, svg_charts.BURN)
    return html_views.render("study.html", page=page or Page({}, {}), live=live, controls=controls, plots=plots)


def render_static_picture(state: State, history: History, status: str | None = None) -> str:
    """Render the static picture of a study: head, figures, the best trials and the log.

    The fragment of html has no script and refers to no other file. For ``status`` see ``ViewBuilder.build``.
    """
    return render_fragment(PageData(state, history, status), PageOptions(n_rows=STATIC_ROWS))


def render_fragment(subject: PageData, wish: PageOptions, *, stands_for: str = "") -> str:
    """Render a page as a fragment of html.

    Args:
        subject: Data to show.
        wish: Options of the page.
        stands_for: Identity of the live view in whose place the fragment is shown. Default: none.
    """
    scene = PageBuilder()
    view = scene.view(subject)
    filled = skeleton(scene.page(subject, view, wish), live=False, bare=not view.trials)
    return html_views.render("fragment.html", name=view.name, stands_for=stands_for, css=css(), skeleton=filled)


@cache
def css() -> str:
    """Return the style sheet of all pages."""
    return files("seer_nb.views").joinpath("seer.css").read_text()


def write_report(path: str | os.PathLike[str], name: str, state: State, history: History, status: str) -> Path:
    """Write the report of a study as one html file; an existing file is replaced.

    Args:
        path: Path of the file, with the suffix html.
        name: Name of the study.
        state: State of the study.
        history: History of the study.
        status: ``Study.status``.

    Returns:
        The path.

    Raises:
        ValueError: For another suffix.
    """
    target = Path(path)
    if target.suffix != ".html":
        raise ValueError(f"path={str(path)!r}: a report is one html file; expected the suffix .html")
    body = render_fragment(PageData(state, history, status), PageOptions(all_trials=True))
    write_atomically(target, f"{html_views.render('report.html', name=name, body=body)}\n".encode())
    return target


def _shown(view: StudyView, wish: PageOptions) -> Sequence[TrialView]:
    if wish.all_trials or view.has_ended:
        return view.trials[: html_views.MAX_ROWS if wish.all_trials else wish.n_rows]
    return [trial for trial in view.trials if trial.survives][: wish.n_rows]


def _caption(view: StudyView, wish: PageOptions) -> str:
    shown = len(_shown(view, wish))
    what = "trials" if wish.all_trials or view.has_ended else "survivors"
    total = len(view.trials) if wish.all_trials or view.has_ended else view.n_survivors
    if not view.trials:
        return "no trials yet"
    return f"{what}, best first" if shown == total else f"the {shown} best of {total} {what}"


def _log(history: History, wish: PageOptions) -> list[LogEntry]:
    if wish.trial is None:
        return history.log[-html_views.MAX_LOG_LINES :]
    return [entry for entry in history.log if entry.trial == wish.trial]


def _curves_table(info: figure_data.CurvesInfo) -> str:
    rows = [
        [
            str(t.trial),
            str(t.epochs),
            *(format_value(value) for value in (t.points[0][1], t.value, t.points[-1][1], info.projected.get(t.trial))),
        ]
        for t in info.coloured
    ]
    return html_views.table("the leading curves", ["trial", "epochs", "first", "best", "last", "projected end"], rows)


def _workers_table(info: figure_data.ParallelismInfo, view: StudyView) -> str:
    moments = [info.now_s * k / N_TABLE_TIMES for k in range(N_TABLE_TIMES + 1)]
    rows = [
        [
            format_duration(at_s),
            *(f"{step_value_at(steps, at_s):g}" for steps in (info.wanted, info.size)),
            _training(info, at_s),
        ]
        for at_s in moments
    ]
    now = [
        [str(t.trial), str(t.wanted), str(t.workers), str(t.training_workers)]
        for t in view.trials
        if t.wanted or t.workers
    ]
    over_time = html_views.table("workers over time", ["time", "wanted", "ready", "training: trial x workers"], rows)
    return over_time + html_views.table("workers now", ["trial", "wanted", "assigned", "training"], now)


def _machines_table(state: State, resource_usage: ResourceUsage | None) -> str:
    """Render the live machines of the study, and the runner's resource usage if it is known."""
    rows = [
        [
            str(machine.id),
            machine.offer,
            machine.state if machine.leaves_s is None else "being preempted",
            format_duration(_coarse(state.now_s - machine.rented_s + machine.unseen_s)),
            format_money(state.offers[machine.offer].price_per_hour_micro),
            format_money(state.ledger.bill(machine.id, state.now_s)),
            *(() if resource_usage is None else _use(resource_usage.of(machine.workers))),
        ]
        for machine in state.live_machines.values()
    ]
    total = format_money(
        sum(state.offers[machine.offer].price_per_hour_micro for machine in state.live_machines.values())
    )
    caption = f"{len(rows)} machines, {total} per hour" if rows else "no machine is rented"
    heads = ["machine", "offer", "state", "rented for", "per hour", "cost so far"]
    if resource_usage is not None:
        heads += ["memory", "of a core"]
        memory, cpu = _use(resource_usage.runner)
        caption += f"; the runner uses {memory} and {cpu} of a core"
    return html_views.table(caption, heads, rows)


def _use(use: WorkerUsage | None) -> tuple[str, str]:
    return (DASH, DASH) if use is None else (use.memory_in_words, use.cpu_in_words)


def _coarse(seconds: float) -> float:
    """Round an age to 10 s, so that the table does not change at every update."""
    return seconds // 10 * 10


def _training(info: figure_data.ParallelismInfo, at_s: float) -> str:
    shares = [(band.trial, step_value_at(band.steps, at_s)) for band in info.bands]
    words = [f"{'others' if trial is None else trial} x {value:g}" for trial, value in shares if value]
    return ", ".join(words) or "none"


def _burn_table(info: figure_data.BurnInfo) -> str:
    def row(at_s: float, *amounts: float) -> list[str]:
        return [format_duration(at_s), *(format_usd(amount) for amount in amounts)]

    # Interpolated as the line in the figure is, because machines also cost money between two samples.
    moments = [info.now_s * k / N_TABLE_TIMES for k in range(N_TABLE_TIMES + 1)]
    samples_s, spent = zip(*info.spent, strict=True)
    amounts = np.interp(moments, samples_s, spent)
    past = [row(at_s, float(amount)) for at_s, amount in zip(moments, amounts, strict=True)]
    tables = html_views.table("spent", ["time", "spent"], past)
    if info.plan:
        every = max(1, len(info.plan) // N_TABLE_TIMES)
        ahead = [row(*moment) for moment in info.plan[::every]]
        tables += html_views.table(
            "expected", ["time", "expected", "low (90 % interval)", "high (90 % interval)"], ahead
        )
    return tables
