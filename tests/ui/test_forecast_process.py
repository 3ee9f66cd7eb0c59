"""The forecast process: it answers previews first, and exits with its client."""

import queue

import pytest

from seer_nb.ui.notebook.forecast_client import ForecastClient, ForecastRequest
from tests.support.records import Builder, big_study, small_study

TIMEOUT_S = 60.0


@pytest.fixture
def start_client(journalled):
    """A function that starts a client for a study, and returns it with a function that waits for the next answer."""
    found = []

    def start(study):
        answers = queue.SimpleQueue()
        client = ForecastClient(journalled(study).folder, lambda request, answer: answers.put((request, answer)))
        found.append(client)
        return client, lambda: answers.get(timeout=TIMEOUT_S)

    yield start
    for client in found:
        client.close()
        client._process.wait(TIMEOUT_S)


def endless():
    """Return a study whose simulation takes minutes."""
    study = Builder(max_epochs=10_000, deadline_s=1e6, budget_micro=10**10).machine(0, 0.0, 1.0).draw({"k": 1})
    return study.start(0, 0, "0.0", until=10_000).report(0, 0.1, 0.2, 0.3, seconds=0.01)


def test_forecast_has_intervals_and_projected_values(start_client):
    client, answer = start_client(big_study(deadline_s=100.0))
    client.send(ForecastRequest(request_id=1, time_limit_s=10.0))
    request, found = answer()
    assert request.request_id == found.request_id == 1
    assert found.error == ""
    assert found.finish_s[1] <= found.finish_s[0] <= found.finish_s[2] <= 100
    assert found.simulations >= 1
    assert found.cost_over_time[-1][1] <= 2.0
    # The survivors that have not reached the last epoch.
    assert set(found.projected) == {36, 48}


def test_preview_forecasts_under_other_limits(start_client):
    client, answer = start_client(big_study())
    client.send(ForecastRequest(request_id=1, deadline_s=5000.0, budget_micro=5_000_000, time_limit_s=0.0))
    _, found = answer()
    assert found.simulations == 0
    assert 600 < found.finish_s[0] <= 5000
    assert found.completed > 5


def test_forecast_before_the_first_report_is_an_error(start_client):
    client, answer = start_client(Builder().machine(0, 0.0, 1.0))
    client.send(ForecastRequest(request_id=1, time_limit_s=1.0))
    assert "no epoch was reported yet" in answer()[1].error


def test_preview_interrupts_a_running_simulation(start_client):
    client, answer = start_client(endless())
    client.send(ForecastRequest(request_id=1, time_limit_s=1000.0))
    client.send(ForecastRequest(request_id=2, time_limit_s=1000.0))
    client.send(ForecastRequest(request_id=3, budget_micro=10**9, time_limit_s=0.0))
    # A running simulation is interrupted and answered with an error; it alone would exceed the timeout.
    numbers = [answer()[0].request_id]
    if numbers != [3]:
        numbers.append(answer()[0].request_id)
    assert numbers in ([3], [1, 3], [2, 3])


def test_process_exits_with_its_client_even_during_a_simulation(start_client):
    client, _ = start_client(endless())
    client.send(ForecastRequest(request_id=1, time_limit_s=1000.0))
    client.close()
    client._process.wait(TIMEOUT_S)


@pytest.mark.slow
def test_killed_process_is_started_again_by_the_next_request(start_client):
    client, answer = start_client(small_study())
    client.send(ForecastRequest(request_id=1, time_limit_s=0.0))
    answer()
    client._process.kill()
    client._process.wait(TIMEOUT_S)
    client.send(ForecastRequest(request_id=2, time_limit_s=0.0))
    assert answer()[1].request_id == 2
