"""A study as static html: what a notebook shows without widgets, and what a saved one still shows."""

from __future__ import annotations

import html as escaping
from typing import TYPE_CHECKING

from seer_nb.core.units import format_duration, format_money
from seer_nb.ui.svg import curves_svg, describe
from seer_nb.ui.view import CurvesInfo, StudyView, TrialView, curves, format_value, look

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from seer_nb.core.state import State

N_ROWS = 10
_SHAPES = {
    "running": "▶",
    "paused": "⏸",
    "pausing": "⏸",
    "ended": "■",
    "ending": "■",
    "failed": "✖",
    "created": "○",
    "interrupted": "✖",
}
# Colours of text and ground are the page's own, so that it suits dark and light themes alike.
_CSS = """\
.seer-study { font-size: 13px; line-height: 1.45; max-width: 960px; font-variant-numeric: tabular-nums; }
.seer-study h3 { margin: 0 0 .4em; font-size: 1.25em; }
.seer-study .seer-word { font-weight: normal; border: 1px solid; border-radius: 1em; padding: 0 .6em; font-size: .8em; }
.seer-study dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1em; margin: 0 0 .6em; }
.seer-study dt { opacity: .75; font-weight: normal; }
.seer-study dd { margin: 0; }
.seer-study .seer-bar { display: flex; height: .8em; max-width: 420px; border: 1px solid #8888; border-radius: 3px;
  overflow: hidden; margin: .2em 0; }
.seer-study .seer-spent { background: #0072B2; }
.seer-study .seer-committed { background: repeating-linear-gradient(45deg, #E69F00 0 4px, #E69F0055 4px 8px); }
.seer-study .seer-key { display: inline-block; width: .8em; height: .8em; border: 1px solid #8888; margin-right: .3em; }
.seer-study figure { margin: .4em 0; }
.seer-study .seer-scroll { overflow-x: auto; }
.seer-study table { border-collapse: collapse; margin: .4em 0; font-size: 1em; }
.seer-study caption { text-align: left; font-weight: 600; padding: .2em 0; color: inherit; white-space: nowrap; }
.seer-study th, .seer-study td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #8884;
  white-space: nowrap; }
.seer-study summary { cursor: pointer; }"""


def html(state: State, status: str | None = None) -> str:
    """A fragment of html: head, curves, and a table of the best trials. No script, no address of any other file.

    For ``status`` see ``look``.
    """
    view = look(state, status)
    info = curves(view)
    name = escaping.escape(view.name)
    return (
        f'<section class="seer-study" aria-label="study {name}"><style>\n{_CSS}\n</style>'
        f'<h3>{name} <span class="seer-word">{_SHAPES.get(view.status, "")} {view.status}</span></h3>'
        f"{_head(view)}{_figure(info)}{_best_trials(view)}</section>"
    )


def _head(view: StudyView) -> str:
    facts = [
        ("time", f"{format_duration(view.elapsed_s)} of {format_duration(view.deadline_s)}{_time_bar(view)}"),
        ("money", _money(view)),
        ("best", _best(view)),
        ("trials", view.trials_in_words),
    ]
    if view.driven:
        booting = f", {view.booting} booting" * bool(view.booting)
        facts.append(("workers", f"{view.busy} busy of {view.workers} ready{booting}"))
    if view.reason:
        facts.append(("why" if view.status in {"ended", "failed", "ending"} else "plan", escaping.escape(view.reason)))
    return "<dl>" + "".join(f"<dt>{word}</dt><dd>{text}</dd>" for word, text in facts) + "</dl>"


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
        f'<span><span class="seer-key {kind}"></span>{format_money(amount)} {word}</span>'
        for kind, word, amount in parts
    )
    label = ", ".join(f"{format_money(amount)} {word}" for _, word, amount in parts)
    shares = [(kind, _share(amount, view.budget)) for kind, _, amount in parts[:2]]
    return f"{words} of {format_money(view.budget)}{_bar(shares, label)}"


def _bar(parts: Iterable[tuple[str, float]], label: str) -> str:
    filled = "".join(f'<span class="{kind}" style="width:{share:.1f}%"></span>' for kind, share in parts)
    return f'<div class="seer-bar" role="img" aria-label="{label}">{filled}</div>'


def _share(part: float, whole: float) -> float:
    """Per cent."""
    return min(100.0, 100 * part / whole) if whole > 0 else 0.0


def _best(view: StudyView) -> str:
    metric = escaping.escape(view.metric)
    if view.best is None:
        return f"no {metric} yet"
    return f"<b>{metric} {format_value(view.best.value)}</b> by trial {view.best.trial} at epoch {view.best.epoch}"


def _figure(info: CurvesInfo) -> str:
    drawing = curves_svg(info)
    if not drawing:
        return ""
    rows = [
        [str(t.trial), str(t.epochs), *(format_value(value) for value in (t.points[0][1], t.value, t.points[-1][1]))]
        for t in info.coloured
    ]
    data = _table("the leading curves", ["trial", "epochs", "first", "best", "last"], rows)
    return (
        f"<figure>{drawing}<figcaption>{escaping.escape(describe(info))}</figcaption></figure>"
        f"<details><summary>the figure as a table</summary>{data}</details>"
    )


def _best_trials(view: StudyView) -> str:
    if not view.trials:
        return "<p>no trials yet</p>"
    shown = view.trials[:N_ROWS]
    workers = ["workers"] if view.driven else []
    headings = ["trial", "state", view.metric, "epoch", "trained", *workers, "cost", *view.config_names]
    rows = [_row(trial, view) for trial in shown]
    caption = (
        f"the {len(shown)} best of {len(view.trials)} trials" if len(shown) < len(view.trials) else "trials, best first"
    )
    return _table(caption, headings, rows)


def _row(trial: TrialView, view: StudyView) -> list[str]:
    return [
        str(trial.trial),
        trial.state,
        *(format_value(value) for value in (trial.value, trial.epoch, trial.epochs)),
        *([str(trial.workers)] if view.driven else []),
        format_money(trial.cost),
        *(format_value(trial.config.get(name)) for name in view.config_names),
    ]


def _table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escaping.escape(heading)}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{escaping.escape(first)}</th>'
        + "".join(f"<td>{escaping.escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="seer-scroll"><table><caption>{escaping.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
