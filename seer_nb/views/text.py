"""Plain text views of a study, for terminals and for notebooks without html."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb._utils.text import one_line
from seer_nb._utils.units import format_duration, format_money
from seer_nb.views.view_model import StudyView, TrialView, build_view, format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core.state import State


N_ROWS = 10
"""Number of table rows."""
TABLE_WIDTH = 110
"""Characters of a table row; hyperparameters that do not fit are left out."""
CELL_WIDTH = 16
"""Characters of a table cell; longer texts are cut."""


def format_summary(state: State, status: str | None = None, stalled: str = "", now_s: float | None = None) -> str:
    """Summarise the study in a few lines and a table of its best trials; see ``ViewBuilder.build``."""
    view = build_view(state, status, now_s, stalled)
    lines = [
        f"study {view.name}: {view.status}, {_time(view)}" + (f" - {view.reason}" if view.reason else ""),
        (
            f"money: {format_money(view.spent_micro)} spent, {format_money(view.committed_micro)} committed, "
            f"{format_money(view.free_micro)} free of {format_money(view.budget_micro)}"
        ),
        *([f"stalled: {view.stalled}"] if view.stalled else []),
        f"trials: {view.trials_summary}" + (f"; {_workers(view)}" if view.may_have_workers else ""),
        _best(view),
    ]
    return "\n".join([one_line(line) for line in lines] + _table(view))


def format_progress(state: State, stalled: str = "", now_s: float | None = None) -> str:
    """Summarise the progress on one line, most important first, because a terminal may cut the line."""
    view = build_view(state, None, now_s, stalled)
    parts = [
        _time(view) if view.status == "running" else f"{view.status}, {_time(view)}",
        *([f"stalled: {view.stalled}"] if view.stalled else []),
        f"{view.metric} {format_value(view.best.value)}" if view.best else f"no {view.metric} yet",
        f"{format_money(view.spent_micro)} of {format_money(view.budget_micro)}",
        f"{len(view.trials)} trials" + ("" if view.has_ended else f", {view.n_survivors} left"),
        _workers(view),
    ]
    return one_line(" | ".join(parts))


def progress_rows(state: State, status: str, stalled: str, now_s: float) -> list[tuple[str, str]]:
    """Return the progress as (label, text) rows: best value, money, time, workers and trials; see `format_progress`."""
    view = build_view(state, status, now_s, stalled)
    rows = [
        ("study", f"{view.name}, {view.status}"),
        ("best", _best(view).removeprefix("best ")),
        ("money", f"{format_money(view.spent_micro)} of {format_money(view.budget_micro)}"),
        ("time", _time(view)),
        ("workers", f"{_workers(view)}; {len(view.trials)} trials, {view.n_survivors} left"),
        *([("stalled", view.stalled)] if view.stalled else []),
    ]
    return [(label, one_line(text)) for label, text in rows]


def _time(view: StudyView) -> str:
    return f"{format_duration(view.elapsed_s)} of {format_duration(view.deadline_s)}"


def _workers(view: StudyView) -> str:
    text = f"{view.busy}/{view.workers} workers busy"
    return f"{text}, {view.booting} booting" if view.booting else text


def _best(view: StudyView) -> str:
    if view.best is None:
        return f"best {view.metric}: none yet"
    best = view.best
    return f"best {view.metric}: {format_value(best.value)} (trial {best.trial}, epoch {best.best_epoch})"


def _table(view: StudyView) -> list[str]:
    if not view.trials:
        return []
    workers = ["workers"] if view.may_have_workers else []
    columns = [
        ["trial", "state", view.metric, "best_epoch", "epochs", *workers, "cost"],
        *(_cells(trial, view) for trial in view.trials[:N_ROWS]),
    ]
    for name in view.config_names:
        wider = [
            [*row, value]
            for row, value in zip(
                columns, [name, *(format_value(t.config.get(name)) for t in view.trials[:N_ROWS])], strict=True
            )
        ]
        if sum(_widths(wider)) + 2 * len(wider[0]) > TABLE_WIDTH:
            break
        columns = wider
    lines = _aligned(columns)
    left = len(view.trials) - N_ROWS
    return [*lines, f"... and {left} more"] if left > 0 else lines


def _cells(trial: TrialView, view: StudyView) -> list[str]:
    return [
        str(trial.trial),
        trial.state,
        format_value(trial.value),
        format_value(trial.best_epoch),
        str(trial.epochs),
        *([str(trial.workers)] if view.may_have_workers else []),
        format_money(trial.cost_micro),
    ]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(min(CELL_WIDTH, len(cell)) for cell in column) for column in zip(*rows, strict=True)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = _widths(rows)
    return [
        "  ".join(_short(cell).rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _short(cell: str) -> str:
    cell = one_line(cell)
    return cell if len(cell) <= CELL_WIDTH else f"{cell[: CELL_WIDTH - 3]}..."
