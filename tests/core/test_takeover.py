"""What the books say of machines that a runner has left to the one after it, and of those that nobody could end."""

import pytest
from msgspec.structs import replace

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.policies import RandomSearch
from seer_nb.runner.checkpoint_gc import Janitor
from seer_nb.runner.machines import expired_machines
from tests.support.records import OFFER, Builder, settings

HOUR_S = 3600.0
BILLED = replace(OFFER, billed_until_deleted=True)


def running(offer=OFFER):
    """Two machines that were rented at 0 and at 2 s; the runner dies at 10 s."""
    study = Builder(offers=(offer,), budget=100_000_000).machine(0, 0.0, 2.0).machine(1, 2.0, 2.0)
    return study.apply(core.Ticked(), 10.0)


def both(more_s):
    """What the two cost that live on for so long after the runner died."""
    return OFFER.bill(10.0 + more_s) + OFFER.bill(8.0 + more_s)


def spent(study):
    return study.state.ledger.spent(study.now_s)


def test_what_has_shut_itself_down_is_counted_for_its_lease():
    study = running().apply(core.RunnerStarted(unseen_s=10 * HOUR_S), 10.0)
    assert not study.state.live
    # A runner is silent for a heartbeat before it is known to be dead, and then the lease ends.
    assert both(30.0) <= spent(study) <= both(30.0 + 30.0)


def test_what_is_billed_until_it_is_deleted_is_counted_for_all_the_time():
    study = running(BILLED).apply(core.RunnerStarted(unseen_s=10 * HOUR_S, left=(0, 1)), 10.0)
    assert spent(study) == both(10 * HOUR_S)


def test_what_was_never_asked_for_or_had_gone_already_is_not_billed_until_somebody_comes_back():
    """What may exist is written down before it is asked for, so what nobody has left is not there."""
    study = running(BILLED).apply(core.Rent(machine=2, offer="local", reason="the plan wants a worker"))
    study.apply(core.RunnerStarted(unseen_s=24 * HOUR_S, left=(0,)), 10.0)
    assert study.state.ledger.bill(0, 10.0) == BILLED.bill(10.0 + 24 * HOUR_S)
    heartbeat_s = study.state.heartbeat_s + core.SLACK_S
    assert study.state.ledger.bill(1, 10.0) == BILLED.bill(8.0 + heartbeat_s)
    assert study.state.ledger.bill(2, 10.0) == BILLED.bill(heartbeat_s)
    short = running(BILLED).apply(core.RunnerStarted(unseen_s=2.0), 10.0)
    assert spent(short) == both(2.0)


def test_what_still_exists_is_counted_until_it_is_gone():
    study = running(BILLED).apply(core.RunnerStarted(unseen_s=HOUR_S, left=(0, 1)), 10.0)
    assert {machine.state for machine in study.state.live.values()} == {"retiring"}
    assert spent(study) == both(HOUR_S)
    study.apply(core.Ticked(), 20.0)
    assert spent(study) == both(HOUR_S + 10.0)
    study.apply(core.MachineEnded(machine=0, expected=True), 25.0)
    study.apply(core.MachineEnded(machine=1, expected=True, lived_s=HOUR_S + 100.0), 25.0)
    assert not study.state.live
    assert spent(study) == BILLED.bill(25.0 + HOUR_S) + BILLED.bill(HOUR_S + 100.0)


def given_up(study, at_s):
    """What a runner says to itself of machines whose provider does not say that they have ended."""
    return expired_machines(study.state, at_s)


@pytest.mark.parametrize("unseen_s", [5.0, 20.0, HOUR_S])
def test_what_was_left_and_is_never_heard_of_again_costs_no_more_than_its_lease(unseen_s):
    """Guards against a lease that the books counted from before its runner's death, and the runner from after it."""
    study = Builder(budget=131_000).machine(0, 0.0, 2.0).apply(core.Ticked(), 100.0)
    study.apply(core.RunnerStarted(unseen_s=unseen_s, left=(0,)), 100.0)
    # It was told of its runner for up to a second after the last record, as long as the money lasted.
    lives_s = 100.0 + min(1.0, unseen_s) + 30.0 - study.state.machines[0].unseen_s
    floor = study.state.ledger.floor(100.0)
    assert floor == study.state.ledger.floor(lives_s) <= 131_000
    assert not given_up(study, lives_s - 0.1)
    (ended,) = given_up(study, lives_s + 0.1)
    study.apply(ended, lives_s + 5.0)
    assert spent(study) == floor


def test_of_what_was_left_the_leases_count_that_its_runner_may_have_renewed_after_its_last_record():
    study = running().apply(core.RunnerStarted(unseen_s=5.0, left=(0, 1)), 10.0)
    assert study.state.ledger.floor(10.0) == both(5.0 + 30.0)


@pytest.mark.parametrize("unseen_s", [20.0, HOUR_S])
def test_what_was_told_to_go_before_its_runner_died_is_counted_for_its_lease_from_there(unseen_s):
    study = running().apply(core.Retire(machine=0, reason="too many")).apply(core.Ticked(), 15.0)
    study.apply(core.RunnerStarted(unseen_s=unseen_s, left=(0,)), 15.0)
    assert study.state.ledger.floor(15.0) - study.state.ledger.bill(1, 15.0) == OFFER.bill(10.0 + 30.0)
    (ended,) = given_up(study, 36.0)
    assert ended.lived_s == 10.0 + 30.0


def test_to_delete_what_its_own_runner_had_not_deleted_yet_is_for_the_next_one():
    study = running(BILLED).apply(core.Retire(machine=0, reason="too many")).apply(core.Ticked(), 15.0)
    study.apply(core.RunnerStarted(unseen_s=HOUR_S, left=(0,)), 15.0)
    assert study.state.ledger.floor(15.0) - study.state.ledger.bill(1, 15.0) == OFFER.bill(15.0 + HOUR_S + 30.0)
    assert not given_up(study, HOUR_S)


def test_a_bill_that_comes_late_counts():
    study = running().apply(core.RunnerStarted(unseen_s=HOUR_S), 10.0)
    study.apply(core.MachineBilled(machine=0, lived_s=500.0)).apply(core.MachineBilled(machine=1, lived_s=0.0))
    assert spent(study) == OFFER.bill(500.0)
    assert study.state.ledger.bill(0, study.now_s) == OFFER.bill(500.0)
    study.apply(core.MachineBilled(machine=0, lived_s=11.0))
    assert spent(study) == OFFER.bill(11.0)


@pytest.mark.parametrize("machine", [0, 7])
def test_of_a_machine_that_lives_or_was_never_there_nothing_is_corrected(machine):
    study = running()
    before = spent(study)
    study.apply(core.MachineBilled(machine=machine, lived_s=5000.0))
    assert spent(study) == before


def test_a_study_that_was_about_to_pause_pauses_when_its_last_machine_has_gone():
    study = running().apply(core.Pause())
    study.apply(core.RunnerStarted(unseen_s=1.0, adopted=(0,), left=(1,)), 11.0)
    assert study.state.phase == "pausing"
    none_left = running().apply(core.Pause()).apply(core.RunnerStarted(unseen_s=1.0), 11.0)
    assert none_left.state.phase == "paused"


def test_what_could_not_be_ended_is_said_and_forgotten_once_a_runner_sees_to_it():
    study = running().apply(core.MachinesLeftBehind(machines=(0, 1)))
    assert study.state.left_behind == (0, 1)
    assert study.history.log[-1].text == "machines could not be ended, and may still be billed: 0, 1"
    study.apply(core.RunnerStarted(unseen_s=1.0), 11.0)
    assert study.state.left_behind == ()


def test_a_trial_whose_last_epoch_was_reported_before_the_runner_died_is_complete():
    """Its gang had not ended yet; no policy would train it on, so nobody else would say so."""
    engine = Engine(settings(max_epochs=2), RandomSearch())
    engine.state = running().draw({"x": 0.1}).start(0, 0, "0.0", until=2).report(0, 0.5, 0.6).state
    engine.state.settings = settings(max_epochs=2)
    actions = engine.handle(core.RunnerStarted(unseen_s=1.0, adopted=(0, 1)), 13.0)
    (ended,) = [action for action in actions if isinstance(action, core.EndTrial)]
    assert (ended.trial, ended.state, ended.reason) == (0, "completed", "trained all 2 epochs")


# --- checkpoints that turn out to be damaged ---


VALUES = (0.5, 0.9, 0.7, 0.6)


def path(epoch, gang=0):
    return f"0/{epoch:06d}-g{gang}.pt"


def stored(epochs):
    """A trial with a checkpoint at each epoch, whose first gang has ended."""
    study = running().draw({"x": 0.1}).start(0, 0, "0.0", until=epochs).report(0, *VALUES[:epochs])
    return study.apply(core.GangEnded(gang=0, outcome="target"))


def damaged(study, gang):
    trial = study.state.trials[0]
    study.start(0, gang, "0.0", until=9)
    assert study.state.gangs[gang].from_epoch == trial.resume_epoch
    study.apply(core.GangEnded(gang=gang, outcome="damaged", error="its checksum is wrong", own_fault=False))
    return study.state.trials[0]


def test_the_checkpoint_before_a_damaged_one_is_used_then_the_best_and_then_none():
    study = stored(4)
    trial = damaged(study, 1)
    assert (trial.resume.checkpoint, trial.best.checkpoint, trial.state) == (path(3), path(2), "paused")
    assert trial.epoch == 4, "what was reported stays"
    trial = damaged(study, 2)
    assert (trial.resume.checkpoint, trial.best.checkpoint) == (path(2), path(2))
    trial = damaged(study, 3)
    assert (trial.resume, trial.best, trial.resume_epoch) == (None, None, 0)
    assert study.history.log[-1].text == "trial 0 goes back to epoch 0"


def test_epochs_that_are_trained_again_are_not_counted_twice():
    study = stored(2)
    damaged(study, 1)
    study.start(0, 2, "0.0", until=9)
    again = core.Reported(gang=2, epoch=2, value=0.8, seconds=1.0, checkpoint=path(2, 2))
    trial = study.apply(again).report(2, 0.95).state.trials[0]
    assert [report.epoch for report in trial.curve] == [1, 2, 3]
    assert [report.value for report in trial.curve] == [0.5, 0.9, 0.95], "the first report stands"
    assert (trial.resume.checkpoint, trial.spare.checkpoint) == (path(3, 2), path(2, 2))


def test_what_may_be_gone_back_to_is_kept():
    janitor = Janitor()
    study = stored(4)
    for _, _, record in study.records:
        janitor.note(study.state, record)
    assert janitor.useless(study.state) == [path(1)]


def test_a_trial_that_was_ended_while_it_trained_leaves_nothing_when_its_gang_has_gone():
    janitor, study = Janitor(), Builder().machine(0, 0.0, 1.0).draw({"x": 0}, {"x": 1})
    study.start(0, 0, "0.0").report(0, 0.9).end(0, "completed")
    study.start(1, 1, "0.0").report(1, 0.1, 0.2, 0.3)
    study.apply(core.EndTrial(trial=1, state="stopped", reason="ranked last")).report(1, 0.2)
    gone = []
    for _, _, record in study.records:
        janitor.note(study.state, record)
    gone += janitor.useless(study.state)
    assert {path.partition("/")[0] for path in gone} == {"1"}
    kept = {report.checkpoint for report in (study.state.trials[1].resume, study.state.trials[1].spare)}
    assert kept.isdisjoint(gone), "the gang may still have them open"
    ended = core.GangEnded(gang=1, outcome="stopped")
    study.apply(ended)
    janitor.note(study.state, ended)
    gone += janitor.useless(study.state)
    assert len(gone) == 4
    assert kept < set(gone)
