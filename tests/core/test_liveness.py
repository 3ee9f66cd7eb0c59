"""Silent gangs and stalled studies, derived from records alone."""

import pytest

from seer_nb import core
from seer_nb.core import liveness
from seer_nb.views import html, text
from seer_nb.views.view_model import build_view
from tests.support.records import OFFER, Builder


def trains(epochs=3, seconds=5.0, **changes):
    """Return a study of one trial on one worker that reported at the builder's current time."""
    study = Builder(**changes).machine(0, 0.0, 2.0).draw({"x": 1})
    study.start(0, 0, "0.0", at_s=2.0)
    return study.report(0, *(0.1 * k for k in range(epochs)), seconds=seconds)


@pytest.mark.parametrize(("seconds", "patience_s"), [(5.0, 10.0), (0.1, 2.0)])
def test_gang_is_silent_after_two_epochs_without_a_report(seconds, patience_s):
    study = trains(seconds=seconds)
    end = study.now_s + patience_s
    assert liveness.explain_stall(study.state, end - 0.01) == ""
    assert liveness.explain_stall(study.state, end).startswith("trial 0 has not reported for ")
    study.report(0, 0.9)
    assert liveness.explain_stall(study.state, study.now_s) == ""


def test_gang_may_be_silent_for_longer_before_any_epoch_is_measured():
    study = trains(epochs=0)
    assert liveness.explain_stall(study.state, 2.0 + 59) == ""
    assert (
        liveness.explain_stall(study.state, 2.0 + 61)
        == "trial 0 has not reported for 1 min 1 s, and no epoch has been measured"
    )
    hurried = trains(epochs=0, deadline_s=60.0)
    assert liveness.explain_stall(hurried.state, 2.0 + 21)


def test_gang_may_take_longer_for_its_first_epoch():
    study = trains(seconds=1.0).draw({"x": 2}).machine(1, 5.0, 7.0)
    study.start(1, 1, "1.0", at_s=8.0)
    study.report(0, 0.9, seconds=9.5)
    assert liveness.silent_gangs(study.state, 17.9) == []
    assert [gang.trial for gang in liveness.silent_gangs(study.state, 18.1)] == [1]


def test_code_location_of_a_silent_gang_is_shown_until_it_reports():
    study = trains()
    study.apply(core.Silent(gang=0, silent_s=10.0, where="it stands at train.py:3"), study.now_s + 10)
    reason = liveness.explain_stall(study.state, study.now_s)
    assert reason.startswith("trial 0 has not reported for 10 s, and an epoch should take ")
    assert reason.endswith(": it stands at train.py:3")
    entry = study.history.log[-1]
    assert (entry.kind, entry.trial, entry.reason) == ("fault", 0, "it stands at train.py:3")
    study.report(0, 0.9)
    assert study.state.silent == {}


def test_code_location_of_an_ended_gang_is_forgotten():
    study = trains()
    study.apply(core.Silent(gang=0, silent_s=10.0, where="there")).end(0, "stopped")
    study.apply(core.Silent(gang=0, silent_s=10.0, where="too late"))
    assert study.state.silent == {}


def test_further_silent_gangs_are_counted():
    study = trains().machine(1, 17.0, 18.0).draw({"x": 2})
    study.start(1, 1, "1.0", at_s=18.0)
    assert liveness.explain_stall(study.state, 100.0).endswith("; 1 more silent")


def test_machine_that_boots_slowly_stalls_the_study():
    study = Builder().machine(0, 0.0)
    assert liveness.explain_stall(study.state, 9.9) == ""
    assert liveness.explain_stall(study.state, 12.0).startswith(
        "nothing trains because machine 0 has been booting for 12 s instead of 2 s; its boot timeout ends in "
    )


def test_missing_capacity_stalls_the_study():
    study = Builder().machine(0, 0.0)
    study.apply(core.MachineEnded(machine=0, expected=False, reason="InsufficientInstanceCapacity", scarce=True), 1.0)
    reason = liveness.explain_stall(study.state, 1.5)
    assert reason == (
        "nothing trains because no machine is available; next attempt in 1.5 s (InsufficientInstanceCapacity)"
    )


@pytest.mark.parametrize("record", [core.Pause(), core.BeginEnd(reason="enough")])
def test_study_that_pauses_or_ends_is_not_stalled(record):
    study = Builder(offers=(OFFER,)).apply(record)
    assert liveness.explain_stall(study.state, 1000.0) == ""


def test_views_show_that_a_study_is_stalled():
    study = trains()
    view = build_view(study.state, stalled="it <waits> & waits")
    assert "<dt>stalled</dt><dd>⚠ it &lt;waits&gt; &amp; waits</dd>" in html.head(view)
    assert "running, but stalled" in html.status_line(view)
    assert "\nstalled: it <waits> & waits\n" in text.format_summary(study.state, stalled="it <waits> & waits")
    assert " of 10 min | stalled: it waits | " in text.format_progress(study.state, "it waits")
    assert "stalled" not in html.head(build_view(study.state)) + text.format_summary(
        study.state
    ) + text.format_progress(study.state)
