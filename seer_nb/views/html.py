"""Html of a study's page, rendered from the templates in ``seer_nb/views/templates`` with automatic escaping.

The skeleton has named places. A place holds either one part, or a list of pieces with a key each, so that the live view
sends only the parts and pieces that have changed.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader

from seer_nb._utils.units import MICRO, format_duration, format_money, format_usd
from seer_nb.views import svg_axes
from seer_nb.views.svg_charts import Drawing, Piece, Plot
from seer_nb.views.view_model import DASH, StudyView, TrialView, format_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from seer_nb.core.history import LogEntry
    from seer_nb.views.figure_data import ForecastAnswer


STATUS_SYMBOLS = {
    "running": "▶",
    "pausing": "‖",
    "paused": "‖",
    "ending": "■",
    "ended": "■",
    "failed": "✖",
    "created": "○",
    "interrupted": "✖",
}
TRIAL_SYMBOLS = {"waiting": "○", "running": "▶", "paused": "‖", "completed": "✔", "stopped": "■", "failed": "✖"}
KIND_SYMBOLS = {"command": "☞", "decision": "→", "fault": "⚠"}
MAX_LOG_LINES = 200
"""Number of log lines shown."""
MAX_ROWS = 400
"""Number of rows of the trials' table."""
MIN_SIMULATIONS = 4
"""Number of simulated futures from which on a forecast's interval is shown."""


class Page(NamedTuple):
    """Content of the skeleton's places."""

    parts: Mapping[str, str]
    """Html, by name of the place."""
    lists: Mapping[str, Sequence[Piece]]
    """Pieces in order, by name of the place."""


class Column(NamedTuple):
    """A column of the trials' table."""

    heading: str
    title: str
    key: str


def render(template: str, **values: Any) -> str:
    """Render a template; every value is escaped unless the template marks it as html."""
    return _environment().get_template(template).render(values)


def title(view: StudyView) -> str:
    """Render the study's name and status, as a symbol and a word."""
    return _part("title", view)


def head(view: StudyView, forecast: ForecastAnswer | None = None) -> str:
    """Render the main facts as a list of terms."""
    return _part("head", view, forecast)


def preview(forecast: ForecastAnswer, view: StudyView) -> str:
    """Render the expected outcome under other limits as a sentence."""
    return _part("preview", forecast, view)


def status_line(view: StudyView) -> str:
    """Render one sentence for screen readers, which changes rarely."""
    best = "" if view.best is None else f", best {view.metric} {format_value(view.best.value)}"
    share = round(_percent(view.elapsed_s, view.deadline_s), -1)
    money = round(_percent(view.spent_micro, view.budget_micro), -1)
    status = f"{view.status}, but stalled" if view.stalled else view.status
    return escape(f"study {view.name} {status}: {share:.0f} % of the time, {money:.0f} % of the money{best}")


def escape(text: str) -> str:
    """Escape a text for html."""
    return str(_environment().filters["escape"](text))


def figure_parts(plot: Plot, drawing: Drawing, data: str) -> Page:
    """Assign the pieces of a drawing to their places.

    Args:
        plot: The constant parts of the figure.
        drawing: The drawn figure.
        data: Html of the figure's data as tables.
    """
    parts = {"axes": drawing.axes, "over": drawing.over, "caption": escape(drawing.title), "data": data}
    return Page(
        {f"{plot.name}.{part}": content for part, content in parts.items()},
        {f"{plot.name}.{layer}": pieces for layer, pieces in zip(plot.layers, drawing.layers, strict=True)},
    )


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table of texts; the first cell of each row is its heading."""
    return _part("table", caption, headings, rows)


def columns(view: StudyView) -> list[Column]:
    """Return the columns of the trials' table."""
    live = (
        [
            Column("workers", "wanted by the plan / assigned / training now", "workers"),
            Column("to finish", "money until the trial is fully trained on its present workers", "left"),
            Column("expected end", "when the trial would be fully trained on its present workers", "end"),
        ]
        if view.may_have_workers
        else []
    )
    return [
        Column("trial", "number of the trial", "trial"),
        Column("state", "state of the trial", "state"),
        Column(view.metric, "best value whose checkpoint is stored", "value"),
        Column("epochs", f"epochs trained, of {view.max_epochs}", "epochs"),
        *live[:1],
        Column("cost", "money so far", "cost"),
        *live[1:],
        *(Column(name, f"hyperparameter {name}", f"config_{name}") for name in view.config_names),
    ]


def headings(view: StudyView, *, buttons: bool) -> str:
    """Render the heading row of the trials' table, with buttons that sort if wanted."""
    return _part("headings", columns(view), buttons)


def rows(view: StudyView, trials: Sequence[TrialView], *, buttons: bool) -> list[Piece]:
    """Render one table row per trial, with buttons that act on the trial if wanted."""
    decimals = _cost_decimals(trial.cost_micro for trial in view.trials)
    keys = [column.key for column in columns(view)][1:]
    best = None if view.best is None else view.best.trial
    return [
        Piece(
            f"row:{trial.trial}",
            _part(
                "row",
                trial,
                [_cell(key, trial, view, decimals) for key in keys],
                trial.trial == best,
                buttons,
                view.may_have_workers,
            ),
        )
        for trial in trials
    ]


def log_lines(entries: Sequence[LogEntry]) -> list[Piece]:
    """Render the last entries of the log, newest first."""
    return [_log_line(entry) for entry in reversed(entries[-MAX_LOG_LINES:])]


@lru_cache(maxsize=2 * MAX_LOG_LINES)
def _log_line(entry: LogEntry) -> Piece:
    return Piece(f"log:{entry.number}", _part("log_line", entry))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("seer_nb.views"), autoescape=True, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    environment.filters |= {
        "duration": format_duration,
        "money": format_money,
        "usd": format_usd,
        "value": format_value,
    }
    environment.globals |= {
        "KIND_SYMBOLS": KIND_SYMBOLS,
        "MIN_SIMULATIONS": MIN_SIMULATIONS,
        "STATUS_SYMBOLS": STATUS_SYMBOLS,
        "percent": _percent,
        **{name: getattr(svg_axes, name) for name in ("WIDTH", "LEFT", "RIGHT", "TOP", "BOTTOM")},
    }
    return environment


@cache
def _parts() -> Any:
    """Return the template of parts as a module, whose attributes are the macros."""
    return _environment().get_template("parts.html").module


def _part(macro: str, *values: Any) -> str:
    # A plain str: a Markup would escape each str that is added to it.
    return str(getattr(_parts(), macro)(*values))


def _percent(part: float, whole: float) -> float:
    return min(100.0, 100 * part / whole) if whole > 0 else 0.0


def _cell(key: str, trial: TrialView, view: StudyView, decimals: int) -> tuple[str, object]:
    """Return a cell's text, and its sort key, which is empty for a missing value."""
    if key.startswith("config_"):
        value = trial.config.get(key.removeprefix("config_"))
        text = format_value(value)
    else:
        text, value = _CELLS[key](trial, view, decimals)
    return text, "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _state_cell(trial: TrialView, _: StudyView, __: int) -> tuple[str, object]:
    pinned = ", pinned" if trial.pinned else ""
    return f"{TRIAL_SYMBOLS[trial.state]} {trial.state}{pinned}", trial.state


def _workers_cell(trial: TrialView, _: StudyView, __: int) -> tuple[str, object]:
    return f"{trial.wanted} / {trial.workers} / {trial.training_workers}", trial.workers


def _remaining_cost_cell(trial: TrialView, _: StudyView, decimals: int) -> tuple[str, object]:
    micro = trial.remaining_cost_micro
    return DASH if micro is None else _cost(micro, decimals), micro


def _expected_end_cell(trial: TrialView, _: StudyView, __: int) -> tuple[str, object]:
    return (DASH, None) if trial.remaining_cost_micro is None else (format_duration(trial.end_s or 0.0), trial.end_s)


_CELLS: Mapping[str, Callable[[TrialView, StudyView, int], tuple[str, object]]] = {
    "state": lambda trial, _, __: (
        f"{TRIAL_SYMBOLS[trial.state]} {trial.state}{', pinned' * trial.pinned}",
        trial.state,
    ),
    "value": lambda trial, _, __: (format_value(trial.value), trial.value),
    "epochs": lambda trial, view, _: (f"{trial.epochs} of {view.max_epochs}", trial.epochs),
    "workers": _workers_cell,
    "cost": lambda trial, _, decimals: (_cost(trial.cost_micro, decimals), trial.cost_micro),
    "left": _remaining_cost_cell,
    "end": _expected_end_cell,
}


def _cost_decimals(costs_micro: Iterable[int]) -> int:
    """Return the number of decimals that shows three digits of the largest cost."""
    most = max(costs_micro, default=0) / MICRO
    return 2 if most <= 0 else min(6, max(2, 2 - math.floor(math.log10(most))))


def _cost(micro: int, decimals: int) -> str:
    if micro == 0:
        return "$0"
    text = f"${micro / MICRO:,.{decimals}f}"
    return text if float(text[1:].replace(",", "")) else f"<${10**-decimals:.{decimals}f}"
