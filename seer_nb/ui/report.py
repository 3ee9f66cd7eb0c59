"""The report: all there is to see of a study, as one html file without scripts."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from seer_nb.export import write_atomically
from seer_nb.ui.scene import Subject, Wish
from seer_nb.ui.static import fragment

if TYPE_CHECKING:
    import os

    from seer_nb.core.state import State
    from seer_nb.history import History

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
