"""The engine without faults: start and end of a study, limits, commands, reports and gangs."""

from itertools import pairwise

import pytest
from msgspec.structs import replace

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.policies import SEER, by_name
from tests.support.fake_cloud import FakeCloud, World
from tests.support.records import OFFER, settings
from tests.support.small_engine import Simple, Switch, draw, of, only, reported, started

# --- start, end and limits ---


def test_study_rents_draws_trains_and_retires_its_machine():
    cloud = FakeCloud(Simple(total=1)).run()
    kinds = [type(action).__name__ for action in cloud.actions if not isinstance(action, core.Note)]
    assert kinds == ["Rent", "Draw", "StartGang", "EndTrial", "Retire", "BeginEnd", "Finish"]
    trial = cloud.state.trials[0]
    assert (trial.state, trial.epoch, trial.reason) == ("completed", 9, "trained all 9 epochs")
    assert not cloud.state.failed


def test_machines_are_retired_when_nothing_useful_is_left():
    cloud = FakeCloud(Simple(trials=4, total=4)).run()
    assert cloud.now_s < 200
    assert cloud.of(core.BeginEnd)[0][1].reason == "as it comes"
    assert all(box.ended_s is not None for box in cloud.machines.values())


@pytest.mark.parametrize("epoch_s", [3.0, 10.0, 50.0])
def test_at_the_deadline_all_machines_are_gone_and_the_best_is_stored(epoch_s):
    cloud = FakeCloud(Simple(trials=3), World(epoch_s=epoch_s), deadline_s=120.0, budget_micro=10**9).run()
    assert "deadline" in cloud.state.reason
    assert all(box.ended_s <= 120.0 for box in cloud.machines.values())
    stored = [r for t in cloud.state.trials.values() for r in t.curve if r.checkpoint is not None]
    assert cloud.state.best.best.value == max(report.value for report in stored)


def test_epoch_that_would_end_after_the_deadline_is_not_started():
    # 10 s of boot, a stall of 1 s, then epochs of 30 s: the fourth would end at 131 s.
    cloud = FakeCloud(Simple(), World(epoch_s=30.0), deadline_s=120.0).run()
    assert cloud.state.trials[0].epoch == 3
    (at_s, stop), *_ = cloud.of(core.StopGang)
    assert stop.reason == "another epoch would not end before the deadline"
    assert at_s < 101.0
    assert cloud.now_s < 112.0, "an idle machine is paid for until the deadline"


def test_gang_without_time_for_an_epoch_is_not_started():
    """Guards against an endless loop of starting and stopping gangs shortly before the deadline."""
    cloud = FakeCloud(Simple(trials=2), World(epoch_s=30.0), deadline_s=120.0).run()
    assert len(cloud.of(core.StartGang)) == 2


def test_machine_that_would_boot_too_late_is_not_rented():
    offer = replace(OFFER, boot_s=30.0)
    cloud = FakeCloud(Simple(), World(boot_s=30.0), offers=(offer,), deadline_s=120.0)
    cloud.run(until_s=90.0)
    cloud.end_machine(0, "lost")
    cloud.run()
    assert len(cloud.machines) == 1
    assert cloud.now_s < 100.0


def test_study_ends_within_the_budget_when_money_runs_out():
    cloud = FakeCloud(Simple(trials=2), budget_micro=150_000).run()
    assert "budget" in cloud.state.reason
    assert 90_000 < cloud.provider_bill_micro() <= 150_000
    assert cloud.state.ledger.spent_micro(cloud.now_s) == cloud.provider_bill_micro()


@pytest.mark.parametrize("seed", range(8))
def test_machines_are_retired_so_that_the_money_lasts_for_the_others(seed):
    """The leases of eight machines cost an eighth of the budget; seeds 1 and 7 once ended long before it was used."""
    world = World(seed=seed, spread=0.3)
    cloud = FakeCloud(SEER(), world, max_epochs=9, deadline_s=400.0, budget_micro=2_000_000, max_workers=8).run()
    assert cloud.state.reason != "the budget was reached"
    assert cloud.state.now_s > 300.0
    assert cloud.state.trials[cloud.state.best.id].state == "completed"
    lost = [event for event in cloud.events if isinstance(event, core.GangEnded) and event.outcome == "lost"]
    assert not lost, "machines were taken from their gangs"


@pytest.mark.parametrize("tick_late_s", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("budget", range(60_000, 66_000, 700))
def test_budget_is_never_exceeded_when_timers_are_late(budget, tick_late_s):
    # Each second of a machine costs 1000 micro-dollars, so the engine needs slack to keep the budget exactly.
    def spent_plus_committed_is_within_the_budget(cloud):
        ledger = cloud.state.ledger
        assert ledger.spent_micro(cloud.now_s) + ledger.committed_micro(cloud.now_s) <= budget

    FakeCloud(
        Simple(trials=2),
        World(tick_late_s=tick_late_s),
        budget_micro=budget,
        check=spent_plus_committed_is_within_the_budget,
    ).run()


def test_machine_is_not_rented_if_money_would_end_before_it_has_booted():
    """Guards against a machine that uses the last money without training.

    Also guards against an exceeded budget: the money ended before the rental, so no timer was set for that moment.
    """
    offer = replace(OFFER, boot_s=10.0)
    cloud = FakeCloud(Simple(), budget_micro=41_000, offers=(offer,)).run()
    assert not cloud.machines
    assert cloud.state.reason == "the budget leaves no room for another epoch"


def test_policy_without_jobs_ends_the_study():
    cloud = FakeCloud(only()).run()
    assert cloud.now_s == 0.0


# --- commands ---


def test_pause_saves_and_retires_and_resume_continues_from_there():
    cloud = FakeCloud(Simple(trials=2, total=2), commands=[(40.0, core.Pause()), (60.0, core.Resume())])
    cloud.run(until_s=59.0)
    assert cloud.state.phase == "paused"
    assert all(box.ended_s <= 51.0 for box in cloud.machines.values())
    before = {trial.id: trial.epoch for trial in cloud.state.trials.values()}
    assert all(trial.state == "paused" for trial in cloud.state.trials.values())
    cloud.run()
    should_continue = {start.trial: start.from_epoch for at_s, start in cloud.of(core.StartGang) if at_s > 41.0}
    assert should_continue == before
    assert all(trial.state == "completed" for trial in cloud.state.trials.values())


def test_paused_study_needs_no_wake_up():
    cloud = FakeCloud(Simple(), commands=[(40.0, core.Pause())]).run(until_s=60.0)
    assert cloud.state.phase == "paused"
    assert cloud.engine.next_call_s() == float("inf")


def test_pause_that_is_resumed_at_once_loses_no_epoch():
    cloud = FakeCloud(Simple(total=1), commands=[(35.0, core.Pause()), (36.0, core.Resume())]).run()
    epochs = [event.epoch for event in cloud.events if isinstance(event, core.Reported)]
    assert epochs == list(range(1, 10))


def test_stop_finishes_the_current_epochs_and_ends_the_study():
    cloud = FakeCloud(Simple(trials=2), commands=[(45.0, core.Stop())]).run()
    assert cloud.state.reason == "stopped by hand"
    # The current epochs were finished.
    assert [trial.epoch for trial in cloud.state.trials.values()] == [4, 4]
    assert 51.0 <= cloud.now_s < 70.0


def test_stop_does_not_wait_for_a_hung_gang():
    cloud = FakeCloud(Simple(trials=2), World(hangs=1.0), commands=[(45.0, core.Stop())]).run()
    assert cloud.now_s < 45.0 + 60.0


def test_paused_study_can_be_stopped():
    cloud = FakeCloud(Simple(), commands=[(40.0, core.Pause()), (60.0, core.Stop())]).run()
    assert (cloud.state.phase, cloud.state.reason) == ("ended", "stopped by hand")


def test_ended_study_resumes_when_money_was_added():
    cloud = FakeCloud(Simple(trials=2, total=2), budget_micro=130_000).run()
    assert "budget" in cloud.state.reason
    before = [trial.epoch for trial in cloud.state.trials.values()]
    cloud.handle(core.SetBudget(budget_micro=500_000))
    cloud.handle(core.Resume())
    cloud.run()
    assert max(before) < 9
    assert [trial.state for trial in cloud.state.trials.values()] == ["completed", "completed"]


def paused(*, trials=2):
    """Return the engine of a paused study whose trials have all trained one epoch."""
    engine = started(Engine(settings(), Simple(trials=trials, total=trials)), machines=trials)
    draw(engine, 10.0, trials)
    engine.handle(core.Pause(), 15.0)
    for gang in range(trials):
        engine.handle(reported(gang, 1), 20.0)
        engine.handle(core.GangEnded(gang=gang, outcome="stopped"), 20.0)
        engine.handle(core.MachineEnded(machine=gang, expected=True), 20.0)
    assert engine.state.phase == "paused"
    return engine


def test_trial_stopped_during_a_pause_stays_stopped_after_it():
    engine = paused()
    (end,) = engine.handle(core.StopTrial(trial=0), 20.0)
    assert (end.trial, end.state, end.reason) == (0, "stopped", "stopped by hand")
    assert engine.state.phase == "paused"
    assert not engine.handle(core.StopTrial(trial=0), 20.0), "the trial has ended"
    engine.handle(core.Resume(), 20.0)
    for machine in list(engine.state.live_machines):
        engine.handle(core.MachineReady(machine=machine, boot_s=1.0), 21.0)
    assert {gang.trial for gang in engine.state.gangs.values()} == {1}


def test_trial_of_a_paused_study_stopped_without_a_runner_stays_stopped():
    engine = paused()
    assert not engine.handle(core.RunnerStarted(unseen_s=60.0, waiting=2), 20.0)
    assert len(of(engine.handle(core.StopTrial(trial=1), 20.0), core.EndTrial)) == 1
    assert of(engine.handle(core.Resume(), 20.0), core.Rent)
    assert (engine.state.trials[0].state, engine.state.trials[1].state) == ("paused", "stopped")


def test_stopping_one_trial_leaves_the_others_training():
    cloud = FakeCloud(Simple(trials=2, total=2), commands=[(45.0, core.StopTrial(trial=0))]).run()
    stopped, other = cloud.state.trials.values()
    assert (stopped.state, stopped.reason, stopped.epoch) == ("stopped", "stopped by hand", 4)
    assert other.state == "completed"


@pytest.mark.parametrize(
    "command", [core.StopTrial(trial=99), core.Pin(trial=99), core.Resume(), core.SetBudget(budget_micro=0)]
)
def test_meaningless_command_is_ignored(command):
    cloud = FakeCloud(Simple(total=1), commands=[(45.0, command)]).run()
    assert cloud.state.phase == "ended"
    assert cloud.state.trials[0].epoch >= 3


def test_pinned_trial_is_not_pruned_until_it_is_unpinned():
    verdict = only((0, 1, 9), verdicts=(core.Verdict(trial=0, reason="ranked last"),))
    engine = started(Engine(settings(), Switch(Simple(), 50.0, verdict)))
    draw(engine, 10.0)
    engine.handle(core.Pin(trial=0), 20.0)
    assert not of(engine.handle(reported(0, 1), 60.0), core.EndTrial)
    actions = engine.handle(core.Pin(trial=0, pinned=False), 61.0)
    assert of(actions, core.EndTrial) == [core.EndTrial(trial=0, state="stopped", reason="ranked last")]
    assert of(actions, core.StopGang) == [core.StopGang(gang=0, reason="ranked last")]


def test_budget_cannot_be_set_below_spent_and_committed():
    cloud = FakeCloud(Simple(), commands=[(40.0, core.SetBudget(budget_micro=1))]).run(until_s=40.0)
    # The machine has lived 40 s, and the lease is 30 s.
    assert cloud.state.budget_micro == 70_000
    assert cloud.run().state.reason == "the budget was reached"
    assert cloud.now_s <= 40.0 + OFFER.release_s
    assert cloud.provider_bill_micro() <= 70_000


def test_deadline_in_the_past_ends_the_study_at_once():
    cloud = FakeCloud(Simple(), commands=[(40.0, core.SetDeadline(deadline_s=20.0))]).run()
    assert cloud.state.reason == "the deadline was reached"
    assert cloud.now_s <= 40.0 + OFFER.release_s


def test_deadline_that_moves_with_the_wall_clock_is_kept():
    cloud = FakeCloud(Simple(), commands=[(40.0, core.DeadlineMoved(deadline_s=100.0))], budget_micro=10**9).run()
    assert 80.0 < cloud.now_s <= 100.0


def test_study_uses_added_time_and_money():
    commands = [(100.0, core.SetDeadline(deadline_s=300.0)), (101.0, core.SetBudget(budget_micro=10**9))]
    cloud = FakeCloud(Simple(), commands=commands, deadline_s=120.0, budget_micro=140_000).run()
    assert 270.0 < cloud.now_s <= 300.0


# --- reports ---


def test_diverged_trial_is_stopped_and_is_never_the_best():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(reported(0, 1, 0.5), 21.0)
    actions = engine.handle(reported(0, 2, None), 31.0)
    assert of(actions, core.EndTrial)[0].reason == "diverged: its value was not finite at epoch 2"
    assert of(actions, core.StopGang)
    assert engine.state.best.best.epoch == 1


def test_best_report_depends_on_the_mode():
    for mode, best in (("max", 3), ("min", 1)):
        engine = started(Engine(settings(mode=mode), Simple()))
        draw(engine, 10.0)
        for epoch, value in enumerate((0.2, 0.4, 0.6), 1):
            engine.handle(reported(0, epoch, value), 10.0 + 10 * epoch)
        assert engine.state.best.best.epoch == best


def test_only_a_stored_report_can_be_the_best():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(reported(0, 1, 0.5), 20.0)
    engine.handle(reported(0, 2, 0.9, checkpoint=None), 30.0)
    assert engine.state.best.best.epoch == 1
    assert (engine.state.trials[0].epoch, engine.state.trials[0].resume_epoch) == (2, 1)


def test_epoch_trained_again_counts_once_but_its_checkpoint_is_used():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(reported(0, 1, 0.5), 20.0)
    engine.handle(reported(0, 2, 0.9, checkpoint=None), 30.0)
    engine.handle(core.GangEnded(gang=0, outcome="lost", own_fault=False), 31.0)
    assert engine.state.gangs[1].from_epoch == 1
    engine.handle(reported(1, 2, 0.8), 42.0)
    trial = engine.state.trials[0]
    assert [(r.epoch, r.value) for r in trial.curve] == [(1, 0.5), (2, 0.9)]
    assert (trial.resume_epoch, trial.best.epoch, trial.best.checkpoint) == (2, 2, "there")


def test_report_of_an_ended_gang_is_ignored():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(core.GangEnded(gang=0, outcome="lost", own_fault=False), 20.0)
    engine.handle(reported(0, 1), 21.0)
    assert engine.state.trials[0].epoch == 0


def test_reports_of_fast_epochs_cause_no_decision():
    engine = started(Engine(settings(), Switch(Simple(), 15.0, only())))
    draw(engine, 10.0)
    assert not engine.handle(reported(0, 1, seconds=0.1), 20.0)
    assert of(engine.handle(reported(0, 2, seconds=1.0), 21.0), core.StopGang)


# --- gangs ---


def test_gang_is_resized_after_its_epoch_and_continues_from_there():
    cloud = FakeCloud(Switch(Simple(total=1), 35.0, only((0, 2, 9)))).run(until_s=75.0)
    (_, first), (at_s, second) = cloud.of(core.StartGang)
    assert (len(first.workers), len(second.workers)) == (1, 2)
    # The resize is requested at the third report, at 41 s, and happens after the fourth epoch.
    assert (second.from_epoch, second.checkpoint, at_s) == (4, "0/4", 51.0)
    assert [stop.reason for _, stop in cloud.of(core.StopGang)] == ["continues on 2 workers"]


def test_gang_is_extended_without_a_stop():
    cloud = FakeCloud(Switch(Simple(until=3, total=1), 25.0, only((0, 1, 9)))).run(until_s=110.0)
    assert [extend.until for _, extend in cloud.of(core.ExtendGang)] == [9]
    assert len(cloud.of(core.StartGang)) == 1
    assert cloud.state.trials[0].epoch == 9


def test_gang_without_a_job_is_saved_and_paused():
    cloud = FakeCloud(Switch(Simple(total=1), 20.5, only(workers=1))).run(until_s=35.0)
    assert (cloud.state.trials[0].state, cloud.state.trials[0].resume_epoch) == ("paused", 2)


def test_large_gang_is_not_starved_by_small_jobs_behind_it():
    policy = only((None, 2, 9), (None, 1, 9))
    engine = started(Engine(settings(), policy), machines=1)
    draw(engine, 12.0, 2)
    assert not engine.state.gangs
    engine.handle(core.MachineReady(machine=1, boot_s=13.0), 13.0)
    assert [gang.parallelism for gang in engine.state.gangs.values()] == [2]


def test_gang_that_the_budget_never_covers_is_started_smaller():
    """Guards against idle machines that wait for others that the budget does not cover."""
    # Two machines are affordable, not four.
    offer = replace(OFFER, boot_s=10.0)
    cloud = FakeCloud(Simple(p=4, total=1), World(epoch_s=4.0), offers=(offer,), budget_micro=120_000).run()
    assert len(cloud.machines) == 2
    assert {len(start.workers) for _, start in cloud.of(core.StartGang)} == {2}
    assert cloud.state.trials[0].epoch > 3


def test_gang_larger_than_the_quota_is_started_smaller():
    cloud = FakeCloud(Simple(p=4, total=1), offers=(replace(OFFER, max_machines=2),)).run()
    assert [len(start.workers) for _, start in cloud.of(core.StartGang)] == [2]


# --- limits of parallelism ---


def gang_sizes(actions):
    return [len(start.workers) for start in of(actions, core.StartGang)]


def test_trials_that_do_not_share_their_work_continue_on_one_worker():
    engine = started(Engine(settings(), Simple(p=2, trials=2)), machines=4)
    assert gang_sizes(draw(engine, 10.0, 2)) == [2, 2]
    stops = of(engine.handle(reported(0, 1, seconds=0.1, shares=False), 11.0), core.StopGang)
    # One function trains all trials, so the other gang is assumed to be like the first.
    assert [(stop.gang, stop.reason) for stop in stops] == [(k, "limited to a parallelism of 1") for k in (0, 1)]
    assert gang_sizes(engine.handle(core.GangEnded(gang=0, outcome="stopped"), 12.0)) == [1]
    assert engine.policy_view().max_parallelism == 1


def test_trials_that_share_their_work_keep_their_workers_beside_one_that_does_not():
    engine = started(Engine(settings(), Simple(p=2, trials=2)), machines=4)
    draw(engine, 10.0, 2)
    assert not of(engine.handle(reported(0, 1, shares=True), 20.0), core.StopGang)
    assert [stop.gang for stop in of(engine.handle(reported(1, 1, shares=False), 21.0), core.StopGang)] == [1]
    assert gang_sizes(engine.handle(core.GangEnded(gang=1, outcome="stopped"), 22.0)) == [1]
    engine.handle(core.GangEnded(gang=1, outcome="returned"), 23.0)
    assert engine.policy_view().max_parallelism == 4
    assert gang_sizes(engine.handle(core.GangEnded(gang=0, outcome="lost", own_fault=False), 23.0)) == [2]


def test_machines_that_a_limited_gang_does_not_need_are_not_rented():
    cloud = FakeCloud(Simple(p=4, total=1), max_parallelism=2).run()
    assert [len(start.workers) for _, start in cloud.of(core.StartGang)] == [2]
    assert len(cloud.machines) == 2


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("name", ["seer", "asha", "halving", "hyperband", "hypersched", "naive_elastic", "rubberband"])
def test_no_policy_exceeds_the_most_workers_of_a_trial(name, most):
    limits = {"deadline_s": 100.0, "budget_micro": 10**8, "max_workers": 8}
    cloud = FakeCloud(by_name(name), max_parallelism=most, **limits).run()
    assert {len(start.workers) for _, start in cloud.of(core.StartGang)} <= {1, most}
    assert cloud.state.best is not None
    # Workers that no trial may use are not rented.
    trains = [gang for gang in cloud.state.ended_gangs.values() if gang.from_epoch == 0]
    assert len(cloud.machines) <= most * len(trains)


# --- notes and wake-ups ---


def test_plan_is_noted_when_it_changes_and_its_text_once_a_second():
    cloud = FakeCloud(Simple(total=4)).run()
    notes = cloud.of(core.Note)
    assert {note.reason for _, note in notes} == {"as it comes"}
    logged = [(note.reason, note.workers, note.wanted) for _, note in notes]
    assert all(before != after for before, after in pairwise(logged))


def test_wanted_workers_of_each_trial_are_noted():
    cloud = FakeCloud(Simple(p=2, total=2)).run()
    wants = [note.wanted for _, note in cloud.of(core.Note)]
    assert {0: 2} in wants
    assert {1: 2} in wants
    assert wants[-1] == cloud.state.wanted


def test_machine_is_not_rented_for_an_epoch_that_money_cannot_finish():
    """Guards against an endless loop of renting and retiring: in the largest gang, the epoch would have fitted."""
    policy = Switch(Simple(until=1, total=1), 26.0, Simple(total=1))
    offer = replace(OFFER, boot_s=0.0, release_s=0.0)
    cloud = FakeCloud(policy, World(epoch_s=25.0, boot_s=0.0), offers=(offer,), budget_micro=75_000).run()
    assert len(cloud.machines) == 1
    assert cloud.state.reason == "the budget leaves no room for another epoch"


def test_wake_up_time_is_never_in_the_past():
    def later(cloud):
        assert cloud.engine.next_call_s() > cloud.state.now_s

    FakeCloud(Simple(trials=2), World(hangs=0.05, life_s=200.0, spread=0.5), check=later).run()
