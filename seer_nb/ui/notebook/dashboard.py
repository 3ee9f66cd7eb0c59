"""The live view of a study in a notebook: a widget that shows pages, and hands on what a person does."""

from __future__ import annotations

import html
import json
import threading
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anywidget
import traitlets

from seer_nb.errors import SeerError
from seer_nb.ui.notebook.controller import Controller
from seer_nb.ui.notebook.controls import controls
from seer_nb.ui.notebook.dom_diff import Message, Outbox
from seer_nb.ui.notebook.forecast_client import Foresight, Question
from seer_nb.ui.notebook.static_fallback import Snapshot
from seer_nb.views import page as page_views
from seer_nb.views.html import Page, forecast_in_words
from seer_nb.views.page import Scene, Subject, Wish, skeleton

if TYPE_CHECKING:
    from seer_nb.study.study import Study
    from seer_nb.views.figure_data import Foreseen
    from seer_nb.views.view_model import StudyView


PERIOD_S = 0.5
"""Between two looks at the journal."""
PREVIEW_S = 3.0
"""That the simulation of a preview may take. The planner's answer is there at once; the simulated one is surer."""
FORESEE_S = 1.5
"""That the simulation of a forecast may take ..."""
FORESEE_EVERY_S = 15.0, 60.0
"""... and how often there is one: twenty in a study, but neither more nor less often than that."""


class Dashboard(anywidget.AnyWidget):
    """A study, live. ``study`` at the end of a cell shows it; it is seldom made by hand.

    All that is shown comes from the study's journal, and all that a person does becomes a command to its runner. So
    any number of dashboards may show one study, and none of them is needed for it to go on.

    Args:
        study: To be shown, started or not.
    """

    _esm = files("seer_nb.ui.notebook").joinpath("dashboard.js").read_text()
    _css = page_views.css() + files("seer_nb.ui.notebook").joinpath("live.css").read_text()
    skeleton = traitlets.Unicode().tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    ident = traitlets.Unicode().tag(sync=True)
    """Tells this live view from others on the page."""
    whole = traitlets.Dict().tag(sync=True)
    """All that is to be seen, for a browser that has just come."""
    selected = traitlets.Int(None, allow_none=True).tag(sync=True)
    """The trial that is selected everywhere."""
    all_trials = traitlets.Bool(default_value=False).tag(sync=True)
    """Whether the table shows all trials, or survivors only."""

    def __init__(self, study: Study) -> None:
        self._steering = Controller(study)
        self._scene, self._outbox = Scene(), Outbox()
        self._foresight: Foresight | None = None
        self._foreseen: Foreseen | None = None
        self._foresee_s, self._asked = 0.0, 0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._snapshot = Snapshot()
        # The first page travels with the widget itself: it is seen even while the kernel computes.
        self._look(time.monotonic())
        super().__init__(
            label=f"study {study.name}", ident=uuid4().hex, skeleton=skeleton(live=True, middle=controls())
        )
        self.on_msg(self._heard)
        self.observe(lambda _: self._nudge(), ["selected", "all_trials"])
        self._nudge()

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        """As every widget's; what is to be seen is that of now."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        return {**state, "whole": self._outbox.whole()} if "whole" in state else state

    def show(self) -> None:
        """Show it below the cell, with a static picture that stands in for it wherever it cannot live."""
        from IPython.display import display

        display(self)
        self._snapshot.show(self._picture(), self.ident)

    def settle(self) -> None:
        """The study has ended: leave its last picture in the notebook now, which may be saved or left at once."""
        self._snapshot.renew(self._picture(), time.monotonic(), over=True)
        self._nudge()

    def close(self) -> None:
        """End it; the study goes on."""
        self._rest()
        super().close()

    def _rest(self) -> None:
        """Nobody asks for forecasts any more."""
        if self._foresight is not None:
            self._foresight.close()
            self._foresight = None

    # --- to the browser ---

    def _nudge(self) -> None:
        """Look again soon."""
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._loop, daemon=True, name=f"seer-{self.label}")
            self._thread.start()

    def _loop(self) -> None:
        """Until the study has ended and that is shown; whatever comes from the browser begins anew."""
        over = False
        while not over and self.comm is not None:
            self._wake.wait(PERIOD_S)
            self._wake.clear()
            over = self._tick(time.monotonic())
        self._rest()

    def _tick(self, now_s: float) -> bool:
        """Send what is new; whether nothing will change any more."""
        if not self._outbox.ready(now_s):
            return False
        view, message = self._look(now_s)
        if message is not None:
            self.send(message)
        if view.best is not None and view.status == "running":
            self._foresee(now_s, view.deadline_s)
        over = view.over and message is None
        if self._snapshot.due(now_s, over=over):
            self._snapshot.renew(self._picture(), now_s, over=over)
        return over

    def _look(self, now_s: float) -> tuple[StudyView, Message | None]:
        with self._steering.lock:
            subject = self._subject()
            view = self._scene.view(subject)
            wish = Wish(buttons=True, all_trials=self.all_trials, trial=self.selected)
            page = self._scene.page(subject, view, wish)
            limits = self._steering.limits(view)
        late = self._outbox.waits(now_s)
        return view, self._outbox.message(
            Page({**page.parts, "limits": json.dumps({**limits, "late": late})}, page.lists), now_s
        )

    def _subject(self) -> Subject:
        handle = self._steering.handle
        status = handle.status()
        now_s, stuck = handle.now_s(status), handle.stuck(status)
        return Subject(handle.state(), handle.history(), status, now_s, self._foreseen, stuck, handle.vitals())

    def _picture(self) -> str:
        with self._steering.lock:
            subject = self._subject()
            # A finished study's picture is its report: all trials, and the whole log.
            return page_views.fragment(
                subject, Wish(all_trials=subject.state.phase == "ended"), mark=f' data-stands-for="{self.ident}"'
            )

    # --- from the browser ---

    def _heard(self, _: Any, content: dict[str, Any], __: Any) -> None:
        what = content.get("do")
        if what == "drawn":
            if isinstance(content.get("n"), int):
                self._outbox.drawn(content["n"])
            return
        if what == "hello":
            self._outbox.drawn(self._outbox.number)
            self.send({**self._outbox.whole(), "whole": True})
        elif what == "preview":
            self._answer(content, self._preview)
        else:
            self._answer(content, self._steering.do)
        self._nudge()

    def _answer(self, content: dict[str, Any], how: Any) -> None:
        """Do it, and say what was done, or why not."""
        try:
            said, wrong = how(content), False
        except (ValueError, TypeError, SeerError, OSError) as error:
            said, wrong = str(error), True
        self.send({"re": content.get("id"), "said": said, "wrong": wrong})

    # --- forecasts ---

    def _preview(self, content: dict[str, Any]) -> str:
        limits = self._steering.wanted(content)
        budget = None if content.get("budget") is None else limits.budget
        deadline_s = None if content.get("deadline") is None else limits.deadline_s
        self._ask(budget=budget, deadline_s=deadline_s, limit_s=0.0)
        return ""

    def _foresee(self, now_s: float, deadline_s: float) -> None:
        least_s, most_s = FORESEE_EVERY_S
        if now_s - self._foresee_s >= min(most_s, max(least_s, deadline_s / 20)):
            self._foresee_s = now_s
            self._ask(limit_s=FORESEE_S)

    def _ask(self, **question: Any) -> None:
        if self._foresight is None:
            self._foresight = Foresight(self._steering.handle.folder, self._told)
        self._asked += 1
        self._foresight.ask(Question(number=self._asked, **question))

    def _told(self, question: Question, found: Foreseen) -> None:
        """An answer has come; on a thread of its own."""
        if question.preview:
            self.send({"preview": self._in_words(found)})
            if question.limit_s == 0 and question.number == self._asked:
                self._ask(budget=question.budget, deadline_s=question.deadline_s, limit_s=PREVIEW_S)
        elif not found.error:
            self._foreseen = found
            self._nudge()

    def _in_words(self, found: Foreseen) -> str:
        if found.error:
            return html.escape(found.error)
        with self._steering.lock:
            view = self._scene.view(self._subject())
        survivors = "" if found.survivors is None else f"{found.survivors:.0f} trials fully trained, "
        workers = "" if found.workers is None else f", at most {found.workers:.0f} workers"
        return f"{survivors}{forecast_in_words(found, view)}{workers}"


def show(study: Study) -> None:
    """The live view where there can be one; a static picture elsewhere."""
    if _can_live():
        study.dashboard().show()
        return
    from IPython.display import publish_display_data

    publish_display_data(study._repr_mimebundle_())


def _can_live() -> bool:
    """Whether this is a notebook's kernel, with widgets."""
    try:
        import anywidget  # noqa: F401
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
