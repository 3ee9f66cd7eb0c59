"""Every policy runs real studies, not only simulated ones."""

import time

import pytest

import seer_nb as seer
from tests.support.effort import thorough
from tests.support.studies import assert_no_processes_left, make

pytestmark = pytest.mark.slow  # real processes and real time


def rising(config, run):
    for epoch in run.epochs():
        time.sleep(0.02)
        run.state["epoch"] = epoch
        run.report(accuracy=config["height"] * (1 - 0.5**epoch))


ONE_MORE = [pytest.param(name, marks=thorough) for name in ("halving", "hyperband", "hypersched", "naive_elastic")]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["rubberband", "grid", *ONE_MORE])
def test_every_policy_finds_a_good_configuration_in_time(home, policy):
    space = {"height": seer.choice([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])}
    study = make(rising, space, policy=policy, max_epochs=9, deadline="25s", name=policy).run()
    table = study.results()
    assert study.status == "ended", study.reason
    assert study.state.now_s <= 25
    assert study.best.value > 0.7
    assert len(table) >= 5
    # Eliminated or trained, nobody is left behind without a reason.
    assert set(table.state) <= {"completed", "stopped", "paused"}
    assert table.reason.str.len().min() > 0
    assert_no_processes_left(home)
