"""From a study's state and history to the page that shows it."""

from __future__ import annotations

import html
import html as escaping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seer_nb._utils.files import write_atomically
from seer_nb._utils.units import format_duration, format_money, format_usd
from seer_nb.core.history import value_at
from seer_nb.views import figure_data, svg_charts
from seer_nb.views import html as html_views
from seer_nb.views.figure_data import expectation
from seer_nb.views.html import Page, filled
from seer_nb.views.palette import Palette
from seer_nb.views.view_model import DASH, Looker, StudyView, TrialView, format_value

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from seer_nb.core.history import History, LogEntry
    from seer_nb.core.state import State
    from seer_nb.storage.resource_usage import Use, Vitals
    from seer_nb.views.figure_data import Foreseen


N_SURVIVORS = 50
"""Rows of the table while it shows survivors only."""
N_MOMENTS = 12
"""Rows of the tables of figures over time."""


class Subject(NamedTuple):
    """What is to be shown."""

    state: State
    history: History
    status: str | None = None
    """``Study.status``; None: as the journal has it."""
    now_s: float | None = None
    """Study seconds; None: of the last record."""
    foreseen: Foreseen | None = None
    stuck: str = ""
    """``Study.stuck``."""
    vitals: Vitals | None = None
    """What its processes use, if that is known."""


class Wish(NamedTuple):
    """What a person wants to see of it."""

    buttons: bool = False
    """In each trial's row."""
    all_trials: bool = False
    trial: int | None = None
    """Whose lines of the log only; None: all."""
    n_rows: int = N_SURVIVORS


class Scene:
    """Shows one study again and again: looks of trials, and what has not changed, are kept."""

    def __init__(self) -> None:
        self._looker = Looker()
        self._palette = Palette()
        self._pen = svg_charts.Pen()

    def view(self, subject: Subject) -> StudyView:
        """What there is to see."""
        return self._looker.look(subject.state, subject.status, subject.now_s, subject.stuck)

    def page(self, subject: Subject, view: StudyView, wish: Wish) -> Page:
        """All that is shown."""
        parts = {
            "title": html_views.title(view),
            "head": html_views.head(view, subject.foreseen),
            "status": html_views.status_line(view),
            "columns": _headings(view, wish),
            "caption": html.escape(_caption(view, wish)),
        }
        lists: dict[str, Sequence[svg_charts.Piece]] = {
            "rows": html_views.rows(view, _shown(view, wish), buttons=wish.buttons),
            "log": html_views.log_lines(_log(subject.history, wish)),
        }
        for drawn in self._figures(subject, view):
            parts |= drawn.parts
            lists |= drawn.lists
        return Page(parts, lists)

    def _figures(self, subject: Subject, view: StudyView) -> list[Page]:
        foreseen = subject.foreseen
        curves = figure_data.curves(view, foreseen.ends if foreseen is not None and view.driven else None)
        coloured = [trial.trial for trial in curves.coloured]
        looks = self._palette.deal(coloured)
        workers = figure_data.parallelism(subject.state, subject.history, view, coloured)
        burn = figure_data.burn(subject.history, view, expectation(foreseen))
        return [
            html_views.drawn(svg_charts.CURVES, svg_charts.draw_curves(curves, looks, self._pen)),
            html_views.drawn(svg_charts.WORKERS, svg_charts.draw_parallelism(workers, looks)),
            html_views.drawn(svg_charts.BURN, svg_charts.draw_burn(burn)),
            Page({"curves.data": _curves_table(curves)}, {}),
            Page({"workers.data": _workers_table(workers, view)}, {}),
            Page({"burn.data": _burn_table(burn)}, {}),
            Page({"machines": _machines_table(subject.state, subject.vitals)}, {}),
        ]


MACHINES = (
    '<details class="seer-machines"><summary>machines: what is rented now</summary>'
    '<div data-part="machines"></div></details>'
)


def skeleton(*, live: bool, middle: str = "", bare: bool = False) -> str:
    """The places of a page.

    Args:
        live: Whether it is one that can be steered.
        middle: What comes between head and figures.
        bare: Leave out what has nothing to show before the first trial.
    """
    plots = () if bare else (svg_charts.CURVES, svg_charts.WORKERS, svg_charts.BURN)
    figures = "".join(html_views.figure(plot, live=live) for plot in plots)
    status = '<p class="seer-status" role="status" aria-live="polite" data-part="status"></p>' if live else ""
    return (
        f'<h3 data-part="title"></h3><dl data-part="head"></dl>{status}{middle}'
        f'<div class="seer-figures">{figures}</div>'
        '<div class="seer-scroll" tabindex="0" role="region" aria-label="trials"><table class="seer-trials">'
        '<caption data-part="caption"></caption><thead><tr data-part="columns"></tr></thead>'
        '<tbody data-list="rows"></tbody></table></div>'
        f"{'' if bare else MACHINES}"
        '<details class="seer-log"><summary>why: the log of decisions, newest first; '
        "select a trial to see only its own</summary>"
        '<ol data-list="log" tabindex="0" aria-label="log of decisions"></ol></details>'
    )


def _shown(view: StudyView, wish: Wish) -> Sequence[TrialView]:
    if wish.all_trials or view.over:
        return view.trials[: html_views.N_ROWS if wish.all_trials else wish.n_rows]
    return [trial for trial in view.trials if trial.survives][: wish.n_rows]


def _caption(view: StudyView, wish: Wish) -> str:
    shown = len(_shown(view, wish))
    what = "trials" if wish.all_trials or view.over else "survivors"
    of = len(view.trials) if wish.all_trials or view.over else view.n_survivors
    if not view.trials:
        return "no trials yet"
    return f"{what}, best first" if shown == of else f"the {shown} best of {of} {what}"


def _headings(view: StudyView, wish: Wish) -> str:
    cells = []
    for column in html_views.columns(view):
        name, title = html.escape(column.heading), html.escape(column.title)
        inner = f'<button type="button" data-sort title="sort by {title}">{name}</button>' if wish.buttons else name
        cells.append(f'<th scope="col" data-key="{html.escape(column.key)}" title="{title}">{inner}</th>')
        if wish.buttons and column.key == "trial":
            cells.append('<th scope="col">actions</th>')
    return "".join(cells)


def _log(history: History, wish: Wish) -> list[LogEntry]:
    if wish.trial is None:
        return history.log[-html_views.N_LOG :]
    return [entry for entry in history.log if entry.trial == wish.trial]


def _curves_table(info: figure_data.CurvesInfo) -> str:
    rows = [
        [
            str(t.trial),
            str(t.epochs),
            *(format_value(value) for value in (t.points[0][1], t.value, t.points[-1][1], info.ends.get(t.trial))),
        ]
        for t in info.coloured
    ]
    return html_views.table("the leading curves", ["trial", "epochs", "first", "best", "last", "projected end"], rows)


def _workers_table(info: figure_data.ParallelismInfo, view: StudyView) -> str:
    moments = [info.now_s * k / N_MOMENTS for k in range(N_MOMENTS + 1)]
    rows = [
        [
            format_duration(at_s),
            *(f"{value_at(steps, at_s):g}" for steps in (info.wanted, info.size)),
            _training(info, at_s),
        ]
        for at_s in moments
    ]
    now = [[str(t.trial), str(t.wanted), str(t.workers), str(t.in_use)] for t in view.trials if t.wanted or t.workers]
    over_time = html_views.table("workers over time", ["time", "wanted", "ready", "training: trial x workers"], rows)
    return over_time + html_views.table("workers now", ["trial", "wanted", "assigned", "training"], now)


def _machines_table(state: State, vitals: Vitals | None) -> str:
    """The machines that live: the same as ``seer-nb machines`` tells."""
    rows = [
        [
            str(machine.id),
            machine.offer,
            machine.state if machine.leaves_s is None else "is taken away",
            format_duration(_coarse(state.now_s - machine.rented_s + machine.unseen_s)),
            format_money(state.offers[machine.offer].price_per_hour),
            format_money(state.ledger.bill(machine.id, state.now_s)),
            *(() if vitals is None else _use(vitals.of(machine.workers))),
        ]
        for machine in state.live.values()
    ]
    total = format_money(sum(state.offers[machine.offer].price_per_hour for machine in state.live.values()))
    caption = f"{len(rows)} machines, {total} per hour" if rows else "no machine is rented"
    heads = ["machine", "offer", "state", "rented for", "per hour", "cost so far"]
    if vitals is not None:
        heads += ["memory", "of a core"]
        memory, cpu = _use(vitals.runner)
        caption += f"; the runner uses {memory} and {cpu} of a core"
    return html_views.table(caption, heads, rows)


def _use(use: Use | None) -> tuple[str, str]:
    return (DASH, DASH) if use is None else (use.memory_in_words, use.cpu_in_words)


def _coarse(seconds: float) -> float:
    """An age that does not change at every look."""
    return seconds // 10 * 10


def _training(info: figure_data.ParallelismInfo, at_s: float) -> str:
    shares = [(band.trial, value_at(band.steps, at_s)) for band in info.bands]
    words = [f"{'others' if trial is None else trial} x {value:g}" for trial, value in shares if value]
    return ", ".join(words) or "none"


def _burn_table(info: figure_data.BurnInfo) -> str:
    def row(at_s: float, *amounts: float) -> list[str]:
        return [format_duration(at_s), *(format_usd(amount) for amount in amounts)]

    # As the line beside it is drawn: machines cost between two looks, too.
    moments = [info.now_s * k / N_MOMENTS for k in range(N_MOMENTS + 1)]
    looks_s, spent = zip(*info.spent, strict=True)
    amounts = np.interp(moments, looks_s, spent)
    past = [row(at_s, float(amount)) for at_s, amount in zip(moments, amounts, strict=True)]
    found = html_views.table("spent", ["time", "spent"], past)
    if info.plan:
        every = max(1, len(info.plan) // N_MOMENTS)
        ahead = [row(*moment) for moment in info.plan[::every]]
        found += html_views.table(
            "expected", ["time", "expected", "at least, 9 times in 10", "at most, 9 times in 10"], ahead
        )
    return found


N_ROWS = 10


def static_html(state: State, history: History, status: str | None = None) -> str:
    """A fragment of html: head, figures, a table of the best trials, the log. No script, no address of another file.

    For ``status`` see ``Looker.look``.
    """
    return fragment(Subject(state, history, status), Wish(n_rows=N_ROWS))


def fragment(subject: Subject, wish: Wish, *, mark: str = "") -> str:
    """The same for any wish; with attributes for the outermost element."""
    scene = Scene()
    view = scene.view(subject)
    body = filled(skeleton(live=False, bare=not view.trials), scene.page(subject, view, wish))
    name = escaping.escape(view.name)
    # Notebooks would read formulas into texts with dollars.
    kind = "seer-study mathjax_ignore tex2jax_ignore"
    return f'<section class="{kind}" aria-label="study {name}"{mark}><style>\n{css()}</style>{body}</section>'


@cache
def css() -> str:
    """The style sheet of all pages."""
    return files("seer_nb.views").joinpath("seer.css").read_text()


_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font-family: system-ui, sans-serif; margin: 1.5rem; color: CanvasText; background: Canvas; }}
</style>
</head>
<body><main>
"""


def write(path: str | os.PathLike[str], name: str, state: State, history: History, status: str) -> Path:
    """Write it; an existing file is replaced.

    Args:
        path: Of the file, with the suffix html.
        name: Of the study.
        state: Of the study.
        history: Of the study.
        status: ``Study.status``.

    Raises:
        ValueError: For another suffix.
    """
    target = Path(path)
    if target.suffix != ".html":
        raise ValueError(f"path={str(path)!r} does not end in .html: a report is one html file")
    body = fragment(Subject(state, history, status), Wish(all_trials=True))
    page = f"{_HEAD.format(title=html.escape(name))}{body}\n</main></body>\n</html>\n"
    write_atomically(target, page.encode())
    return target
