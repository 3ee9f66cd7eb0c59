"""What the books say of machines that a runner has left to the one after it, and of those that nobody could end."""

import pytest
from msgspec.structs import replace

from seer_nb.core import model as m
from tests.builders import OFFER, Builder

HOUR_S = 3600.0
BILLED = replace(OFFER, billed_until_deleted=True)


def running(offer=OFFER):
    """Two machines that were rented at 0 and at 2 s; the runner dies at 10 s."""
    study = Builder(offers=(offer,), budget=100_000_000).machine(0, 0.0, 2.0).machine(1, 2.0, 2.0)
    return study.apply(m.Ticked(), 10.0)


def both(more_s):
    """What the two cost that live on for so long after the runner died."""
    return OFFER.bill(10.0 + more_s) + OFFER.bill(8.0 + more_s)


def spent(study):
    return study.state.ledger.spent(study.now_s)


def test_what_has_shut_itself_down_is_counted_for_its_lease():
    study = running().apply(m.RunnerStarted(unseen_s=10 * HOUR_S), 10.0)
    assert not study.state.live
    # A runner is silent for a heartbeat before it is known to be dead, and then the lease ends.
    assert both(30.0) <= spent(study) <= both(30.0 + 30.0)


def test_what_is_billed_until_it_is_deleted_is_counted_for_all_the_time():
    study = running(BILLED).apply(m.RunnerStarted(unseen_s=10 * HOUR_S), 10.0)
    assert spent(study) == both(10 * HOUR_S)


def test_what_still_exists_is_counted_until_it_is_gone():
    study = running(BILLED).apply(m.RunnerStarted(unseen_s=HOUR_S, left=(0, 1)), 10.0)
    assert {machine.state for machine in study.state.live.values()} == {"retiring"}
    assert spent(study) == both(HOUR_S)
    study.apply(m.Ticked(), 20.0)
    assert spent(study) == both(HOUR_S + 10.0)
    study.apply(m.MachineEnded(machine=0, expected=True), 25.0)
    study.apply(m.MachineEnded(machine=1, expected=True, lived_s=HOUR_S + 100.0), 25.0)
    assert not study.state.live
    assert spent(study) == BILLED.bill(25.0 + HOUR_S) + BILLED.bill(HOUR_S + 100.0)


def test_a_bill_that_comes_late_counts():
    study = running().apply(m.RunnerStarted(unseen_s=HOUR_S), 10.0)
    study.apply(m.MachineBilled(machine=0, lived_s=500.0)).apply(m.MachineBilled(machine=1, lived_s=0.0))
    assert spent(study) == OFFER.bill(500.0)
    assert study.state.ledger.bill(0, study.now_s) == OFFER.bill(500.0)
    study.apply(m.MachineBilled(machine=0, lived_s=11.0))
    assert spent(study) == OFFER.bill(11.0)


@pytest.mark.parametrize("machine", [0, 7])
def test_of_a_machine_that_lives_or_was_never_there_nothing_is_corrected(machine):
    study = running()
    before = spent(study)
    study.apply(m.MachineBilled(machine=machine, lived_s=5000.0))
    assert spent(study) == before


def test_a_study_that_was_about_to_pause_pauses_when_its_last_machine_has_gone():
    study = running().apply(m.Pause())
    study.apply(m.RunnerStarted(unseen_s=1.0, adopted=(0,), left=(1,)), 11.0)
    assert study.state.phase == "pausing"
    none_left = running().apply(m.Pause()).apply(m.RunnerStarted(unseen_s=1.0), 11.0)
    assert none_left.state.phase == "paused"


def test_what_could_not_be_ended_is_said_and_forgotten_once_a_runner_sees_to_it():
    study = running().apply(m.MachinesLeftBehind(machines=(0, 1)))
    assert study.state.left_behind == (0, 1)
    assert study.history.log[-1].text == "machines could not be ended, and may still be billed: 0, 1"
    study.apply(m.RunnerStarted(unseen_s=1.0), 11.0)
    assert study.state.left_behind == ()
