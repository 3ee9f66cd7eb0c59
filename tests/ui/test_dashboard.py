"""The widget without a browser: the journal goes in, messages and traits come out; a click calls one command."""

import json
import time
from datetime import datetime

import pytest

from seer_nb import core
from seer_nb.ui.notebook.dashboard import Dashboard
from seer_nb.ui.notebook.forecast_client import Question
from seer_nb.views.figure_data import Foreseen
from tests.support.records import Builder, big_study, small_study


class Shown:
    """A dashboard whose loop is turned by hand, and whose messages are kept."""

    def __init__(self, study):
        self.sent = []
        self.dashboard = Dashboard(study)
        self.dashboard.send = self.sent.append
        self.now_s = 1000.0

    def tick(self):
        self.now_s += 0.5
        return self.dashboard._tick(self.now_s)

    def draw(self):
        """The browser says that it has drawn the last message."""
        self.hear(do="drawn", n=self.dashboard._outbox.number)

    def hear(self, **content):
        self.dashboard._heard(self.dashboard, content, [])

    def parts(self):
        return self.dashboard.get_state()["whole"]["set"]

    def order(self, name):
        return self.dashboard.get_state()["whole"]["order"][name]


@pytest.fixture
def show(monkeypatch):
    """Without a loop and forecasts of its own."""
    monkeypatch.setattr(Dashboard, "_nudge", lambda self: None)
    monkeypatch.setattr(Dashboard, "_foresee", lambda *_: None)
    return Shown


def test_all_is_there_before_the_first_message(journalled, show):
    shown = show(journalled(small_study()).study)
    assert "0.9" in shown.parts()["head"]
    assert shown.order("rows") == ["rows/row:1", "rows/row:3"]
    assert shown.dashboard.label == "study digits"
    assert 'data-part="head"' in shown.dashboard.skeleton
    assert shown.sent == []


def test_a_report_changes_what_belongs_to_it_and_no_more(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.draw()
    shown.tick()
    shown.draw()
    shown.sent.clear()
    on_disk.builder.report(2, 0.95)
    on_disk.write()
    shown.tick()
    (message,) = shown.sent
    assert "0.95" in message["set"]["rows/row:1"]
    assert "rows/row:3" not in message["set"]
    assert not any(key.startswith(("log/", "curves.grey/")) for key in message["set"])


def test_nothing_is_sent_while_the_last_message_is_not_drawn(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.draw()
    on_disk.builder.report(2, 0.95)
    on_disk.write()
    shown.tick()
    assert len(shown.sent) == 1
    on_disk.builder.report(2, 0.96)
    on_disk.write()
    shown.tick()
    assert len(shown.sent) == 1
    shown.draw()
    shown.tick()
    assert len(shown.sent) == 2
    assert "0.96" in shown.sent[1]["set"]["rows/row:1"]


def test_a_burst_of_reports_is_one_message_and_no_state_is_dropped(journalled, show):
    study = Builder(max_epochs=10_000, deadline_s=1e6, budget=10**9).machine(0, 0.0, 1.0).draw({"k": 1})
    on_disk = journalled(study.start(0, 0, "0.0", until=10_000).report(0, 0.1))
    shown = show(on_disk.study)
    shown.draw()
    study.report(0, *(k / 10_000 for k in range(9_999)), seconds=0.01)
    on_disk.write()
    shown.tick()
    (message,) = shown.sent
    assert "10000 of 10000" in message["set"]["rows/row:0"]
    assert len(json.dumps(message)) < 50_000


def test_a_browser_that_comes_later_is_told_all(journalled, show):
    shown = show(journalled(small_study()).study)
    shown.hear(do="hello")
    (message,) = shown.sent
    assert message["whole"] is True
    assert message["set"] == shown.parts()


@pytest.mark.parametrize(
    ("content", "command"),
    [
        ({"do": "pause"}, core.Pause()),
        ({"do": "stop"}, core.Stop()),
        ({"do": "pin", "trial": 1, "pinned": True}, core.Pin(trial=1)),
        ({"do": "pin", "trial": 1, "pinned": False}, core.Pin(trial=1, pinned=False)),
        ({"do": "stop_trial", "trial": 3}, core.StopTrial(trial=3)),
        ({"do": "apply", "budget": 0.8}, core.SetBudget(budget=800_000)),
        ({"do": "apply", "deadline": 900}, core.SetDeadline(deadline_s=900.0)),
    ],
    ids=lambda value: value.get("do") if isinstance(value, dict) else "",
)
def test_a_click_sends_exactly_one_command(journalled, show, content, command):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.hear(id=7, **content)
    assert on_disk.commands() == [command]
    (answer,) = shown.sent
    assert (answer["re"], answer["wrong"]) == (7, False)
    assert answer["said"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"do": "pin", "trial": 9}, "trial=9 is not a trial of study 'digits': there are 0 to 3"),
        ({"do": "apply", "budget": 0.001, "deadline": 600.0}, "less than what is spent and committed"),
        ({"do": "apply", "budget": 0.5, "deadline": 1.0}, "deadline=1.0 has passed"),
        ({"do": "undo"}, "nothing to undo"),
        ({"do": "export", "table": "results", "format": "exe"}, "format='exe' is unknown: give one of csv, "),
        ({"do": "dance"}, "do='dance' is unknown"),
    ],
    ids=lambda value: value.get("do") if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_said_and_nothing_is_sent(journalled, show, content, words):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.hear(id=1, **content)
    assert on_disk.commands() == []
    (answer,) = shown.sent
    assert answer["wrong"]
    assert words in answer["said"]


def test_undo_sends_what_was_before(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.hear(id=1, do="apply", budget=0.8, deadline=900.0)
    for command in on_disk.commands():
        on_disk.builder.apply(command)
    on_disk.write()
    shown.hear(id=2, do="undo")
    assert on_disk.commands()[2:] == [core.SetBudget(budget=500_000), core.SetDeadline(deadline_s=600.0)]
    shown.hear(id=3, do="undo")
    assert shown.sent[-1]["wrong"]


def hour():
    """A deadline on the wall, an hour from now."""
    return {"deadline_s": 3600.0, "deadline_wall": time.time() + 3600}


def took(on_disk, commands):
    """What a runner makes of them."""
    for command in commands:
        on_disk.builder.apply(command)
    on_disk.write()


def test_undoing_a_budget_leaves_a_deadline_on_the_wall_alone(journalled, show):
    """A pause expresses it anew in seconds, which are not what is to be taken back."""
    on_disk = journalled(small_study(**hour()))
    shown = show(on_disk.study)
    shown.hear(id=1, do="apply", budget=0.8)
    took(on_disk, [*on_disk.commands(), core.DeadlineMoved(deadline_s=1800.0)])
    shown.hear(id=2, do="undo")
    assert on_disk.commands()[1:] == [core.SetBudget(budget=500_000)]
    assert not shown.sent[-1]["wrong"]


def test_undoing_a_deadline_puts_the_one_on_the_wall_back(journalled, show):
    on_disk = journalled(small_study(**hour()))
    wall = on_disk.builder.settings.deadline_wall
    shown = show(on_disk.study)
    shown.hear(id=1, do="apply", deadline=900.0)
    took(on_disk, on_disk.commands())
    shown.hear(id=2, do="undo")
    (back,) = on_disk.commands()[1:]
    assert back.deadline_wall == pytest.approx(wall, abs=1e-5)
    assert f"{datetime.fromtimestamp(wall).astimezone():%H:%M:%S}" in shown.sent[-1]["said"]


def test_undo_leaves_alone_what_another_view_has_changed(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.hear(id=1, do="apply", deadline=900.0)
    took(on_disk, [*on_disk.commands(), core.SetBudget(budget=900_000)])
    shown.hear(id=2, do="undo")
    assert on_disk.commands()[1:] == [core.SetDeadline(deadline_s=600.0)]
    assert "$0.90" in shown.sent[-1]["said"]


def test_undo_is_sent_also_while_no_runner_has_taken_in_what_was_applied(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.hear(id=1, do="apply", budget=0.8)
    shown.hear(id=2, do="undo")
    assert on_disk.commands()[1:] == [core.SetBudget(budget=500_000)]


def test_what_another_view_changes_while_a_deadline_is_applied_is_not_changed_back(journalled, show, monkeypatch):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    handle = shown.dashboard._steering.handle
    states = iter([None, core.SetBudget(budget=900_000)])
    read = handle.state

    def state():
        other = next(states, None)
        took(on_disk, [other] if other else [])
        return read()

    monkeypatch.setattr(handle, "state", state)
    shown.hear(id=1, do="apply", deadline=900.0)
    assert on_disk.commands() == [core.SetDeadline(deadline_s=900.0)]


def test_the_sliders_reach_down_to_what_is_owed(journalled, show):
    shown = show(journalled(small_study()).study)
    limits = json.loads(shown.parts()["limits"])
    # 0.019 are spent, 0.06 committed; time goes on between the journal's last record and now.
    assert 0.079 <= limits["budget"]["low"] < 0.3
    assert limits["budget"]["value"] == 0.5
    assert limits["budget"]["high"] == 2.0
    assert limits["deadline"]["low"] >= 11
    assert limits["can"] == {
        "start": False,
        "pause": True,
        "resume": False,
        "stop": True,
        "adjust": True,
        "undo": False,
    }


def test_what_may_be_done_follows_the_study(journalled, show):
    on_disk = journalled(small_study(), driven=False)
    shown = show(on_disk.study)
    assert json.loads(shown.parts()["limits"])["can"]["resume"]
    assert "interrupted" in shown.parts()["title"]


def test_a_selected_trial_filters_the_log(journalled, show):
    shown = show(journalled(small_study()).study)
    shown.draw()
    shown.dashboard.selected = 2
    shown.tick()
    lines = [shown.parts()[key] for key in shown.order("log")]
    assert len(lines) == 2
    assert all('data-trial="2"' in line for line in lines)


def test_all_trials_are_shown_when_wanted(journalled, show):
    shown = show(journalled(small_study()).study)
    shown.draw()
    shown.dashboard.all_trials = True
    shown.tick()
    assert shown.order("rows") == [f"rows/row:{trial}" for trial in (1, 0, 2, 3)]


def test_a_study_that_has_ended_ends_the_loop(journalled, show):
    study = small_study().apply(core.BeginEnd(reason="the deadline was reached")).apply(core.Finish())
    shown = show(journalled(study, driven=False).study)
    shown.draw()
    while not shown.tick():
        shown.draw()
    assert "ended" in shown.parts()["title"]


def test_a_forecast_is_shown_in_head_and_figures(journalled, show):
    shown = show(journalled(big_study()).study)
    plan = ((200.0, 0.7, 0.6, 0.8), (500.0, 1.5, 1.2, 1.8))
    found = Foreseen(
        number=1,
        finish_s=(500.0, 480.0, 520.0),
        cost_usd=(1.5, 1.2, 1.8),
        best_value=(0.99, 0.98, 1.0),
        futures=12,
        cost_over_time=plan,
        ends={0: 0.99, 24: 0.995},
    )
    shown.dashboard._told(Question(number=1, limit_s=1.0), found)
    shown.draw()
    shown.tick()
    parts = shown.parts()
    assert "ends after about 8 min 20 s, costs about $1.50, best accuracy about 0.99 (0.98 to 1)" in parts["head"]
    assert "seer-plan" in parts["burn.plan/plan"]
    assert "about $1.50 expected after 8 min 20 s" in parts["burn.caption"]


def test_a_preview_is_answered_in_words_and_changes_nothing(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    found = Foreseen(number=1, finish_s=(500.0,) * 3, cost_usd=(0.4,) * 3, survivors=3, workers=4)
    shown.dashboard._told(Question(number=1, budget=700_000, limit_s=1.0), found)
    assert shown.sent == [
        {"preview": "3 trials fully trained, ends after about 8 min 20 s, costs about $0.40, at most 4 workers"}
    ]
    assert on_disk.commands() == []
