"""Controls of the live view as html: buttons, sliders and fields, each with a label and a tooltip."""

from __future__ import annotations

from typing import get_args

from seer_nb.study.results import TableName
from seer_nb.views.export import formats


def controls() -> str:
    """Return the html of all controls: study actions, limits with a preview, and files."""
    return (
        f'<div class="seer-controls" role="group" aria-label="controls">{_actions()}{_limits()}{_files()}</div>'
        '<p class="seer-said" role="status" aria-live="polite"></p>'
    )


def _actions() -> str:
    buttons = (
        ("start", "Start", "rent machines and start the study"),
        ("pause", "Pause", "save all trials and retire all machines; remaining time and money are kept"),
        ("resume", "Resume", "continue from the saved checkpoints"),
        ("stop", "Stop", "end the study, after a confirmation"),
    )
    text = "".join(
        f'<button type="button" data-do="{name}" title="{title}" hidden>{label}</button>'
        for name, label, title in buttons
    )
    confirmation = (
        '<span class="seer-really" hidden><span class="seer-kept"></span> '
        '<button type="button" data-do="really" title="end the study now">Stop now</button> '
        '<button type="button" data-do="go_on" title="do not stop">Continue</button></span>'
    )
    return f'<div class="seer-life">{text}{confirmation}</div>'


def _limits() -> str:
    return (
        '<fieldset class="seer-limits"><legend>limits</legend>'
        f"{_limit('budget', 'budget, USD', 'dollars for the whole study; never exceeded')}"
        f"{_limit('deadline', 'deadline, s', 'seconds for the whole study, pauses not counted')}"
        '<div class="seer-preview" role="status" aria-live="polite"></div>'
        '<button type="button" data-do="apply" title="send these limits to the study" disabled>Apply</button> '
        '<button type="button" data-do="undo" title="undo the last change" disabled>Undo</button></fieldset>'
    )


def _limit(name: str, label: str, title: str) -> str:
    return (
        f'<label title="{title}">{label} <input type="range" name="{name}" min="0" max="1" step="any" '
        f'title="{title}" aria-label="{label}, slider"></label>'
        f'<span><input type="number" name="{name}" step="any" min="0" title="{title}" aria-label="{label}, number"> '
        f'<output data-of="{name}"></output></span>'
    )


def _files() -> str:
    tables = "".join(f"<option>{name}</option>" for name in get_args(TableName))
    suffixes = "".join(f"<option>{name}</option>" for name in formats())
    return (
        '<div class="seer-files"><label title="which table is written">table '
        f'<select name="table" title="which table is written">{tables}</select></label> '
        '<label title="the file\'s format">format '
        f'<select name="format" title="the file\'s format">{suffixes}</select></label> '
        '<span><button type="button" data-do="export" title="write the table to a file beside the notebook">Export'
        '</button> <button type="button" data-do="report" title="write a report as one html file">Report</button>'
        '</span> <label title="show eliminated trials too"><input type="checkbox" name="all_trials" '
        'title="show eliminated trials too"> all trials</label></div>'
    )
