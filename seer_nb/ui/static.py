"""A study as static html: what a notebook shows without widgets, and what a saved one still shows."""

from __future__ import annotations

import html as escaping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from seer_nb.ui.page import filled
from seer_nb.ui.scene import Scene, Subject, Wish, skeleton

if TYPE_CHECKING:
    from seer_nb.core.state import State
    from seer_nb.history import History

N_ROWS = 10


def html(state: State, history: History, status: str | None = None) -> str:
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
    return files("seer_nb.ui").joinpath("seer.css").read_text()
