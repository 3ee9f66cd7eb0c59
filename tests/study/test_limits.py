"""Budgets and deadlines that do not fit together."""

import warnings

import pytest

import seer_nb as seer
from seer_nb.ui.notebook.controller import Controller
from tests.support.records import small_study
from tests.support.refusals import make, stored


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    return tmp_path


def warned(act):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        act()
    return [str(warning.message) for warning in found]


TWO = seer.Local(max_workers=2, price_per_hour="$0.05")
FREE = seer.Local(max_workers=2, price_per_hour=0)


@pytest.mark.parametrize(
    ("budget", "deadline", "sentence"),
    [
        (
            "$0.50",
            "10min",
            (
                "budget=$0.50: at most $0.0167 can be spent by the deadline of 10 min, with 2 workers; "
                "a longer deadline or more workers would use the budget"
            ),
        ),
        (
            "$0.01",
            "10h",
            (
                "deadline=10 h: the budget of $0.01 pays even one machine only until about 12 min; "
                "at least $0.50 would be needed to use the time"
            ),
        ),
    ],
)
def test_limits_that_do_not_fit_together_are_warned_of_once(budget, deadline, sentence):
    assert warned(lambda: make(budget=budget, deadline=deadline, provider=TWO)) == [sentence]
    assert warned(lambda: make(budget=budget, deadline=deadline, provider=FREE)) == []


@pytest.mark.parametrize(
    ("budget", "deadline"),
    [
        ("$0.002", "60s"),
        ("$0.003", "60s"),
        ("$0.006", "2min"),
        ("$0.015", "5min"),
        ("$0.03", "10min"),
        ("$0.25", "10h"),
    ],
)
def test_limits_within_a_factor_of_two_are_fine(budget, deadline):
    assert warned(lambda: make(budget=budget, deadline=deadline, provider=TWO)) == []


def test_the_cloud_example_of_the_readme_is_fine():
    provider = seer.EC2("g4dn.xlarge", region="us-east-1", max_machines=8)
    given = {"budget": "$20", "deadline": "2h", "provider": provider, "store": "s3://my-bucket/studies"}
    assert warned(lambda: make(**given)) == []


def test_adjust_warns_of_what_is_left_and_the_dashboard_shows_it(home):
    study = stored(small_study(), home / "digits")
    sentence = "budget=$1000000000000.00: at most $"
    (found,) = warned(lambda: study.adjust(deadline="1 day", budget=1e12))
    assert found.startswith(sentence)
    answers = []
    request = {"do": "apply", "budget": 1e6, "deadline": 86400}
    assert warned(lambda: answers.append(Controller(study).do(request))) == []
    assert answers[0].startswith("applied: ")
    assert "; budget=$1000000.00: at most $" in answers[0]
    assert warned(lambda: study.adjust(deadline="11min")) == []
