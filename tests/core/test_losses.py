"""Trials that lose their workers: which losses count, and how many a trial may have."""

import pytest

from seer_nb import core
from seer_nb.core.engine import Engine
from tests.support.records import settings
from tests.support.small_engine import Simple, draw, of, reported, started


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_trial_that_loses_its_workers_is_retried_a_limited_number_of_times(retries):
    engine = started(Engine(settings(retries=retries), Simple(total=1)))
    draw(engine, 10.0)
    for gang in range(retries + 1):
        assert engine.state.trials[0].state == "running"
        engine.handle(core.GangEnded(gang=gang, outcome="lost", own_fault=False), 20.0 + gang)
    trial = engine.state.trials[0]
    assert (trial.state, trial.reason) == ("failed", f"lost its workers {retries + 1} times after epoch 0")
    assert engine.state.n_gangs == retries + 1


def test_report_resets_the_count_of_losses():
    engine = started(Engine(settings(retries=1), Simple(total=1)))
    draw(engine, 10.0)
    for gang in range(5):
        engine.handle(reported(gang, gang + 1), 20.0 + 10 * gang)
        engine.handle(core.GangEnded(gang=gang, outcome="lost", own_fault=False), 21.0 + 10 * gang)
    assert engine.state.trials[0].state == "running"
    assert engine.state.gangs[5].from_epoch == 5


def test_gang_that_a_pause_ends_is_no_loss():
    """Guards against failing a study by pausing it during its first epochs, whose length is unknown."""
    engine = started(Engine(settings(retries=0), Simple(total=1)))
    draw(engine, 10.0)
    engine.handle(core.Pause(), 20.0)
    assert of(engine.handle(core.Ticked(), 31.0), core.Retire)[0].force
    engine.handle(core.MachineEnded(machine=0, expected=True), 32.0)
    engine.handle(core.GangEnded(gang=0, outcome="lost", own_fault=False, error="its worker was ended"), 32.0)
    assert (engine.state.phase, engine.state.trials[0].state) == ("paused", "paused")
    assert engine.state.trials[0].losses == 0


def test_hung_gang_whose_machine_is_retired_is_a_loss():
    engine = started(Engine(settings(retries=0, report_timeout_s=50.0), Simple(total=1)))
    draw(engine, 10.0)
    assert of(engine.handle(core.Ticked(), 60.0), core.AbandonGang)
    engine.handle(core.GangEnded(gang=0, outcome="lost", own_fault=False, error="its worker does not answer"), 61.0)
    assert engine.state.trials[0].state == "failed"


def test_worker_that_the_training_function_ended_is_not_retried():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(core.GangEnded(gang=0, outcome="lost", own_fault=True, error="exit code 1"), 20.0)
    assert engine.state.trials[0].state == "failed"
