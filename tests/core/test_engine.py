"""What an engine does in given situations, on the fake cloud or event by event."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from msgspec.structs import replace

from seer_nb.core import model as m
from seer_nb.core.engine import Engine
from seer_nb.core.faults import BOOT_FAILURES
from seer_nb.core.money import BillingRule
from tests.builders import OFFER, settings
from tests.core.fake_cloud import FakeCloud, World


@dataclass(frozen=True)
class Simple:
    """So many trials at once, each on p workers, without verdicts."""

    trials: int = 1
    p: int = 1
    until: int = 9
    total: int = 1000

    def decide(self, snapshot):
        busy = {gang.trial for gang in snapshot.gangs}
        jobs = [m.Job(trial=g.trial, workers=g.parallelism, until=g.until) for g in snapshot.gangs if not g.stopping]
        paused = [t.id for t in snapshot.trials if t.state == "paused" and t.id not in busy and t.epoch < self.until]
        fresh = [None] * (min(self.total, snapshot.waiting if snapshot.exhausted else 1000) - len(snapshot.trials))
        room = max(0, self.trials - len(jobs))
        jobs += [
            m.Job(trial=t, workers=self.p, until=self.until, reason="it is next") for t in [*paused, *fresh][:room]
        ]
        workers = sum(job.workers for job in jobs)
        return m.Plan(jobs=tuple(jobs), workers=workers, done=not jobs, reason="as it comes")


@dataclass(frozen=True)
class Fixed:
    """Always the same plan."""

    plan: m.Plan

    def decide(self, snapshot):
        return self.plan


@dataclass(frozen=True)
class Switch:
    """One policy, and another from a given time on."""

    first: object
    since_s: float
    second: object

    def decide(self, snapshot):
        return (self.second if snapshot.now_s >= self.since_s else self.first).decide(snapshot)


def only(*jobs, **plan):
    """A policy that always wants the same; jobs: (trial, workers, until)."""
    wanted = tuple(m.Job(trial=trial, workers=workers, until=until) for trial, workers, until in jobs)
    return Fixed(m.Plan(jobs=wanted, **{"workers": sum(job.workers for job in wanted), **plan}))


def started(engine, *, machines=1):
    """An engine with machines that are ready, at 10 s."""
    engine.handle(m.Began(settings=engine.state.settings), 0.0)
    engine.handle(m.RunnerStarted(), 0.0)
    for machine in range(machines):
        engine.handle(m.MachineReady(machine=machine, boot_s=10.0), 10.0)
    return engine


def of(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def draw(engine, at_s, count=1):
    first = engine.state.n_drawn
    actions = []
    for number in range(first, first + count):
        actions += engine.handle(m.Drawn(trial=number, config={"x": number}), at_s)
    return actions


def reported(gang, epoch, value=0.5, *, seconds=10.0, checkpoint="there"):
    return m.Reported(gang=gang, epoch=epoch, value=value, seconds=seconds, checkpoint=checkpoint)


# --- how a study begins and ends ---


def test_a_study_rents_draws_trains_and_hands_back():
    cloud = FakeCloud(Simple(total=1)).run()
    kinds = [type(action).__name__ for action in cloud.actions if not isinstance(action, m.Note)]
    assert kinds == ["Rent", "Draw", "StartGang", "EndTrial", "Retire", "BeginEnd", "Finish"]
    trial = cloud.state.trials[0]
    assert (trial.state, trial.epoch, trial.reason) == ("completed", 9, "trained all 9 epochs")
    assert not cloud.state.failed


def test_machines_go_once_nothing_useful_is_left():
    cloud = FakeCloud(Simple(trials=4, total=4)).run()
    assert cloud.now_s < 200
    assert cloud.of(m.BeginEnd)[0][1].reason == "as it comes"
    assert all(box.gone_s is not None for box in cloud.boxes.values())


@pytest.mark.parametrize("epoch_s", [3.0, 10.0, 50.0])
def test_at_the_deadline_everything_is_gone_and_the_best_is_stored(epoch_s):
    cloud = FakeCloud(Simple(trials=3), World(epoch_s=epoch_s), deadline_s=120.0, budget=10**9).run()
    assert "deadline" in cloud.state.reason
    assert all(box.gone_s <= 120.0 for box in cloud.boxes.values())
    stored = [r for t in cloud.state.trials.values() for r in t.curve if r.checkpoint is not None]
    assert cloud.state.best.best.value == max(report.value for report in stored)


def test_an_epoch_that_would_not_end_before_the_deadline_is_not_begun():
    # 10 s of boot, a stall of 1 s, then epochs of 30 s: the fourth would end at 131 s.
    cloud = FakeCloud(Simple(), World(epoch_s=30.0), deadline_s=120.0).run()
    assert cloud.state.trials[0].epoch == 3
    (at_s, stop), *_ = cloud.of(m.StopGang)
    assert stop.reason == "another epoch would not end before the deadline"
    assert at_s < 101.0
    assert cloud.now_s < 112.0, "an idle machine is paid for until the deadline"


def test_a_gang_that_has_no_time_for_an_epoch_is_not_started():
    """Guards against starting and stopping gangs without end shortly before the deadline."""
    cloud = FakeCloud(Simple(trials=2), World(epoch_s=30.0), deadline_s=120.0).run()
    assert len(cloud.of(m.StartGang)) == 2


def test_a_machine_that_would_boot_too_late_is_not_rented():
    offer = replace(OFFER, boot_s=30.0)
    cloud = FakeCloud(Simple(), World(boot_s=30.0), offers=(offer,), deadline_s=120.0)
    cloud.run(until_s=90.0)
    cloud._end_machine(0, "lost")
    cloud.run()
    assert len(cloud.boxes) == 1
    assert cloud.now_s < 100.0


def test_money_that_ends_ends_the_study_within_the_budget():
    cloud = FakeCloud(Simple(trials=2), budget=150_000).run()
    assert "budget" in cloud.state.reason
    assert 90_000 < cloud.real_bill() <= 150_000
    assert cloud.state.ledger.spent(cloud.now_s) == cloud.real_bill()


@pytest.mark.parametrize("tick_late_s", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("budget", range(60_000, 66_000, 700))
def test_a_timer_that_is_late_does_not_break_the_budget(budget, tick_late_s):
    # The next second of a machine's life costs a thousand micro-dollars: a promise to the last one needs slack.
    def keeps_the_promise(cloud):
        ledger = cloud.state.ledger
        assert ledger.spent(cloud.now_s) + ledger.committed(cloud.now_s) <= budget

    FakeCloud(Simple(trials=2), World(tick_late_s=tick_late_s), budget=budget, check=keeps_the_promise).run()


def test_a_machine_is_not_rented_for_money_that_would_end_before_it_has_booted():
    """Guards against a machine that eats the last money without training, and against a budget that nobody watches:
    the moment at which the money ends had passed when the machine was rented, so no timer was set to it."""
    offer = replace(OFFER, boot_s=10.0)
    cloud = FakeCloud(Simple(), budget=41_000, offers=(offer,)).run()
    assert not cloud.boxes
    assert cloud.state.reason == "the budget leaves no room for another epoch"


def test_a_policy_without_jobs_ends_the_study():
    cloud = FakeCloud(only()).run()
    assert cloud.now_s == 0.0


# --- commands ---


def test_a_pause_saves_hands_back_and_a_resume_goes_on_where_it_was():
    cloud = FakeCloud(Simple(trials=2, total=2), commands=[(40.0, m.Pause()), (60.0, m.Resume())])
    cloud.run(until_s=59.0)
    assert cloud.state.phase == "paused"
    assert all(box.gone_s <= 51.0 for box in cloud.boxes.values())
    before = {trial.id: trial.epoch for trial in cloud.state.trials.values()}
    assert all(trial.state == "paused" for trial in cloud.state.trials.values())
    cloud.run()
    goes_on = {start.trial: start.from_epoch for at_s, start in cloud.of(m.StartGang) if at_s > 41.0}
    assert goes_on == before
    assert all(trial.state == "completed" for trial in cloud.state.trials.values())


def test_a_paused_study_waits_for_nobody_but_a_person():
    cloud = FakeCloud(Simple(), commands=[(40.0, m.Pause())]).run(until_s=60.0)
    assert cloud.state.phase == "paused"
    assert cloud.engine.wake_s() == float("inf")


def test_a_pause_that_is_taken_back_at_once_loses_no_epoch():
    cloud = FakeCloud(Simple(total=1), commands=[(35.0, m.Pause()), (36.0, m.Resume())]).run()
    epochs = [event.epoch for event in cloud.events if isinstance(event, m.Reported)]
    assert epochs == list(range(1, 10))


def test_a_stop_saves_what_trains_and_ends():
    cloud = FakeCloud(Simple(trials=2), commands=[(45.0, m.Stop())]).run()
    assert cloud.state.reason == "stopped by hand"
    # The epochs in progress were finished.
    assert [trial.epoch for trial in cloud.state.trials.values()] == [4, 4]
    assert 51.0 <= cloud.now_s < 70.0


def test_a_stop_does_not_wait_for_a_gang_that_hangs():
    cloud = FakeCloud(Simple(trials=2), World(hangs=1.0), commands=[(45.0, m.Stop())]).run()
    assert cloud.now_s < 45.0 + 60.0


def test_a_paused_study_can_be_stopped():
    cloud = FakeCloud(Simple(), commands=[(40.0, m.Pause()), (60.0, m.Stop())]).run()
    assert (cloud.state.phase, cloud.state.reason) == ("ended", "stopped by hand")


def test_an_ended_study_goes_on_when_money_was_added():
    cloud = FakeCloud(Simple(trials=2, total=2), budget=130_000).run()
    assert "budget" in cloud.state.reason
    before = [trial.epoch for trial in cloud.state.trials.values()]
    cloud._handle(m.SetBudget(budget=500_000))
    cloud._handle(m.Resume())
    cloud.run()
    assert max(before) < 9
    assert [trial.state for trial in cloud.state.trials.values()] == ["completed", "completed"]


def test_a_trial_is_stopped_by_hand_and_the_others_go_on():
    cloud = FakeCloud(Simple(trials=2, total=2), commands=[(45.0, m.StopTrial(trial=0))]).run()
    stopped, other = cloud.state.trials.values()
    assert (stopped.state, stopped.reason, stopped.epoch) == ("stopped", "stopped by hand", 4)
    assert other.state == "completed"


@pytest.mark.parametrize("command", [m.StopTrial(trial=99), m.Pin(trial=99), m.Resume(), m.SetBudget(budget=0)])
def test_a_command_that_makes_no_sense_does_no_harm(command):
    cloud = FakeCloud(Simple(total=1), commands=[(45.0, command)]).run()
    assert cloud.state.phase == "ended"
    assert cloud.state.trials[0].epoch >= 3


def test_a_pinned_trial_is_not_eliminated_until_it_is_let_go():
    verdict = only((0, 1, 9), verdicts=(m.Verdict(trial=0, reason="ranked last"),))
    engine = started(Engine(settings(), Switch(Simple(), 50.0, verdict)))
    draw(engine, 10.0)
    engine.handle(m.Pin(trial=0), 20.0)
    assert not of(engine.handle(reported(0, 1), 60.0), m.EndTrial)
    actions = engine.handle(m.Pin(trial=0, pinned=False), 61.0)
    assert of(actions, m.EndTrial) == [m.EndTrial(trial=0, state="stopped", reason="ranked last")]
    assert of(actions, m.StopGang) == [m.StopGang(gang=0, reason="ranked last")]


def test_the_budget_cannot_be_set_below_what_is_spent_and_committed():
    cloud = FakeCloud(Simple(), commands=[(40.0, m.SetBudget(budget=1))]).run(until_s=40.0)
    # 40 s have been lived, and the lease is 30 s.
    assert cloud.state.budget == 70_000
    assert cloud.run().state.reason == "the budget has come"
    assert cloud.now_s <= 40.0 + OFFER.release_s
    assert cloud.real_bill() <= 70_000


def test_a_deadline_moved_into_the_past_ends_the_study_at_once():
    cloud = FakeCloud(Simple(), commands=[(40.0, m.SetDeadline(deadline_s=20.0))]).run()
    assert cloud.state.reason == "the deadline has come"
    assert cloud.now_s <= 40.0 + OFFER.release_s


def test_a_deadline_that_moves_with_the_wall_clock_is_kept():
    cloud = FakeCloud(Simple(), commands=[(40.0, m.DeadlineMoved(deadline_s=100.0))], budget=10**9).run()
    assert 80.0 < cloud.now_s <= 100.0


def test_more_time_and_money_let_the_study_go_on():
    commands = [(100.0, m.SetDeadline(deadline_s=300.0)), (101.0, m.SetBudget(budget=10**9))]
    cloud = FakeCloud(Simple(), commands=commands, deadline_s=120.0, budget=140_000).run()
    assert 270.0 < cloud.now_s <= 300.0


# --- reports ---


def test_a_diverged_trial_is_stopped_and_is_never_the_best():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(reported(0, 1, 0.5), 21.0)
    actions = engine.handle(reported(0, 2, None), 31.0)
    assert of(actions, m.EndTrial)[0].reason == "diverged: its value was not finite at epoch 2"
    assert of(actions, m.StopGang)
    assert engine.state.best.best.epoch == 1


def test_the_better_is_what_the_mode_says():
    for mode, best in (("max", 3), ("min", 1)):
        engine = started(Engine(settings(mode=mode), Simple()))
        draw(engine, 10.0)
        for epoch, value in enumerate((0.2, 0.4, 0.6), 1):
            engine.handle(reported(0, epoch, value), 10.0 + 10 * epoch)
        assert engine.state.best.best.epoch == best


def test_only_what_is_stored_can_be_the_best():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(reported(0, 1, 0.5), 20.0)
    engine.handle(reported(0, 2, 0.9, checkpoint=None), 30.0)
    assert engine.state.best.best.epoch == 1
    assert (engine.state.trials[0].epoch, engine.state.trials[0].resume_epoch) == (2, 1)


def test_an_epoch_that_is_trained_again_counts_once_but_its_checkpoint_is_used():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(reported(0, 1, 0.5), 20.0)
    engine.handle(reported(0, 2, 0.9, checkpoint=None), 30.0)
    engine.handle(m.GangEnded(gang=0, outcome="lost", own_fault=False), 31.0)
    assert engine.state.gangs[1].from_epoch == 1
    engine.handle(reported(1, 2, 0.8), 42.0)
    trial = engine.state.trials[0]
    assert [(r.epoch, r.value) for r in trial.curve] == [(1, 0.5), (2, 0.9)]
    assert (trial.resume_epoch, trial.best.epoch, trial.best.checkpoint) == (2, 2, "there")


def test_a_report_of_a_gang_that_has_ended_is_not_taken_in():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(m.GangEnded(gang=0, outcome="lost", own_fault=False), 20.0)
    engine.handle(reported(0, 1), 21.0)
    assert engine.state.trials[0].epoch == 0


def test_fast_epochs_are_not_worth_a_decision_each():
    engine = started(Engine(settings(), Switch(Simple(), 15.0, only())))
    draw(engine, 10.0)
    assert not engine.handle(reported(0, 1, seconds=0.1), 20.0)
    assert of(engine.handle(reported(0, 2, seconds=1.0), 21.0), m.StopGang)


# --- gangs ---


def test_a_gang_is_resized_after_its_epoch_and_goes_on_from_there():
    cloud = FakeCloud(Switch(Simple(total=1), 35.0, only((0, 2, 9)))).run(until_s=75.0)
    (_, first), (at_s, second) = cloud.of(m.StartGang)
    assert (len(first.workers), len(second.workers)) == (1, 2)
    # It is asked for at the third report, at 41 s, and so acts after the fourth epoch.
    assert (second.from_epoch, second.checkpoint, at_s) == (4, "0/4", 51.0)
    assert [stop.reason for _, stop in cloud.of(m.StopGang)] == ["goes on with 2 workers"]


def test_a_gang_is_let_train_on_without_a_stop():
    cloud = FakeCloud(Switch(Simple(until=3, total=1), 25.0, only((0, 1, 9)))).run(until_s=110.0)
    assert [extend.until for _, extend in cloud.of(m.ExtendGang)] == [9]
    assert len(cloud.of(m.StartGang)) == 1
    assert cloud.state.trials[0].epoch == 9


def test_a_gang_without_a_job_is_saved_and_paused():
    cloud = FakeCloud(Switch(Simple(total=1), 20.5, only(workers=1))).run(until_s=35.0)
    assert (cloud.state.trials[0].state, cloud.state.trials[0].resume_epoch) == ("paused", 2)


def test_a_large_gang_is_not_starved_by_small_jobs_behind_it():
    policy = only((None, 2, 9), (None, 1, 9))
    engine = started(Engine(settings(), policy), machines=1)
    draw(engine, 12.0, 2)
    assert not engine.state.gangs
    engine.handle(m.MachineReady(machine=1, boot_s=13.0), 13.0)
    assert [gang.parallelism for gang in engine.state.gangs.values()] == [2]


def test_a_gang_that_the_money_never_pays_for_is_started_smaller():
    """Guards against machines that wait, paid and idle, for others that cannot be afforded."""
    # Two machines are affordable, not four.
    offer = replace(OFFER, boot_s=10.0)
    cloud = FakeCloud(Simple(p=4, total=1), World(epoch_s=4.0), offers=(offer,), budget=120_000).run()
    assert len(cloud.boxes) == 2
    assert {len(start.workers) for _, start in cloud.of(m.StartGang)} == {2}
    assert cloud.state.trials[0].epoch > 3


def test_a_gang_that_is_larger_than_the_quota_is_started_smaller():
    cloud = FakeCloud(Simple(p=4, total=1), offers=(replace(OFFER, max_machines=2),)).run()
    assert [len(start.workers) for _, start in cloud.of(m.StartGang)] == [2]


# --- faults of trials ---


def test_a_trial_whose_function_raises_failed_with_its_traceback():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    error = 'Traceback ...\n  File "x.py"\nRuntimeError: boom'
    (end,) = of(engine.handle(m.GangEnded(gang=0, outcome="failed", error=error), 20.0), m.EndTrial)
    assert end == m.EndTrial(trial=0, state="failed", reason="RuntimeError: boom", error=error)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_trial_that_loses_its_workers_is_tried_again_so_often_and_no_more(retries):
    engine = started(Engine(settings(retries=retries), Simple(total=1)))
    draw(engine, 10.0)
    for gang in range(retries + 1):
        assert engine.state.trials[0].state == "running"
        engine.handle(m.GangEnded(gang=gang, outcome="lost", own_fault=False), 20.0 + gang)
    trial = engine.state.trials[0]
    assert (trial.state, trial.reason) == ("failed", f"lost its workers {retries + 1} times after epoch 0")
    assert engine.state.n_gangs == retries + 1


def test_a_report_forgives_the_losses_before_it():
    engine = started(Engine(settings(retries=1), Simple(total=1)))
    draw(engine, 10.0)
    for gang in range(5):
        engine.handle(reported(gang, gang + 1), 20.0 + 10 * gang)
        engine.handle(m.GangEnded(gang=gang, outcome="lost", own_fault=False), 21.0 + 10 * gang)
    assert engine.state.trials[0].state == "running"
    assert engine.state.gangs[5].from_epoch == 5


def test_a_worker_that_the_function_ended_is_not_tried_again():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(m.GangEnded(gang=0, outcome="lost", own_fault=True, error="exit code 1"), 20.0)
    assert engine.state.trials[0].state == "failed"


def test_a_function_that_returns_early_completes_its_trial_if_it_reported():
    for epochs, state in ((0, "failed"), (2, "completed")):
        engine = started(Engine(settings(), Simple()))
        draw(engine, 10.0)
        for epoch in range(1, epochs + 1):
            engine.handle(reported(0, epoch), 10.0 + 10 * epoch)
        engine.handle(m.GangEnded(gang=0, outcome="returned"), 50.0)
        assert engine.state.trials[0].state == state


def test_first_trials_that_all_fail_alike_end_the_study():
    cloud = FakeCloud(Simple(trials=2), World(raises=1.0)).run()
    assert cloud.state.failed
    assert cloud.state.reason == "the first 3 trials all failed alike: RuntimeError: boom"
    assert all(box.gone_s is not None for box in cloud.boxes.values())


def test_first_trials_that_fail_differently_do_not_end_the_study():
    engine = started(Engine(settings(), Simple()))
    for number in range(4):
        draw(engine, 10.0 + number)
        engine.handle(m.GangEnded(gang=number, outcome="failed", error=f"Error{'ABCD'[number]}"), 10.5 + number)
    assert engine.state.phase == "running"


def test_failures_alike_do_not_end_a_study_in_which_a_trial_trains_well():
    """Guards against ending a study for three configurations that do not fit into memory, say, while one trains."""
    engine = started(Engine(settings(), Simple(trials=2)), machines=2)
    draw(engine, 10.0, 2)
    engine.handle(reported(0, 1), 20.0)
    for gang in range(1, 4):
        engine.handle(m.GangEnded(gang=gang, outcome="failed", error="OutOfMemoryError"), 20.0 + gang)
        draw(engine, 20.5 + gang)
    assert engine.state.phase == "running"


def test_a_function_that_cannot_be_loaded_ends_the_study():
    engine = started(Engine(settings(), Simple()))
    engine.handle(m.WorkerFailed(worker="0.0", error="ImportError: no module named x"), 11.0)
    assert engine.state.failed
    assert engine.state.reason == "a worker could not load the training function: ImportError: no module named x"


# --- silence ---


def test_a_gang_that_hangs_is_given_up_and_its_machine_goes():
    cloud = FakeCloud(Simple(total=1), World(hangs=0.3), report_timeout_s=50.0).run()
    (abandoned_s, abandon), *_ = cloud.of(m.AbandonGang)
    assert abandon.reason == "hung: no report for 50 s"
    heard_s = max(at_s for at_s, event, _ in cloud.log if isinstance(event, m.Reported) and at_s < abandoned_s)
    assert abandoned_s == pytest.approx(heard_s + 50.0)
    retired = [action for at_s, action in cloud.of(m.Retire) if at_s == abandoned_s]
    assert [action.force for action in retired] == [True]
    assert cloud.state.trials[0].state == "failed"


def test_patience_grows_with_the_epochs():
    engine = started(Engine(settings(deadline_s=1e6, budget=10**12), Simple()))
    draw(engine, 10.0)
    # A set-up of 5 s belongs to what is usual.
    engine.handle(reported(0, 1, seconds=100.0), 115.0)
    assert not of(engine.handle(m.Ticked(), 1164.0), m.AbandonGang)
    assert of(engine.handle(m.Ticked(), 1166.0), m.AbandonGang)


def test_a_long_first_epoch_is_not_taken_for_a_hung_one():
    """Guards against failing every trial whose epochs take longer than a minute, before one was ever seen."""
    cloud = FakeCloud(Simple(total=1), World(epoch_s=300.0), deadline_s=3600.0, budget=10**9).run()
    assert cloud.state.trials[0].state == "completed"
    assert not cloud.of(m.AbandonGang)


def test_a_first_epoch_that_never_ends_is_given_up_after_half_of_the_deadline():
    cloud = FakeCloud(Simple(total=1), World(hangs=1.0), deadline_s=600.0, budget=10**9).run()
    ((at_s, _),) = cloud.of(m.AbandonGang)
    assert at_s == 10.0 + 300.0


def test_a_hung_gang_is_given_up_even_if_another_event_comes_when_it_is_due():
    """Guards against an alarm that nobody hears: an event that came just after it took the place of the tick."""
    engine = started(Engine(settings(report_timeout_s=50.0), Simple(trials=2)), machines=2)
    draw(engine, 10.0, 2)
    engine.handle(m.Ticked(), 59.0)
    assert engine.wake_s() == 60.0
    actions = engine.handle(reported(1, 1), 60.001)
    assert [abandon.gang for abandon in of(actions, m.AbandonGang)] == [0]


# --- faults of machines ---


def test_machines_that_do_not_boot_are_tried_again_ever_later_and_end_the_study():
    cloud = FakeCloud(Simple(), World(no_boot=1.0)).run()
    assert cloud.state.failed
    assert cloud.state.reason == f"{BOOT_FAILURES} machines in a row did not boot: no capacity"
    rented_s = [at_s for at_s, _ in cloud.of(m.Rent)]
    waits = [later - sooner - 5.0 for sooner, later in pairwise(rented_s)]
    assert waits == pytest.approx([2.0, 4.0, 8.0])


def test_machines_that_boot_for_ever_are_given_up_and_end_the_study():
    """Guards against renting such machines again and again until the money is gone."""
    offer = replace(OFFER, boot_timeout_s=60.0)
    cloud = FakeCloud(Simple(), World(no_word=1.0), offers=(offer,), deadline_s=10_000.0, budget=10**9).run()
    assert len(cloud.boxes) == BOOT_FAILURES
    assert [retire.reason for _, retire in cloud.of(m.Retire)] == ["did not boot within 60 s"] * BOOT_FAILURES
    assert cloud.state.failed


def test_a_study_goes_on_with_the_machines_that_a_quota_allows():
    """Guards against ending a study because its cloud gives fewer machines than the plan asked for at once."""
    world = World(no_boot=0.7, seed=5)
    assert sum(world.chance("no boot", n) < world.no_boot for n in range(8)) >= BOOT_FAILURES
    assert any(world.chance("no boot", n) >= world.no_boot for n in range(8))
    cloud = FakeCloud(Simple(trials=8, total=4), world, max_workers=8).run()
    assert not cloud.state.failed
    assert [trial.state for trial in cloud.state.trials.values()] == ["completed"] * 4


def test_a_machine_that_was_handed_back_while_it_booted_is_no_failure():
    policy = Switch(Simple(trials=4), 5.0, Simple(trials=1))
    cloud = FakeCloud(policy, commands=[(5.0, m.Pin(trial=9))]).run(until_s=20.0)
    assert len(cloud.of(m.Retire)) == 3
    assert cloud.state.boot_failures == 0


def test_a_machine_that_trained_and_was_lost_is_no_boot_failure():
    """Guards against ending a study for the loss of a machine, after others could not be had beside it."""
    engine = started(Engine(settings(budget=10**9, max_workers=8), Simple(trials=8)))
    draw(engine, 10.0)
    for machine in range(1, 8):
        engine.handle(m.MachineEnded(machine=machine, expected=False, reason="no capacity"), 11.0)
    assert engine.state.boot_failures >= BOOT_FAILURES
    engine.handle(m.MachineEnded(machine=0, expected=False, reason="spot"), 12.0)
    assert engine.state.phase == "running"


def test_a_lost_machine_is_replaced_and_its_trial_goes_on():
    cloud = FakeCloud(Simple(total=1)).run(until_s=45.0)
    cloud._end_machine(0, "spot")
    cloud.run()
    starts = [start for _, start in cloud.of(m.StartGang)]
    assert [start.from_epoch for start in starts] == [0, 3]
    assert cloud.state.machines[0].reason == "spot"
    assert cloud.state.trials[0].state == "completed"


def test_busy_machines_are_not_handed_back_for_being_too_many():
    policy = Switch(Simple(trials=2, total=2), 20.5, only((0, 1, 9)))
    cloud = FakeCloud(policy, budget=10**9).run(until_s=60.0)
    # The plan changes at the first report, at 21 s, while the second gang is in its second epoch.
    # It is kept for half of the 10 s of a boot, for it may be needed again.
    assert [(at_s, retire.machine) for at_s, retire in cloud.of(m.Retire)] == [(pytest.approx(36.0), 1)]


@dataclass(frozen=True)
class Moody:
    """Wants another machine at every second look."""

    def decide(self, snapshot):
        plan = Simple(total=1).decide(snapshot)
        odd = len(snapshot.trials) and round(snapshot.now_s) % 20 < 10
        return replace(plan, workers=plan.workers + 1) if odd and plan.jobs else plan


def test_a_plan_that_changes_its_mind_does_not_rent_and_hand_back_each_time():
    """Guards against paying for boots, or for a minimum, of machines that go before they have trained."""
    cloud = FakeCloud(Moody(), World(boot_s=40.0), budget=10**9, offers=(replace(OFFER, boot_s=40.0),)).run()
    assert len(cloud.boxes) <= 3


def test_an_idle_machine_is_kept_as_long_as_it_is_paid_for():
    offer = replace(OFFER, billing=BillingRule(minimum_s=80), release_s=1.0)
    cloud = FakeCloud(Switch(Simple(trials=2, total=2), 20.5, only((0, 1, 9))), offers=(offer,), budget=10**9)
    cloud.run(until_s=90.0)
    # Its minimum ends at 80 s; a lease before that it would begin to commit more.
    assert [(at_s, retire.machine) for at_s, retire in cloud.of(m.Retire)] == [(pytest.approx(49.0), 1)]


def test_money_that_is_scarce_is_not_for_idle_machines():
    cloud = FakeCloud(Switch(Simple(trials=2, total=2), 20.5, only((0, 1, 9))), budget=200_000).run(until_s=60.0)
    assert [(at_s, retire.machine) for at_s, retire in cloud.of(m.Retire)] == [(pytest.approx(31.0), 1)]


def test_a_retiring_machine_still_fills_its_place():
    offer = replace(OFFER, max_machines=1)
    wants = only((None, 1, 9))
    engine = Engine(settings(offers=(offer,)), Switch(wants, 5.0, Switch(only((None, 1, 9), workers=0), 6.0, wants)))
    engine.handle(m.Began(settings=engine.state.settings), 0.0)
    assert of(engine.handle(m.RunnerStarted(), 0.0), m.Rent)
    assert of(engine.handle(m.Pin(trial=0), 5.0), m.Retire)
    assert not of(engine.handle(m.Pin(trial=0), 6.0), m.Rent)
    assert of(engine.handle(m.MachineEnded(machine=0, expected=True), 7.0), m.Rent)


# --- a lost runner ---


def test_after_a_lost_runner_trials_go_on_from_what_was_stored_on_new_machines():
    cloud = FakeCloud(Simple(total=1), World(store_every=2), commands=[(57.0, 100.0)]).run()
    starts = [start for _, start in cloud.of(m.StartGang)]
    # At 57 s four epochs were reported; the last stored was the fourth.
    assert [(start.from_epoch, start.workers) for start in starts] == [(0, ("0.0",)), (4, ("1.0",))]
    assert cloud.state.trials[0].state == "completed"
    assert cloud.state.machines[0].reason == "its runner died"


@pytest.mark.parametrize("unseen_s", [0.0, 5.0, 25.0, 1000.0])
@pytest.mark.parametrize("died_s", [51.0, 57.0, 60.9])
def test_what_machines_lived_without_a_runner_is_billed(died_s, unseen_s):
    """Guards against forgetting the time between the last record and the runner's death, on top of the lease."""
    cloud = FakeCloud(Simple(total=1), commands=[(died_s, unseen_s)]).run(until_s=died_s)
    bill = cloud.state.ledger.bill(0, cloud.now_s)
    lived_s = cloud.boxes[0].gone_s
    assert lived_s * 1000 <= bill <= (lived_s + 10.0 + 1.0) * 1000
    assert bill <= (died_s + 10.0 + 30.0 + 1.0) * 1000


def test_a_machine_that_was_told_to_go_before_its_runner_died_is_billed_no_lease_from_there():
    cloud = FakeCloud(Simple(total=1), budget=100_000, commands=[(68.5, 1000.0)])
    cloud.run(until_s=68.5)
    assert cloud.of(m.Retire)
    assert cloud.state.ledger.spent(cloud.now_s) <= 100_000


def test_something_is_recorded_every_third_of_a_lease():
    cloud = FakeCloud(Simple(), World(epoch_s=100.0), lease_s=60.0).run()
    times = [at_s for at_s, _, _ in cloud.log]
    assert max(later - sooner for sooner, later in pairwise(times)) <= 20.0


def test_what_a_lost_runner_had_asked_the_sampler_for_is_asked_again():
    """Guards against waiting for ever for a configuration that nobody draws."""
    engine = started(Engine(settings(), Simple()))
    assert engine.state.draws_pending == 1
    engine.handle(m.RunnerStarted(unseen_s=5.0), 20.0)
    (rent,) = engine.state.live
    assert of(engine.handle(m.MachineReady(machine=rent, boot_s=5.0), 25.0), m.Draw)[0].count == 1


def test_no_more_is_drawn_than_there_are_workers_for():
    engine = started(Engine(settings(), Simple(trials=2)), machines=1)
    actions = engine.handle(m.MachineReady(machine=1, boot_s=11.0), 11.0)
    assert engine.state.draws_pending == 2
    assert of(actions, m.Draw)[0].count == 1


def test_a_study_that_was_ending_when_its_runner_died_ends():
    cloud = FakeCloud(Simple(), commands=[(45.0, m.Stop()), (46.0, 5.0)]).run()
    assert cloud.state.phase == "ended"
    assert cloud.now_s <= 46.0


def test_a_study_that_was_pausing_when_its_runner_died_is_paused():
    cloud = FakeCloud(Simple(), commands=[(45.0, m.Pause()), (46.0, 5.0)]).run(until_s=46.0)
    assert cloud.state.phase == "paused"
    assert cloud.run().state.phase == "ended"


# --- what is written down ---


def test_a_plan_is_noted_when_its_words_change_and_not_more_often_than_once_a_second():
    cloud = FakeCloud(Simple(total=4)).run()
    assert [note.reason for _, note in cloud.of(m.Note)] == ["as it comes"]


def test_the_engine_never_asks_to_be_called_in_the_past():
    def later(cloud):
        assert cloud.engine.wake_s() > cloud.state.now_s

    FakeCloud(Simple(trials=2), World(hangs=0.05, life_s=200.0, spread=0.5), check=later).run()
