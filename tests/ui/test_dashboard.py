"""The widget without a browser: journal records become messages, and each click becomes one command."""

import json
import time
from datetime import datetime

import pytest

from seer_nb import core
from seer_nb.ui.notebook.dashboard import Dashboard
from seer_nb.ui.notebook.forecast_client import ForecastRequest
from seer_nb.views.figure_data import ForecastAnswer
from tests.support.records import Builder, big_study, small_study


class Shown:
    """A dashboard that the test updates itself, with a record of its messages."""

    def __init__(self, study):
        self.sent = []
        self.dashboard = Dashboard(study)
        self.dashboard.send = self.sent.append
        self.now_s = 1000.0

    def tick(self):
        self.now_s += 0.5
        return self.dashboard._update(self.now_s)

    def draw(self):
        """Acknowledge the last message, as the browser does."""
        self.receive(do="drawn", n=self.dashboard._outbox.number)

    def receive(self, **content):
        self.dashboard._on_message(self.dashboard, content, [])

    def parts(self):
        return self.dashboard.get_state()["whole"]["set"]

    def order(self, name):
        return self.dashboard.get_state()["whole"]["order"][name]


@pytest.fixture
def show(monkeypatch):
    """The class Shown, without update loop and forecasts."""
    monkeypatch.setattr(Dashboard, "_request_update", lambda self: None)
    monkeypatch.setattr(Dashboard, "_request_forecast", lambda *_: None)
    return Shown


def test_widget_state_holds_the_whole_page_before_the_first_message(journalled, show):
    shown = show(journalled(small_study()).study)
    assert "0.9" in shown.parts()["head"]
    assert shown.order("rows") == ["rows/row:1", "rows/row:3"]
    assert shown.dashboard.label == "study digits"
    assert 'data-part="head"' in shown.dashboard.skeleton
    assert shown.sent == []


def test_report_changes_only_its_own_parts(journalled, show):
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


def test_no_message_is_sent_before_the_last_one_is_drawn(journalled, show):
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


def test_burst_of_reports_becomes_one_message_with_the_last_state(journalled, show):
    study = Builder(max_epochs=10_000, deadline_s=1e6, budget_micro=10**9).machine(0, 0.0, 1.0).draw({"k": 1})
    on_disk = journalled(study.start(0, 0, "0.0", until=10_000).report(0, 0.1))
    shown = show(on_disk.study)
    shown.draw()
    study.report(0, *(k / 10_000 for k in range(9_999)), seconds=0.01)
    on_disk.write()
    shown.tick()
    (message,) = shown.sent
    assert "10000 of 10000" in message["set"]["rows/row:0"]
    assert len(json.dumps(message)) < 50_000


def test_late_browser_receives_the_whole_page(journalled, show):
    shown = show(journalled(small_study()).study)
    shown.receive(do="hello")
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
        ({"do": "apply", "budget": 0.8}, core.SetBudget(budget_micro=800_000)),
        ({"do": "apply", "deadline": 900}, core.SetDeadline(deadline_s=900.0)),
    ],
    ids=lambda value: value.get("do") if isinstance(value, dict) else "",
)
def test_click_sends_exactly_one_command(journalled, show, content, command):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.receive(id=7, **content)
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
        ({"do": "export", "table": "results", "format": "exe"}, "format='exe': unknown format; expected one of csv, "),
        ({"do": "dance"}, "do='dance': unknown action"),
    ],
    ids=lambda value: value.get("do") if isinstance(value, dict) else "",
)
def test_impossible_action_is_answered_by_an_error_and_sends_no_command(journalled, show, content, words):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.receive(id=1, **content)
    assert on_disk.commands() == []
    (answer,) = shown.sent
    assert answer["wrong"]
    assert words in answer["said"]


def test_undo_restores_the_earlier_limits(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.receive(id=1, do="apply", budget=0.8, deadline=900.0)
    for command in on_disk.commands():
        on_disk.builder.apply(command)
    on_disk.write()
    shown.receive(id=2, do="undo")
    assert on_disk.commands()[2:] == [core.SetBudget(budget_micro=500_000), core.SetDeadline(deadline_s=600.0)]
    shown.receive(id=3, do="undo")
    assert shown.sent[-1]["wrong"]


def in_an_hour():
    """Return settings with a wall-clock deadline in an hour."""
    return {"deadline_s": 3600.0, "deadline_wall": time.time() + 3600}


def apply_commands(on_disk, commands):
    """Apply and journal commands, as the runner does."""
    for command in commands:
        on_disk.builder.apply(command)
    on_disk.write()


def test_undo_of_a_budget_keeps_a_wall_clock_deadline(journalled, show):
    """Guards against restoring the seconds that a pause makes of a wall-clock deadline."""
    on_disk = journalled(small_study(**in_an_hour()))
    shown = show(on_disk.study)
    shown.receive(id=1, do="apply", budget=0.8)
    apply_commands(on_disk, [*on_disk.commands(), core.DeadlineMoved(deadline_s=1800.0)])
    shown.receive(id=2, do="undo")
    assert on_disk.commands()[1:] == [core.SetBudget(budget_micro=500_000)]
    assert not shown.sent[-1]["wrong"]


def test_undo_of_a_deadline_restores_the_wall_clock_deadline(journalled, show):
    on_disk = journalled(small_study(**in_an_hour()))
    wall = on_disk.builder.settings.deadline_wall
    shown = show(on_disk.study)
    shown.receive(id=1, do="apply", deadline=900.0)
    apply_commands(on_disk, on_disk.commands())
    shown.receive(id=2, do="undo")
    (back,) = on_disk.commands()[1:]
    assert back.deadline_wall == pytest.approx(wall, abs=1e-5)
    assert f"{datetime.fromtimestamp(wall).astimezone():%H:%M:%S}" in shown.sent[-1]["said"]


def test_undo_keeps_changes_by_another_view(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.receive(id=1, do="apply", deadline=900.0)
    apply_commands(on_disk, [*on_disk.commands(), core.SetBudget(budget_micro=900_000)])
    shown.receive(id=2, do="undo")
    assert on_disk.commands()[1:] == [core.SetDeadline(deadline_s=600.0)]
    assert "$0.90" in shown.sent[-1]["said"]


def test_undo_is_sent_before_the_runner_received_the_change(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    shown.receive(id=1, do="apply", budget=0.8)
    shown.receive(id=2, do="undo")
    assert on_disk.commands()[1:] == [core.SetBudget(budget_micro=500_000)]


def test_apply_keeps_a_concurrent_change_by_another_view(journalled, show, monkeypatch):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    reader = shown.dashboard._controller.reader
    states = iter([None, core.SetBudget(budget_micro=900_000)])
    read = reader.state

    def state():
        other = next(states, None)
        apply_commands(on_disk, [other] if other else [])
        return read()

    monkeypatch.setattr(reader, "state", state)
    shown.receive(id=1, do="apply", deadline=900.0)
    assert on_disk.commands() == [core.SetDeadline(deadline_s=900.0)]


def test_sliders_start_at_the_money_spent_and_committed(journalled, show):
    shown = show(journalled(small_study()).study)
    limits = json.loads(shown.parts()["limits"])
    # $0.019 is spent and $0.06 committed; the study seconds run on after the journal's last record.
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


def test_allowed_actions_follow_the_status(journalled, show):
    on_disk = journalled(small_study(), driven=False)
    shown = show(on_disk.study)
    assert json.loads(shown.parts()["limits"])["can"]["resume"]
    assert "interrupted" in shown.parts()["title"]


def test_selected_trial_filters_the_log(journalled, show):
    shown = show(journalled(small_study()).study)
    shown.draw()
    shown.dashboard.selected = 2
    shown.tick()
    lines = [shown.parts()[key] for key in shown.order("log")]
    assert len(lines) == 2
    assert all('data-trial="2"' in line for line in lines)


def test_all_trials_are_shown_on_request(journalled, show):
    shown = show(journalled(small_study()).study)
    shown.draw()
    shown.dashboard.all_trials = True
    shown.tick()
    assert shown.order("rows") == [f"rows/row:{trial}" for trial in (1, 0, 2, 3)]


def test_end_of_the_study_ends_the_update_loop(journalled, show):
    study = small_study().apply(core.BeginEnd(reason="the deadline was reached")).apply(core.Finish())
    shown = show(journalled(study, driven=False).study)
    shown.draw()
    while not shown.tick():
        shown.draw()
    assert "ended" in shown.parts()["title"]


def test_forecast_is_shown_in_head_and_figures(journalled, show):
    shown = show(journalled(big_study()).study)
    plan = ((200.0, 0.7, 0.6, 0.8), (500.0, 1.5, 1.2, 1.8))
    found = ForecastAnswer(
        request_id=1,
        finish_s=(500.0, 480.0, 520.0),
        cost_usd=(1.5, 1.2, 1.8),
        best_value=(0.99, 0.98, 1.0),
        simulations=12,
        cost_over_time=plan,
        projected={0: 0.99, 24: 0.995},
    )
    shown.dashboard._on_forecast(ForecastRequest(request_id=1, time_limit_s=1.0), found)
    shown.draw()
    shown.tick()
    parts = shown.parts()
    assert "ends after about 8 min 20 s, costs about $1.50, best accuracy about 0.99 (0.98 to 1)" in parts["head"]
    assert "seer-plan" in parts["burn.plan/plan"]
    assert "about $1.50 expected after 8 min 20 s" in parts["burn.caption"]


def test_preview_is_answered_by_a_sentence_and_sends_no_command(journalled, show):
    on_disk = journalled(small_study())
    shown = show(on_disk.study)
    found = ForecastAnswer(request_id=1, finish_s=(500.0,) * 3, cost_usd=(0.4,) * 3, completed=3, max_workers=4)
    shown.dashboard._on_forecast(ForecastRequest(request_id=1, budget_micro=700_000, time_limit_s=1.0), found)
    assert shown.sent == [
        {"preview": "3 trials fully trained, ends after about 8 min 20 s, costs about $0.40, at most 4 workers"}
    ]
    assert on_disk.commands() == []
