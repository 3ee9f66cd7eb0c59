"""The process that makes forecasts: it answers who waits, and never outlives whom it answers."""

import queue

import pytest

from seer_nb.ui.notebook.forecast_client import Foresight, Question
from tests.support.records import Builder, big_study, small_study

PATIENCE_S = 60.0


@pytest.fixture
def asking(journalled):
    """A process for a study, and its answers."""
    found = []

    def ask(study):
        answers = queue.SimpleQueue()
        foresight = Foresight(journalled(study).folder, lambda question, answer: answers.put((question, answer)))
        found.append(foresight)
        return foresight, lambda: answers.get(timeout=PATIENCE_S)

    yield ask
    for foresight in found:
        foresight.close()
        foresight._process.wait(PATIENCE_S)


def endless():
    """A study whose simulation takes minutes."""
    study = Builder(max_epochs=10_000, deadline_s=1e6, budget=10**10).machine(0, 0.0, 1.0).draw({"k": 1})
    return study.start(0, 0, "0.0", until=10_000).report(0, 0.1, 0.2, 0.3, seconds=0.01)


def test_a_forecast_has_bands_and_ends(asking):
    foresight, answer = asking(big_study(deadline_s=100.0))
    foresight.ask(Question(number=1, limit_s=10.0))
    question, found = answer()
    assert question.number == found.number == 1
    assert found.error == ""
    assert found.finish_s[1] <= found.finish_s[0] <= found.finish_s[2] <= 100
    assert found.futures >= 1
    assert found.cost_over_time[-1][1] <= 2.0
    # Those in the running, on their way to the last epoch.
    assert set(found.ends) == {36, 48}


def test_a_preview_is_of_other_limits(asking):
    foresight, answer = asking(big_study())
    foresight.ask(Question(number=1, deadline_s=5000.0, budget=5_000_000, limit_s=0.0))
    _, found = answer()
    assert found.futures == 0
    assert 600 < found.finish_s[0] <= 5000
    assert found.survivors > 5


def test_before_the_first_report_it_says_why_it_cannot(asking):
    foresight, answer = asking(Builder().machine(0, 0.0, 1.0))
    foresight.ask(Question(number=1, limit_s=1.0))
    assert "nothing was reported yet" in answer()[1].error


def test_who_waits_is_answered_first_and_a_simulation_is_broken_off_for_it(asking):
    foresight, answer = asking(endless())
    foresight.ask(Question(number=1, limit_s=1000.0))
    foresight.ask(Question(number=2, limit_s=1000.0))
    foresight.ask(Question(number=3, budget=10**9, limit_s=0.0))
    # If the first one was begun, that ends with a sentence; it alone would have taken longer than the patience.
    numbers = [answer()[0].number]
    if numbers != [3]:
        numbers.append(answer()[0].number)
    assert numbers in ([3], [1, 3], [2, 3])


def test_it_ends_with_whoever_asked_even_while_it_simulates(asking):
    foresight, _ = asking(endless())
    foresight.ask(Question(number=1, limit_s=1000.0))
    foresight.close()
    foresight._process.wait(PATIENCE_S)


@pytest.mark.slow
def test_when_it_dies_a_preview_is_answered_and_the_next_one_starts_it_anew(asking):
    foresight, answer = asking(small_study())
    foresight.ask(Question(number=1, limit_s=0.0))
    answer()
    foresight._process.kill()
    foresight._process.wait(PATIENCE_S)
    foresight.ask(Question(number=2, limit_s=0.0))
    assert answer()[1].number == 2
