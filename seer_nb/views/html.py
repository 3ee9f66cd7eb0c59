"""A study as pieces of html, made once for the live view, the static picture and the report.

The skeleton has named places; a page says what belongs there. A place holds either one content or a list of pieces,
each with its own key: so the live view sends only what has changed.
"""

from __future__ import annotations

import html
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from seer_nb._utils.units import MICRO, format_duration, format_money, format_usd
from seer_nb.views.svg_axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH
from seer_nb.views.svg_charts import Drawing, Piece, Plot
from seer_nb.views.view_model import DASH, StudyView, TrialView, format_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from seer_nb.core.history import LogEntry
    from seer_nb.views.figure_data import Foreseen


SHAPES = {
    "running": "▶",
    "pausing": "‖",
    "paused": "‖",
    "ending": "■",
    "ended": "■",
    "failed": "✖",
    "created": "○",
    "interrupted": "✖",
}
TRIAL_SHAPES = {"waiting": "○", "running": "▶", "paused": "‖", "completed": "✔", "stopped": "■", "failed": "✖"}
KIND_SHAPES = {"command": "☞", "decision": "→", "fault": "⚠"}
STUCK = KIND_SHAPES["fault"]
N_LOG = 200
"""Lines of the log that are shown."""
N_ROWS = 400
"""Rows of the table that are shown."""


FEW = 4
"""Simulated futures without which no band is told."""


class Page(NamedTuple):
    """What belongs into the skeleton's places."""

    parts: Mapping[str, str]
    """By place: html."""
    lists: Mapping[str, Sequence[Piece]]
    """By place: pieces of html in order."""


def filled(skeleton: str, page: Page) -> str:
    """The skeleton with all in its places."""

    def content(found: re.Match[str]) -> str:
        name = found["name"]
        if found["kind"] == "part":
            return found[0] + page.parts.get(name, "")
        return found[0] + "".join(piece.content for piece in page.lists.get(name, ()))

    return re.sub(r'<[a-z0-9]+ [^>]*data-(?P<kind>part|list)="(?P<name>[^"]+)"[^>]*>', content, skeleton)


# --- the head ---


def title(view: StudyView) -> str:
    """Name and state, as a word and a shape."""
    shape, word = SHAPES.get(view.status, ""), html.escape(view.status)
    return f'{html.escape(view.name)} <span class="seer-word">{shape} {word}</span>'


def head(view: StudyView, foreseen: Foreseen | None = None) -> str:
    """The facts, as a list of terms."""
    facts = [
        ("time", f"{format_duration(view.elapsed_s)} of {format_duration(view.deadline_s)}{_time_bar(view)}"),
        *([("stuck", f"{STUCK} {html.escape(view.stuck)}")] if view.stuck else []),
        ("money", _money(view)),
        ("best", _best(view)),
        ("trials", view.trials_in_words),
    ]
    if view.driven:
        facts.append(("workers", _workers(view)))
    if view.driven and foreseen is not None and foreseen.finish_s and foreseen.cost_usd:
        facts.append(("forecast", forecast_in_words(foreseen, view)))
    if view.reason:
        facts.append(("why" if view.over or view.status == "ending" else "plan", html.escape(view.reason)))
    return "".join(f"<dt>{word}</dt><dd>{text}</dd>" for word, text in facts)


def forecast_in_words(foreseen: Foreseen, view: StudyView) -> str:
    """Finish, cost and best value that are expected."""
    words = []
    if foreseen.finish_s:
        words.append(f"ends after about {format_duration(foreseen.finish_s[0])}")
    if foreseen.cost_usd:
        words.append(f"costs about {format_usd(foreseen.cost_usd[0])}")
    if foreseen.best_value:
        value, low, high = (format_value(number) for number in foreseen.best_value)
        # A few simulated futures tell what is likely, but not how sure that is.
        band = f" ({low} to {high})" if foreseen.futures >= FEW or not foreseen.futures else ""
        words.append(f"best {html.escape(view.metric)} about {value}{band}")
    return ", ".join(words)


def status_line(view: StudyView) -> str:
    """For screen readers: one sentence that seldom changes."""
    best = "" if view.best is None else f", best {view.metric} {format_value(view.best.value)}"
    share = round(_share(view.elapsed_s, view.deadline_s), -1)
    money = round(_share(view.spent, view.budget), -1)
    word = f"{view.status}, but stuck" if view.stuck else view.status
    return html.escape(f"study {view.name} {word}: {share:.0f} % of the time, {money:.0f} % of the money{best}")


def _workers(view: StudyView) -> str:
    booting = f", {view.booting} booting" if view.booting else ""
    wanted = f", {view.wanted} wanted" if view.status == "running" else ""
    price = f", {format_money(view.price_per_hour)} per hour" if view.price_per_hour else ""
    return f"{view.busy} busy of {view.workers} ready{booting}{wanted}{price}"


def _time_bar(view: StudyView) -> str:
    share = _share(view.elapsed_s, view.deadline_s)
    return _bar([("seer-spent", share)], f"{share:.0f} % of the time used")


def _money(view: StudyView) -> str:
    parts = (
        ("seer-spent", "spent", view.spent),
        ("seer-committed", "committed", view.committed),
        ("", "free", view.free),
    )
    words = " ".join(
        f'<span class="seer-amount"><span class="seer-key {kind}"></span>{format_money(amount)} {word}</span>'
        for kind, word, amount in parts
    )
    label = ", ".join(f"{format_money(amount)} {word}" for _, word, amount in parts)
    shares = [(kind, _share(amount, view.budget)) for kind, _, amount in parts[:2]]
    return f"{words} of {format_money(view.budget)}{_bar(shares, label)}"


def _bar(parts: Iterable[tuple[str, float]], label: str) -> str:
    filled_in = "".join(f'<span class="{kind}" style="width:{share:.1f}%"></span>' for kind, share in parts)
    return f'<div class="seer-bar" role="img" aria-label="{label}">{filled_in}</div>'


def _share(part: float, whole: float) -> float:
    """Per cent."""
    return min(100.0, 100 * part / whole) if whole > 0 else 0.0


def _best(view: StudyView) -> str:
    metric = html.escape(view.metric)
    if view.best is None:
        return f"no {metric} yet"
    return f"<b>{metric} {format_value(view.best.value)}</b> by trial {view.best.trial} at epoch {view.best.epoch}"


# --- figures ---


def figure(plot: Plot, *, live: bool) -> str:
    """The skeleton of a figure, with its data as a table below."""
    name = plot.name
    inner = "".join(f'<g data-list="{name}.{layer}"></g>' for layer in plot.layers)
    # What can be selected must not lie in an image, whose parts nobody is told of.
    role = "group" if live else "img"
    # An inner svg cuts off what lies outside of it, without an id, which two figures on one page could share.
    return (
        f'<figure class="seer-figure seer-{name}">'
        f'<svg viewBox="0 0 {WIDTH} {plot.height}" role="{role}" aria-label="{plot.label}" '
        f'font-family="inherit" font-size="13" fill="currentColor">'
        f'<g data-part="{name}.axes"></g><svg x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" '
        f'height="{plot.height - TOP - BOTTOM}">{inner}</svg><g data-part="{name}.over"></g></svg>'
        f'<figcaption data-part="{name}.caption"></figcaption>'
        "<details><summary>the figure as a table</summary>"
        f'<div data-part="{name}.data"></div></details></figure>'
    )


def drawn(plot: Plot, drawing: Drawing) -> Page:
    """Where the pieces of a drawing belong."""
    name = plot.name
    return Page(
        {f"{name}.axes": drawing.axes, f"{name}.over": drawing.over, f"{name}.caption": html.escape(drawing.title)},
        {f"{name}.{layer}": pieces for layer, pieces in zip(plot.layers, drawing.layers, strict=True)},
    )


# --- tables ---


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text."""
    head_cells = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="seer-scroll" tabindex="0"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head_cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class Column(NamedTuple):
    """A column of the trials' table."""

    heading: str
    title: str
    key: str


def columns(view: StudyView) -> list[Column]:
    """Of the trials' table."""
    live = (
        [
            Column("workers", "wanted by the plan / assigned / training now", "workers"),
            Column("to finish", "money until it is fully trained on the workers it has", "left"),
            Column("expected end", "when it would be fully trained on the workers it has", "end"),
        ]
        if view.driven
        else []
    )
    return [
        Column("trial", "number of the trial", "trial"),
        Column("state", "what it does", "state"),
        Column(view.metric, "best value whose checkpoint is stored", "value"),
        Column("epoch", f"epochs trained, of {view.max_epochs}", "epoch"),
        *live[:1],
        Column("cost", "money so far", "cost"),
        *live[1:],
        *(Column(name, f"hyperparameter {name}", f"config_{name}") for name in view.config_names),
    ]


def rows(view: StudyView, trials: Sequence[TrialView], *, buttons: bool) -> list[Piece]:
    """A row a trial."""
    decimals = _decimals(trial.cost for trial in view.trials)
    names = [column.key for column in columns(view)]
    return [_row(trial, view, names, decimals, buttons=buttons) for trial in trials]


def _row(trial: TrialView, view: StudyView, names: Sequence[str], decimals: int, *, buttons: bool) -> Piece:
    is_best = view.best is not None and trial.trial == view.best.trial
    cells = [_cell(name, trial, view, decimals) for name in names[1:]]
    star = ' <span title="best">★<span class="seer-hidden"> best</span></span>' if is_best else ""
    first = (
        f'<th scope="row" data-v="{trial.trial}"><button type="button" data-do="select" data-trial="{trial.trial}" '
        f'title="select trial {trial.trial} everywhere">{trial.trial}</button>{star}</th>'
        if buttons
        else f'<th scope="row">{trial.trial}{star}</th>'
    )
    actions = f'<td class="seer-actions">{_buttons(trial, view)}</td>' if buttons else ""
    kind = "" if trial.survives else ' class="seer-out"'
    return Piece(f"row:{trial.trial}", f'<tr data-trial="{trial.trial}"{kind}>{first}{actions}{"".join(cells)}</tr>')


def _cell(name: str, trial: TrialView, view: StudyView, decimals: int) -> str:
    if name.startswith("config_"):
        value = trial.config.get(name.removeprefix("config_"))
        return _td(format_value(value), value)
    text, sort = _CELLS[name](trial, view, decimals)
    return _td(text, sort)


_CELLS: Mapping[str, Callable[[TrialView, StudyView, int], tuple[str, object]]] = {
    "state": lambda t, _, __: (f"{TRIAL_SHAPES[t.state]} {t.state}{', pinned' * t.pinned}", t.state),
    "value": lambda t, _, __: (format_value(t.value), t.value),
    "epoch": lambda t, view, _: (f"{t.epochs} of {view.max_epochs}", t.epochs),
    "workers": lambda t, _, __: (f"{t.wanted} / {t.workers} / {t.in_use}", t.workers),
    "cost": lambda t, _, decimals: (_cost(t.cost, decimals), t.cost),
    "left": lambda t, _, decimals: (DASH if t.cost_left is None else _cost(t.cost_left, decimals), t.cost_left),
    "end": lambda t, _, __: (DASH, None) if t.cost_left is None else (format_duration(t.end_s or 0.0), t.end_s),
}


def _td(text: str, value: object) -> str:
    sort = "" if value is None or (isinstance(value, float) and math.isnan(value)) else html.escape(str(value))
    return f'<td data-v="{sort}">{html.escape(text)}</td>'


def _buttons(trial: TrialView, view: StudyView) -> str:
    why = f'<button type="button" data-do="why" data-trial="{trial.trial}" title="show the reasons">why</button>'
    if not view.driven or trial.state not in {"waiting", "running", "paused"}:
        return why
    pin = (
        f'<button type="button" data-do="pin" data-trial="{trial.trial}" aria-pressed="{str(trial.pinned).lower()}" '
        f'title="keep it in the running whatever its rank">{"unpin" if trial.pinned else "pin"}</button>'
    )
    stop = f'<button type="button" data-do="stop_trial" data-trial="{trial.trial}" title="end this trial">stop</button>'
    return f"{pin}{stop}{why}"


def _decimals(costs: Iterable[int]) -> int:
    """Of all costs in a column: three digits of the largest."""
    most = max(costs, default=0) / MICRO
    return 2 if most <= 0 else min(6, max(2, 2 - math.floor(math.log10(most))))


def _cost(micro: int, decimals: int) -> str:
    if micro == 0:
        return "$0"
    text = f"${micro / MICRO:,.{decimals}f}"
    return text if float(text[1:].replace(",", "")) else f"<${10**-decimals:.{decimals}f}"


# --- the log ---


def log_lines(entries: Sequence[LogEntry]) -> list[Piece]:
    """The newest first."""
    return [_log_line(entry) for entry in reversed(entries[-N_LOG:])]


@lru_cache(maxsize=2 * N_LOG)
def _log_line(entry: LogEntry) -> Piece:
    marked = "" if entry.trial is None else f' data-trial="{entry.trial}"'
    why = f' <span class="seer-why">{html.escape(entry.reason)}</span>' if entry.reason else ""
    return Piece(
        f"log:{entry.number}",
        f'<li class="seer-{entry.kind}"{marked}><span class="seer-when">{format_duration(entry.at_s)}</span> '
        f'<span aria-label="{entry.kind}" role="img">{KIND_SHAPES[entry.kind]}</span> '
        f"{html.escape(entry.text)}{':' if why else ''}{why}</li>",
    )
