"""The live view of a study in a notebook: a widget that shows pages and sends the user's actions to the study."""

from __future__ import annotations

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
from seer_nb.ui.notebook.forecast_client import ForecastClient, ForecastRequest
from seer_nb.ui.notebook.static_fallback import StaticPicture
from seer_nb.views import html as html_views
from seer_nb.views import page as page_views
from seer_nb.views.html import Page
from seer_nb.views.page import PageBuilder, PageData, PageOptions, skeleton

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.study.study import Study
    from seer_nb.views.figure_data import ForecastAnswer
    from seer_nb.views.view_model import StudyView


UPDATE_INTERVAL_S = 0.5
"""Seconds between two journal reads."""
PREVIEW_LIMIT_S = 3.0
"""Seconds of simulation for a preview. The planner answers at once; the simulation's answer is more reliable."""
FORECAST_LIMIT_S = 1.5
"""Seconds of simulation for a forecast."""
FORECAST_INTERVAL_S = 15.0, 60.0
"""Shortest and longest interval between two forecasts, in seconds."""
FORECASTS_PER_STUDY = 20
"""Number of forecasts within the deadline, as far as the interval allows it."""


class Dashboard(anywidget.AnyWidget):
    """Live view of a study. A notebook cell that ends with ``study`` shows it.

    The view reads the study's journal, and every action becomes a command to the runner. Therefore any number of
    dashboards can show one study, and the study runs without any of them.

    Args:
        study: The study to show, started or not.
    """

    _esm = files("seer_nb.ui.notebook").joinpath("dashboard.js").read_text()
    _css = page_views.css() + files("seer_nb.ui.notebook").joinpath("live.css").read_text()
    skeleton = traitlets.Unicode().tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    ident = traitlets.Unicode().tag(sync=True)
    """Identity of this live view on a page with several."""
    whole = traitlets.Dict().tag(sync=True)
    """The whole page, for a browser that has just connected."""
    selected = traitlets.Int(None, allow_none=True).tag(sync=True)
    """The selected trial, in table, figures and log."""
    all_trials = traitlets.Bool(default_value=False).tag(sync=True)
    """Whether the table shows all trials, or only survivors."""

    def __init__(self, study: Study) -> None:
        self._controller = Controller(study)
        self._scene, self._outbox = PageBuilder(), Outbox()
        self._forecast_client: ForecastClient | None = None
        self._forecast: ForecastAnswer | None = None
        self._forecast_s, self._n_requests = 0.0, 0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._static_picture = StaticPicture()
        # The first page is part of the widget's state, so that it is shown even while the kernel is busy.
        self._render(time.monotonic())
        super().__init__(
            label=f"study {study.name}", ident=uuid4().hex, skeleton=skeleton(live=True, controls=controls())
        )
        self.on_msg(self._on_message)
        self.observe(lambda _: self._request_update(), ["selected", "all_trials"])
        self._request_update()

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        """Return the widget's state, with the present page."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        return {**state, "whole": self._outbox.whole()} if "whole" in state else state

    def show(self) -> None:
        """Show the live view below the cell, and a static picture for readers without a kernel."""
        from IPython.display import display

        display(self)
        self._static_picture.show(self._picture(), self.ident)

    def settle(self) -> None:
        """Write the final static picture now, because a notebook may be closed right after the study has ended."""
        self._static_picture.renew(self._picture(), time.monotonic(), over=True)
        self._request_update()

    def close(self) -> None:
        """Close the live view; the study continues."""
        self._stop_forecasts()
        super().close()

    def _stop_forecasts(self) -> None:
        if self._forecast_client is not None:
            self._forecast_client.close()
            self._forecast_client = None

    # --- to the browser ---

    def _request_update(self) -> None:
        """Update the page soon, and start the update loop if it does not run."""
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._loop, daemon=True, name=f"seer-{self.label}")
            self._thread.start()

    def _loop(self) -> None:
        """Update the page until the final state is shown; the next message from the browser starts the loop again."""
        over = False
        while not over and self.comm is not None:
            self._wake.wait(UPDATE_INTERVAL_S)
            self._wake.clear()
            over = self._update(time.monotonic())
        self._stop_forecasts()

    def _update(self, now_s: float) -> bool:
        """Send the changes; return whether the page is final."""
        if not self._outbox.ready(now_s):
            return False
        view, message = self._render(now_s)
        if message is not None:
            self.send(message)
        if view.best is not None and view.status == "running":
            self._request_forecast(now_s, view.deadline_s)
        over = view.has_ended and message is None
        if self._static_picture.due(now_s, over=over):
            self._static_picture.renew(self._picture(), now_s, over=over)
        return over

    def _render(self, now_s: float) -> tuple[StudyView, Message | None]:
        with self._controller.lock:
            subject = self._subject()
            view = self._scene.view(subject)
            wish = PageOptions(buttons=True, all_trials=self.all_trials, trial=self.selected)
            page = self._scene.page(subject, view, wish)
            limits = self._controller.control_state(view)
        late = self._outbox.is_late(now_s)
        return view, self._outbox.message(
            Page({**page.parts, "limits": json.dumps({**limits, "late": late})}, page.lists), now_s
        )

    def _subject(self) -> PageData:
        reader = self._controller.reader
        status, now_s, stalled = reader.status(), reader.now_s(), reader.stalled()
        # State and history are read last, because each of the calls above may read new records.
        return PageData(
            reader.state(), reader.history(), status, now_s, self._forecast, stalled, reader.resource_usage()
        )

    def _picture(self) -> str:
        with self._controller.lock:
            subject = self._subject()
            # The picture of an ended study is its report: all trials and the whole log.
            wish = PageOptions(all_trials=subject.state.phase == "ended")
            return page_views.render_fragment(subject, wish, stands_for=self.ident)

    # --- from the browser ---

    def _on_message(self, _: Any, content: dict[str, Any], __: Any) -> None:
        what = content.get("do")
        if what == "drawn":
            if isinstance(content.get("n"), int):
                self._outbox.acknowledge(content["n"])
            return
        if what == "hello":
            self._outbox.acknowledge(self._outbox.number)
            self.send({**self._outbox.whole(), "whole": True})
        elif what == "preview":
            self._answer(content, self._preview)
        else:
            self._answer(content, self._controller.do)
        self._request_update()

    def _answer(self, content: dict[str, Any], action: Callable[[dict[str, Any]], str]) -> None:
        """Carry out an action, and send its result or its error to the browser."""
        try:
            said, wrong = action(content), False
        except (ValueError, TypeError, SeerError, OSError) as error:
            said, wrong = str(error), True
        self.send({"re": content.get("id"), "said": said, "wrong": wrong})

    # --- forecasts ---

    def _preview(self, content: dict[str, Any]) -> str:
        limits = self._controller.requested_limits(content)
        budget = None if content.get("budget") is None else limits.budget_micro
        deadline_s = None if content.get("deadline") is None else limits.deadline_s
        self._send_request(budget_micro=budget, deadline_s=deadline_s, time_limit_s=0.0)
        return ""

    def _request_forecast(self, now_s: float, deadline_s: float) -> None:
        shortest_s, longest_s = FORECAST_INTERVAL_S
        if now_s - self._forecast_s >= min(longest_s, max(shortest_s, deadline_s / FORECASTS_PER_STUDY)):
            self._forecast_s = now_s
            self._send_request(time_limit_s=FORECAST_LIMIT_S)

    def _send_request(self, **request: Any) -> None:
        if self._forecast_client is None:
            self._forecast_client = ForecastClient(self._controller.reader.folder, self._on_forecast)
        self._n_requests += 1
        self._forecast_client.send(ForecastRequest(request_id=self._n_requests, **request))

    def _on_forecast(self, request: ForecastRequest, answer: ForecastAnswer) -> None:
        """Show an answer; called on the client's thread."""
        if request.preview:
            self.send({"preview": self._preview_html(answer)})
            if request.time_limit_s == 0 and request.request_id == self._n_requests:
                self._send_request(
                    budget_micro=request.budget_micro, deadline_s=request.deadline_s, time_limit_s=PREVIEW_LIMIT_S
                )
        elif not answer.error:
            self._forecast = answer
            self._request_update()

    def _preview_html(self, answer: ForecastAnswer) -> str:
        if answer.error:
            return html_views.escape(answer.error)
        with self._controller.lock:
            view = self._scene.view(self._subject())
        return html_views.preview(answer, view)


def show(study: Study) -> None:
    """Show the live view of a study if the front end supports it; otherwise a static picture and text."""
    if _supports_widgets():
        study.dashboard().show()
        return
    from IPython.display import publish_display_data

    publish_display_data(study._repr_mimebundle_())


def _supports_widgets() -> bool:
    """Return whether this process is a notebook's kernel with widgets."""
    try:
        import anywidget  # noqa: F401
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
