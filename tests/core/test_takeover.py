"""A runner that takes over from a dead one: bills of the machines it left, and damaged checkpoints."""

import pytest
from msgspec.structs import replace

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.policies import RandomSearch
from seer_nb.runner.checkpoint_gc import CheckpointCollector
from seer_nb.runner.machines import expired_machines
from tests.support.records import OFFER, Builder, settings

HOUR_S = 3600.0
BILLED = replace(OFFER, billed_until_deleted=True)


def running(offer=OFFER):
    """Return a study with two machines, rented at 0 s and 2 s, whose runner dies at 10 s."""
    study = Builder(offers=(offer,), budget_micro=100_000_000).machine(0, 0.0, 2.0).machine(1, 2.0, 2.0)
    return study.apply(core.Ticked(), 10.0)


def both(more_s):
    """Return the cost of both machines if they live `more_s` after the runner died."""
    return OFFER.bill(10.0 + more_s) + OFFER.bill(8.0 + more_s)


def spent(study):
    return study.state.ledger.spent_micro(study.now_s)


def test_machine_that_shut_itself_down_is_billed_for_its_lease():
    study = running().apply(core.RunnerStarted(unseen_s=10 * HOUR_S), 10.0)
    assert not study.state.live_machines
    # The runner may have lived for a heartbeat after its last record, and then the lease expires.
    assert both(30.0) <= spent(study) <= both(30.0 + 30.0)


def test_machine_billed_until_deleted_is_billed_for_the_whole_time():
    study = running(BILLED).apply(core.RunnerStarted(unseen_s=10 * HOUR_S, retired=(0, 1)), 10.0)
    assert spent(study) == both(10 * HOUR_S)


def test_machine_that_no_longer_exists_is_not_billed_until_the_next_runner():
    """A rental is recorded before it is requested, so a machine that is not listed does not exist."""
    study = running(BILLED).apply(core.Rent(machine=2, offer="local", reason="the plan wants a worker"))
    study.apply(core.RunnerStarted(unseen_s=24 * HOUR_S, retired=(0,)), 10.0)
    assert study.state.ledger.bill(0, 10.0) == BILLED.bill(10.0 + 24 * HOUR_S)
    heartbeat_s = study.state.heartbeat_s + core.SLACK_S
    assert study.state.ledger.bill(1, 10.0) == BILLED.bill(8.0 + heartbeat_s)
    assert study.state.ledger.bill(2, 10.0) == BILLED.bill(heartbeat_s)
    short = running(BILLED).apply(core.RunnerStarted(unseen_s=2.0), 10.0)
    assert spent(short) == both(2.0)


def test_machine_that_still_exists_is_billed_until_it_is_gone():
    study = running(BILLED).apply(core.RunnerStarted(unseen_s=HOUR_S, retired=(0, 1)), 10.0)
    assert {machine.state for machine in study.state.live_machines.values()} == {"retiring"}
    assert spent(study) == both(HOUR_S)
    study.apply(core.Ticked(), 20.0)
    assert spent(study) == both(HOUR_S + 10.0)
    study.apply(core.MachineEnded(machine=0, expected=True), 25.0)
    study.apply(core.MachineEnded(machine=1, expected=True, lived_s=HOUR_S + 100.0), 25.0)
    assert not study.state.live_machines
    assert spent(study) == BILLED.bill(25.0 + HOUR_S) + BILLED.bill(HOUR_S + 100.0)


def given_up(study, at_s):
    """Ends that a runner records for machines whose provider has not reported them."""
    return expired_machines(study.state, at_s)


@pytest.mark.parametrize("unseen_s", [5.0, 20.0, HOUR_S])
def test_machine_left_behind_and_never_seen_again_costs_at_most_its_lease(unseen_s):
    """Guards against a lease that the ledger counts from before the runner's death, and the runner from after it."""
    study = Builder(budget_micro=131_000).machine(0, 0.0, 2.0).apply(core.Ticked(), 100.0)
    study.apply(core.RunnerStarted(unseen_s=unseen_s, retired=(0,)), 100.0)
    # Its lease was renewed for up to a second after the last record, until the money ended.
    lives_s = 100.0 + min(1.0, unseen_s) + 30.0 - study.state.machines[0].unseen_s
    floor = study.state.ledger.least_budget_micro(100.0)
    assert floor == study.state.ledger.least_budget_micro(lives_s) <= 131_000
    assert not given_up(study, lives_s - 0.1)
    (ended,) = given_up(study, lives_s + 0.1)
    study.apply(ended, lives_s + 5.0)
    assert spent(study) == floor


def test_lease_renewed_after_the_last_record_is_committed():
    study = running().apply(core.RunnerStarted(unseen_s=5.0, retired=(0, 1)), 10.0)
    assert study.state.ledger.least_budget_micro(10.0) == both(5.0 + 30.0)


@pytest.mark.parametrize("unseen_s", [20.0, HOUR_S])
def test_machine_retired_before_its_runner_died_commits_its_lease_from_there(unseen_s):
    study = running().apply(core.Retire(machine=0, reason="too many")).apply(core.Ticked(), 15.0)
    study.apply(core.RunnerStarted(unseen_s=unseen_s, retired=(0,)), 15.0)
    assert study.state.ledger.least_budget_micro(15.0) - study.state.ledger.bill(1, 15.0) == OFFER.bill(10.0 + 30.0)
    (ended,) = given_up(study, 36.0)
    assert ended.lived_s == 10.0 + 30.0


def test_next_runner_deletes_the_machine_that_its_predecessor_retired():
    study = running(BILLED).apply(core.Retire(machine=0, reason="too many")).apply(core.Ticked(), 15.0)
    study.apply(core.RunnerStarted(unseen_s=HOUR_S, retired=(0,)), 15.0)
    assert study.state.ledger.least_budget_micro(15.0) - study.state.ledger.bill(1, 15.0) == OFFER.bill(
        15.0 + HOUR_S + 30.0
    )
    assert not given_up(study, HOUR_S)


def test_late_bill_corrects_the_spending():
    study = running().apply(core.RunnerStarted(unseen_s=HOUR_S), 10.0)
    study.apply(core.MachineBilled(machine=0, lived_s=500.0)).apply(core.MachineBilled(machine=1, lived_s=0.0))
    assert spent(study) == OFFER.bill(500.0)
    assert study.state.ledger.bill(0, study.now_s) == OFFER.bill(500.0)
    study.apply(core.MachineBilled(machine=0, lived_s=11.0))
    assert spent(study) == OFFER.bill(11.0)


@pytest.mark.parametrize("machine", [0, 7])
def test_bill_of_a_live_or_unknown_machine_is_ignored(machine):
    study = running()
    before = spent(study)
    study.apply(core.MachineBilled(machine=machine, lived_s=5000.0))
    assert spent(study) == before


def test_pausing_study_is_paused_when_its_last_machine_is_gone():
    study = running().apply(core.Pause())
    study.apply(core.RunnerStarted(unseen_s=1.0, adopted=(0,), retired=(1,)), 11.0)
    assert study.state.phase == "pausing"
    none_left = running().apply(core.Pause()).apply(core.RunnerStarted(unseen_s=1.0), 11.0)
    assert none_left.state.phase == "paused"


def test_machines_left_behind_are_logged_and_cleared_by_the_next_runner():
    study = running().apply(core.MachinesLeftBehind(machines=(0, 1)))
    assert study.state.left_behind == (0, 1)
    assert study.history.log[-1].text == "machines could not be terminated and may still be billed: 0, 1"
    study.apply(core.RunnerStarted(unseen_s=1.0), 11.0)
    assert study.state.left_behind == ()


def test_trial_whose_last_epoch_was_reported_before_the_runner_died_completes():
    """Its gang had not ended, and no policy trains a fully trained trial, so nothing else would complete it."""
    engine = Engine(settings(max_epochs=2), RandomSearch())
    engine.state = running().draw({"x": 0.1}).start(0, 0, "0.0", until=2).report(0, 0.5, 0.6).state
    engine.state.settings = settings(max_epochs=2)
    actions = engine.handle(core.RunnerStarted(unseen_s=1.0, adopted=(0, 1)), 13.0)
    (ended,) = [action for action in actions if isinstance(action, core.EndTrial)]
    assert (ended.trial, ended.state, ended.reason) == (0, "completed", "trained all 2 epochs")


# --- damaged checkpoints ---


VALUES = (0.5, 0.9, 0.7, 0.6)


def path(epoch, gang=0):
    return f"0/{epoch:06d}-g{gang}.pt"


def stored(epochs):
    """Return a study whose trial has a checkpoint at each epoch and whose first gang has ended."""
    study = running().draw({"x": 0.1}).start(0, 0, "0.0", until=epochs).report(0, *VALUES[:epochs])
    return study.apply(core.GangEnded(gang=0, outcome="target"))


def damaged(study, gang):
    trial = study.state.trials[0]
    study.start(0, gang, "0.0", until=9)
    assert study.state.gangs[gang].from_epoch == trial.resume_epoch
    study.apply(core.GangEnded(gang=gang, outcome="damaged", error="its checksum is wrong", own_fault=False))
    return study.state.trials[0]


def test_damaged_checkpoint_is_replaced_by_the_one_before_then_the_best():
    study = stored(4)
    trial = damaged(study, 1)
    assert (trial.resume.checkpoint, trial.best.checkpoint, trial.state) == (path(3), path(2), "paused")
    assert trial.epoch == 4, "reports remain"
    trial = damaged(study, 2)
    assert (trial.resume.checkpoint, trial.best.checkpoint) == (path(2), path(2))
    trial = damaged(study, 3)
    assert (trial.resume, trial.best, trial.resume_epoch) == (None, None, 0)
    assert study.history.log[-1].text == "trial 0 returns to epoch 0"


def test_epochs_trained_again_are_not_counted_twice():
    study = stored(2)
    damaged(study, 1)
    study.start(0, 2, "0.0", until=9)
    again = core.Reported(gang=2, epoch=2, value=0.8, seconds=1.0, checkpoint=path(2, 2))
    trial = study.apply(again).report(2, 0.95).state.trials[0]
    assert [report.epoch for report in trial.curve] == [1, 2, 3]
    assert [report.value for report in trial.curve] == [0.5, 0.9, 0.95], "the first report counts"
    assert (trial.resume.checkpoint, trial.fallback.checkpoint) == (path(3, 2), path(2, 2))


def test_checkpoints_that_may_be_needed_are_kept():
    collector = CheckpointCollector()
    study = stored(4)
    for _, _, record in study.records:
        collector.observe(study.state, record)
    assert collector.removable(study.state) == [path(1)]


def test_ended_trial_keeps_no_checkpoints_after_its_gang_has_ended():
    collector, study = CheckpointCollector(), Builder().machine(0, 0.0, 1.0).draw({"x": 0}, {"x": 1})
    study.start(0, 0, "0.0").report(0, 0.9).end(0, "completed")
    study.start(1, 1, "0.0").report(1, 0.1, 0.2, 0.3)
    study.apply(core.EndTrial(trial=1, state="stopped", reason="ranked last")).report(1, 0.2)
    gone = []
    for _, _, record in study.records:
        collector.observe(study.state, record)
    gone += collector.removable(study.state)
    assert {path.partition("/")[0] for path in gone} == {"1"}
    kept = {report.checkpoint for report in (study.state.trials[1].resume, study.state.trials[1].fallback)}
    assert kept.isdisjoint(gone), "the gang may still read them"
    ended = core.GangEnded(gang=1, outcome="stopped")
    study.apply(ended)
    collector.observe(study.state, ended)
    gone += collector.removable(study.state)
    assert len(gone) == 4
    assert kept < set(gone)
