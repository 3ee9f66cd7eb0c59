"""The engine under faults: failing trials, hung gangs, machines that are lost or do not boot, and a lost runner."""

from itertools import pairwise

import pytest
from msgspec.structs import replace

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.core.failure_rules import BOOT_FAILURES
from seer_nb.core.money import BillingRule
from tests.support.fake_cloud import FakeCloud, Restart, World
from tests.support.records import OFFER, settings
from tests.support.small_engine import Moody, Simple, Switch, draw, of, only, reported, started

# --- faults of trials ---


def test_trial_whose_function_raises_fails_with_its_traceback():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    error = 'Traceback ...\n  File "x.py"\nRuntimeError: boom'
    (end,) = of(engine.handle(core.GangEnded(gang=0, outcome="failed", error=error), 20.0), core.EndTrial)
    assert end == core.EndTrial(trial=0, state="failed", reason="RuntimeError: boom", error=error)


def test_function_that_returns_early_completes_its_trial_if_it_reported():
    for epochs, state in ((0, "failed"), (2, "completed")):
        engine = started(Engine(settings(), Simple()))
        draw(engine, 10.0)
        for epoch in range(1, epochs + 1):
            engine.handle(reported(0, epoch), 10.0 + 10 * epoch)
        engine.handle(core.GangEnded(gang=0, outcome="returned"), 50.0)
        assert engine.state.trials[0].state == state


def test_first_trials_that_fail_with_the_same_error_end_the_study():
    cloud = FakeCloud(Simple(trials=2), World(raises=1.0)).run()
    assert cloud.state.failed
    assert cloud.state.reason == "the first 3 trials all failed with the same error: RuntimeError: boom"
    assert all(box.ended_s is not None for box in cloud.machines.values())


def test_failures_that_count_as_results_do_not_end_the_study():
    cloud = FakeCloud(Simple(trials=2, total=6), World(raises=1.0), keeps_failures=True).run()
    assert not cloud.state.failed
    assert [trial.state for trial in cloud.state.trials.values()] == ["failed"] * 6


def test_first_trials_that_fail_with_different_errors_do_not_end_the_study():
    engine = started(Engine(settings(), Simple()))
    for number in range(4):
        draw(engine, 10.0 + number)
        engine.handle(core.GangEnded(gang=number, outcome="failed", error=f"Error{'ABCD'[number]}"), 10.5 + number)
    assert engine.state.phase == "running"


def test_equal_failures_do_not_end_a_study_in_which_a_trial_has_reported():
    """Guards against ending a study because three configurations do not fit into memory while another one trains."""
    engine = started(Engine(settings(), Simple(trials=2)), machines=2)
    draw(engine, 10.0, 2)
    engine.handle(reported(0, 1), 20.0)
    for gang in range(1, 4):
        engine.handle(core.GangEnded(gang=gang, outcome="failed", error="OutOfMemoryError"), 20.0 + gang)
        draw(engine, 20.5 + gang)
    assert engine.state.phase == "running"


def test_function_that_cannot_be_loaded_ends_the_study():
    engine = started(Engine(settings(), Simple()))
    engine.handle(core.WorkerFailed(worker="0.0", error="ImportError: no module named x"), 11.0)
    assert engine.state.failed
    assert engine.state.reason == "a worker could not load the training function: ImportError: no module named x"


TWICE = 'Traceback ...\n  File "x.py"\nRuntimeError: twice in epoch'


def ended_after(fates, **changes):
    """Return the state after trials that each report an epoch (except "mute") and end as `fates` gives."""
    engine = started(Engine(settings(retries=0, **changes), Simple(trials=1, total=len(fates), until=2)))
    for gang, fate in enumerate(fates):
        at_s = 20.0 + 20 * gang
        draw(engine, at_s)
        if fate != "mute":
            engine.handle(reported(gang, 1), at_s + 1)
        if fate == "completed":
            engine.handle(reported(gang, 2), at_s + 2)
            engine.handle(core.GangEnded(gang=gang, outcome="target"), at_s + 3)
        elif fate == "ruled out":
            engine.handle(core.StopTrial(trial=gang), at_s + 2)
            engine.handle(core.GangEnded(gang=gang, outcome="stopped"), at_s + 3)
        else:
            engine.handle(core.GangEnded(gang=gang, outcome="failed", error=f"{TWICE} {gang}"), at_s + 3)
    return engine.state


@pytest.mark.parametrize(
    ("fates", "failed", "reason"),
    [
        (["raises", "raises"], True, "all 2 trials failed, the last with RuntimeError: twice in epoch 1"),
        (
            ["ruled out", "raises", "raises", "ruled out"],
            True,
            "no trial completed: 2 of 4 failed, the last with RuntimeError: twice in epoch 2",
        ),
        (
            ["raises", "ruled out", "ruled out"],
            False,
            "no trial completed: 1 of 3 failed, the last with RuntimeError: twice in epoch 0",
        ),
        (["ruled out", "ruled out"], False, None),
        (["raises", "raises", "completed"], False, None),
        (["mute", "mute"], True, "no trial has reported, and 2 failed, the last with RuntimeError: twice in epoch 1"),
    ],
)
def test_study_fails_when_its_trials_failed_after_reports(fates, failed, reason):
    """Guards against an end without failure when the function reports twice per epoch, so that every trial fails."""
    state = ended_after(fates)
    assert state.phase in {"ending", "ended"}
    assert state.failed == failed
    assert state.reason == (reason or "as it comes")


def test_study_whose_failures_count_as_results_does_not_fail():
    state = ended_after(["raises", "raises"], keeps_failures=True)
    assert (state.failed, state.reason) == (False, "as it comes")


@pytest.mark.parametrize(
    ("fate", "failed", "reason"),
    [
        ("failed", True, "all 1 trials failed, the last with RuntimeError: twice in epoch 0"),
        ("lost", False, "the deadline was reached"),
    ],
)
def test_limit_does_not_hide_that_all_trials_failed(fate, failed, reason):
    """Guards against success at the deadline although no trial completed; a paused trial might have completed."""
    engine = started(Engine(settings(retries=1), Simple(trials=1, total=2)))
    draw(engine, 20.0)
    engine.handle(reported(0, 1), 21.0)
    engine.handle(core.GangEnded(gang=0, outcome=fate, error=f"{TWICE} 0", own_fault=False), 23.0)
    engine.handle(core.SetDeadline(deadline_s=20.0), 24.0)
    assert (engine.state.failed, engine.state.reason) == (failed, reason)


# --- hung gangs ---


def test_hung_gang_is_abandoned_and_its_machine_is_retired():
    cloud = FakeCloud(Simple(total=1), World(hangs=0.3), report_timeout_s=50.0).run()
    (abandoned_s, abandon), *_ = cloud.of(core.AbandonGang)
    assert abandon.reason == "hung: no report for 50 s"
    heard_s = max(at_s for at_s, event, _ in cloud.log if isinstance(event, core.Reported) and at_s < abandoned_s)
    assert abandoned_s == pytest.approx(heard_s + 50.0)
    retired = [action for at_s, action in cloud.of(core.Retire) if at_s == abandoned_s]
    assert [action.force for action in retired] == [True]
    assert cloud.state.trials[0].state == "failed"


def test_hang_timeout_grows_with_the_epoch_time():
    engine = started(Engine(settings(deadline_s=1e6, budget_micro=10**12), Simple()))
    draw(engine, 10.0)
    # The timeout includes the usual set-up of 5 s.
    engine.handle(reported(0, 1, seconds=100.0), 115.0)
    assert not of(engine.handle(core.Ticked(), 1164.0), core.AbandonGang)
    assert of(engine.handle(core.Ticked(), 1166.0), core.AbandonGang)


def test_gang_with_a_long_first_epoch_is_not_hung():
    """Guards against failing every trial whose epochs take longer than a minute before any epoch is measured."""
    cloud = FakeCloud(Simple(total=1), World(epoch_s=300.0), deadline_s=3600.0, budget_micro=10**9).run()
    assert cloud.state.trials[0].state == "completed"
    assert not cloud.of(core.AbandonGang)


def test_gang_without_any_epoch_is_hung_after_half_the_deadline():
    cloud = FakeCloud(Simple(total=1), World(hangs=1.0), deadline_s=600.0, budget_micro=10**9).run()
    ((at_s, _),) = cloud.of(core.AbandonGang)
    assert at_s == 10.0 + 300.0


def test_hung_gang_is_abandoned_when_another_event_replaces_the_tick():
    """Guards against a missed timeout: an event that arrives just after the due time replaces the tick."""
    engine = started(Engine(settings(report_timeout_s=50.0), Simple(trials=2)), machines=2)
    draw(engine, 10.0, 2)
    engine.handle(core.Ticked(), 59.0)
    assert engine.next_call_s() == 60.0
    actions = engine.handle(reported(1, 1), 60.001)
    assert [abandon.gang for abandon in of(actions, core.AbandonGang)] == [0]


def test_gang_is_not_hung_while_no_message_could_arrive():
    engine = started(Engine(settings(report_timeout_s=50.0), Simple()))
    draw(engine, 10.0)
    engine.reset_silence_timers(200.0)
    assert not of(engine.handle(core.Ticked(), 249.0), core.AbandonGang)
    assert engine.next_call_s() == 250.0
    assert of(engine.handle(core.Ticked(), 250.0), core.AbandonGang)


def test_unreported_epoch_of_an_earlier_gang_counts_with_its_parallelism():
    engine = started(Engine(settings(), Simple()))
    draw(engine, 10.0)
    engine.handle(replace(reported(0, 1, seconds=60.0), parallelism=4), 11.0)
    (report,) = engine.state.trials[0].curve
    assert report.parallelism == 4
    assert engine.state.speed.measurements.together.keys() == {4}
    assert engine.state.speed.measurements.stalls == []


# --- faults of machines ---


def test_machines_that_do_not_boot_are_retried_with_backoff_and_end_the_study():
    cloud = FakeCloud(Simple(), World(boot_failure=1.0)).run()
    assert cloud.state.failed
    assert cloud.state.reason == f"{BOOT_FAILURES} machines in a row did not boot: no capacity"
    rented_s = [at_s for at_s, _ in cloud.of(core.Rent)]
    waits = [later - sooner - 5.0 for sooner, later in pairwise(rented_s)]
    assert waits == pytest.approx([2.0, 4.0, 8.0])


def test_machines_that_boot_forever_are_retired_and_end_the_study():
    """Guards against renting such machines repeatedly until the money is gone."""
    offer = replace(OFFER, boot_timeout_s=60.0)
    cloud = FakeCloud(Simple(), World(never_boots=1.0), offers=(offer,), deadline_s=10_000.0, budget_micro=10**9).run()
    assert len(cloud.machines) == BOOT_FAILURES
    assert [retire.reason for _, retire in cloud.of(core.Retire)] == ["did not boot within 60 s"] * BOOT_FAILURES
    assert cloud.state.failed


def test_study_continues_on_the_machines_that_a_quota_allows():
    """Guards against ending a study because its cloud provides fewer machines than the plan wants at once."""
    world = World(boot_failure=0.7, seed=5)
    assert sum(world.random("no boot", n) < world.boot_failure for n in range(8)) >= BOOT_FAILURES
    assert any(world.random("no boot", n) >= world.boot_failure for n in range(8))
    cloud = FakeCloud(Simple(trials=8, total=4), world, max_workers=8).run()
    assert not cloud.state.failed
    assert [trial.state for trial in cloud.state.trials.values()] == ["completed"] * 4


def test_machine_retired_while_booting_is_no_boot_failure():
    policy = Switch(Simple(trials=4), 5.0, Simple(trials=1))
    cloud = FakeCloud(policy, commands=[(5.0, core.Pin(trial=9))]).run(until_s=20.0)
    assert len(cloud.of(core.Retire)) == 3
    assert cloud.state.boot_failures == 0


def test_lost_machine_that_had_booted_is_no_boot_failure():
    """Guards against ending a study because a machine was lost after others had been unavailable."""
    engine = started(Engine(settings(budget_micro=10**9, max_workers=8), Simple(trials=8)))
    draw(engine, 10.0)
    for machine in range(1, 8):
        engine.handle(core.MachineEnded(machine=machine, expected=False, reason="no capacity"), 11.0)
    assert engine.state.boot_failures >= BOOT_FAILURES
    engine.handle(core.MachineEnded(machine=0, expected=False, reason="spot"), 12.0)
    assert engine.state.phase == "running"


def test_lost_machine_is_replaced_and_its_trial_continues():
    cloud = FakeCloud(Simple(total=1)).run(until_s=45.0)
    cloud.end_machine(0, "spot")
    cloud.run()
    starts = [start for _, start in cloud.of(core.StartGang)]
    assert [start.from_epoch for start in starts] == [0, 3]
    assert cloud.state.machines[0].reason == "spot"
    assert cloud.state.trials[0].state == "completed"


def test_surplus_machine_is_not_retired_while_it_is_in_use():
    policy = Switch(Simple(trials=2, total=2), 20.5, only((0, 1, 9)))
    cloud = FakeCloud(policy, budget_micro=10**9).run(until_s=60.0)
    # The plan changes at the first report, at 21 s, while the second gang is in its second epoch.
    # The machine is kept for half a boot time of 10 s, because it may be needed again.
    assert [(at_s, retire.machine) for at_s, retire in cloud.of(core.Retire)] == [(pytest.approx(36.0), 1)]


def test_alternating_plans_do_not_rent_and_retire_each_time():
    """Guards against paying boots or billing minimums of machines that are retired before they train."""
    cloud = FakeCloud(Moody(), World(boot_s=40.0), budget_micro=10**9, offers=(replace(OFFER, boot_s=40.0),)).run()
    assert len(cloud.machines) <= 3


def test_idle_machine_is_kept_as_long_as_it_is_paid_for():
    offer = replace(OFFER, billing=BillingRule(minimum_s=80), release_s=1.0)
    cloud = FakeCloud(Switch(Simple(trials=2, total=2), 20.5, only((0, 1, 9))), offers=(offer,), budget_micro=10**9)
    cloud.run(until_s=90.0)
    # Its billing minimum ends at 80 s; from one lease before that time, it would commit more.
    assert [(at_s, retire.machine) for at_s, retire in cloud.of(core.Retire)] == [(pytest.approx(49.0), 1)]


def test_idle_machine_is_retired_at_once_when_money_is_scarce():
    cloud = FakeCloud(Switch(Simple(trials=2, total=2), 20.5, only((0, 1, 9))), budget_micro=200_000).run(until_s=60.0)
    assert [(at_s, retire.machine) for at_s, retire in cloud.of(core.Retire)] == [(pytest.approx(31.0), 1)]


def test_retiring_machine_counts_against_the_quota():
    offer = replace(OFFER, max_machines=1)
    wants = only((None, 1, 9))
    engine = Engine(settings(offers=(offer,)), Switch(wants, 5.0, Switch(only((None, 1, 9), workers=0), 6.0, wants)))
    engine.handle(core.Began(settings=engine.state.settings), 0.0)
    assert of(engine.handle(core.RunnerStarted(), 0.0), core.Rent)
    assert of(engine.handle(core.Pin(trial=0), 5.0), core.Retire)
    assert not of(engine.handle(core.Pin(trial=0), 6.0), core.Rent)
    assert of(engine.handle(core.MachineEnded(machine=0, expected=True), 7.0), core.Rent)


# --- a lost runner ---


def test_after_a_lost_runner_trials_resume_from_checkpoints_on_new_machines():
    cloud = FakeCloud(Simple(total=1), World(store_every=2), commands=[(57.0, Restart(100.0))]).run()
    starts = [start for _, start in cloud.of(core.StartGang)]
    # At 57 s, four epochs were reported, and the fourth one was stored.
    assert [(start.from_epoch, start.workers) for start in starts] == [(0, ("0.0",)), (4, ("1.0",))]
    assert cloud.state.trials[0].state == "completed"
    assert cloud.state.machines[0].reason == "its runner died"


@pytest.mark.parametrize("unseen_s", [0.0, 5.0, 25.0, 1000.0])
@pytest.mark.parametrize("died_s", [51.0, 57.0, 60.9])
def test_time_that_machines_lived_without_a_runner_is_billed(died_s, unseen_s):
    """Guards against ignoring the time between the last record and the runner's death, besides the lease."""
    cloud = FakeCloud(Simple(total=1), commands=[(died_s, Restart(unseen_s))]).run(until_s=died_s)
    bill = cloud.state.ledger.bill(0, cloud.now_s)
    lived_s = cloud.machines[0].ended_s
    assert lived_s * 1000 <= bill <= (lived_s + 10.0 + 1.0) * 1000
    assert bill <= (died_s + 10.0 + 30.0 + 1.0) * 1000


def test_machine_retired_before_its_runner_died_is_billed_no_further_lease():
    cloud = FakeCloud(Simple(total=1), budget_micro=100_000, commands=[(68.5, Restart(1000.0))])
    cloud.run(until_s=68.5)
    assert cloud.of(core.Retire)
    assert cloud.state.ledger.spent_micro(cloud.now_s) <= 100_000


def test_slow_start_of_a_runner_does_not_raise_earlier_bills():
    engine = started(Engine(settings(), Simple()))
    engine.handle(core.Ticked(), 20.0)
    engine.handle(core.RunnerStarted(unseen_s=2.0), 25.0)
    assert engine.state.ledger.bill(0, 25.0) == 22_000


def test_a_record_is_written_at_least_every_third_of_a_lease():
    cloud = FakeCloud(Simple(), World(epoch_s=100.0), lease_s=60.0).run()
    times = [at_s for at_s, _, _ in cloud.log]
    assert max(later - sooner for sooner, later in pairwise(times)) <= 20.0


def test_draw_that_a_lost_runner_requested_is_requested_again():
    """Guards against waiting forever for a configuration that is never drawn."""
    engine = started(Engine(settings(), Simple()))
    assert engine.state.pending_draws == 1
    engine.handle(core.RunnerStarted(unseen_s=5.0), 20.0)
    (rent,) = engine.state.live_machines
    assert of(engine.handle(core.MachineReady(machine=rent, boot_s=5.0), 25.0), core.Draw)[0].count == 1


def test_no_more_configurations_are_drawn_than_workers_are_free():
    engine = started(Engine(settings(), Simple(trials=2)), machines=1)
    actions = engine.handle(core.MachineReady(machine=1, boot_s=11.0), 11.0)
    assert engine.state.pending_draws == 2
    assert of(actions, core.Draw)[0].count == 1


def test_study_that_was_ending_when_its_runner_died_ends():
    cloud = FakeCloud(Simple(), commands=[(45.0, core.Stop()), (46.0, Restart(5.0))]).run()
    assert cloud.state.phase == "ended"
    assert cloud.now_s <= 46.0


def test_study_that_was_pausing_when_its_runner_died_is_paused():
    cloud = FakeCloud(Simple(), commands=[(45.0, core.Pause()), (46.0, Restart(5.0))]).run(until_s=46.0)
    assert cloud.state.phase == "paused"
    assert cloud.run().state.phase == "ended"


# --- policies that fail ---


class Raising:
    def __init__(self, error=None, **plan):
        self.error, self.plan = error, plan

    def decide(self, view):
        if not view.trials:
            return core.Plan(jobs=(core.Job(trial=None, until=9),), workers=1)
        if self.error is not None:
            raise self.error
        return core.Plan(**self.plan) if self.plan else None


def a_job(**changes):
    return {"jobs": (core.Job(**{"trial": 0, "until": 9, **changes}),)}


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (Raising(KeyError("loss")), "KeyError: 'loss'"),
        (Raising(RuntimeError("no\nidea")), "RuntimeError: no"),
        (Raising(SystemExit(3)), "SystemExit: 3"),
        (Raising(), "TypeError: decide() returned None; expected a Plan"),
        (Raising(jobs=None), "TypeError: 'NoneType' object is not iterable"),
        (
            Raising(**a_job(trial=7)),
            "ValueError: job.trial=7",
        ),
        (
            Raising(**a_job(workers=0)),
            "ValueError: job.workers=0",
        ),
        (
            Raising(**a_job(until=2.5)),
            "ValueError: job.until=2.5",
        ),
        (
            Raising(verdicts=(core.Verdict(trial=7, reason="bad"),)),
            "ValueError: verdict.trial=7",
        ),
        (Raising(workers="all"), "ValueError: workers='all'"),
        (Raising(wake_s="soon"), "ValueError: wake_s='soon' in the plan of decide(); expected seconds or None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "policy",
)
def test_policy_that_raises_or_returns_nonsense_ends_the_study(policy, why):
    engine = started(Engine(settings(), policy))
    draw(engine, 10.0)
    actions = engine.handle(reported(0, 1), 20.0)
    assert [type(action).__name__ for action in actions] == ["BeginEnd", "StopGang"]
    assert actions[0].failed
    assert actions[0].reason.startswith(f"the policy Raising raised {why}")
    assert engine.policy_error is not None
    engine.handle(core.GangEnded(gang=0, outcome="stopped"), 21.0)
    assert of(engine.handle(core.MachineEnded(machine=0, expected=True), 22.0), core.Finish)


def test_simulation_raises_what_its_policy_raises():
    with pytest.raises(KeyError, match="loss"):
        FakeCloud(Raising(KeyError("loss"))).run()
