"""Choice among several offers, the scheduler machine, and preempted machines."""

import pytest
from msgspec.structs import replace

from seer_nb import core
from seer_nb.core import offer_choice, reconcile
from seer_nb.core.engine import Engine
from tests.support.fake_cloud import FakeCloud, World
from tests.support.records import OFFER, settings
from tests.support.small_engine import Simple, draw, of

DEAR = replace(OFFER, name="g5", kind="g5", max_machines=4)
SPOT = replace(DEAR, name="g5 spot", spot=True, price_per_hour_micro=1_200_000)
OTHER = replace(OFFER, name="g4", kind="g4", price_per_hour_micro=360_000, max_machines=4)
HOST = replace(OFFER, name="host", workers_per_machine=0, price_per_hour_micro=36_000, boot_s=1.0)


def engine(policy=None, **changes):
    made = Engine(settings(**changes), policy or Simple(trials=2))
    made.handle(core.Began(settings=made.state.settings), 0.0)
    return made


def decided(policy=None, **changes):
    made = engine(policy, **changes)
    return made, made.handle(core.RunnerStarted(), 0.0)


def one_of(actions, kind):
    (found,) = of(actions, kind)
    return found


def rented(actions):
    return [action.offer for action in of(actions, core.Rent)]


# --- choice of the offer ---


def test_cheaper_offer_of_the_first_kind_is_rented():
    assert rented(decided(offers=(DEAR, SPOT))[1]) == ["g5 spot"] * 2
    assert rented(decided(offers=(DEAR, OTHER))[1]) == ["g5"] * 2
    assert rented(decided(offers=(OTHER, DEAR))[1]) == ["g4"] * 2


def test_unavailable_offer_falls_back_and_is_retried_later():
    made, _ = decided(offers=(DEAR, SPOT, OTHER))
    found = made.handle(
        core.MachineEnded(machine=0, expected=False, reason="no capacity", lived_s=0.0, scarce=True), 1.0
    )
    assert rented(found) == ["g5"]
    found = made.handle(
        core.MachineEnded(machine=2, expected=False, reason="no capacity", lived_s=0.0, scarce=True), 2.0
    )
    assert rented(found) == ["g4"]
    assert offer_choice.again_s(made.state, SPOT) == 1.0 + offer_choice.BACKOFF_S
    made.handle(core.MachineEnded(machine=1, expected=False, reason="no capacity", lived_s=0.0, scarce=True), 2.5)
    again_s = offer_choice.again_s(made.state, SPOT)
    assert again_s == 1.0 + offer_choice.BACKOFF_S, "requested together with the first machine"
    assert made.policy_view().offers[0].name == "g4"
    made.handle(core.Ticked(), again_s)
    assert [offer.name for offer in made.policy_view().offers] == ["g5 spot", "g4", "g5"], (
        "the backoff of g5 has not ended"
    )


def test_study_waits_and_does_not_fail_while_capacity_is_missing():
    made, _ = decided(offers=(DEAR,), deadline_s=3600.0, budget_micro=10**9)
    for _ in range(8):
        assert made.state.live_machines, "renting is tried again"
        for machine in list(made.state.live_machines):
            none = core.MachineEnded(machine=machine, expected=False, reason="no capacity", lived_s=0.0, scarce=True)
            made.handle(none, made.state.now_s)
        assert made.state.phase == "running"
        while not made.state.live_machines:
            made.handle(core.Ticked(), made.next_call_s())
    assert made.state.now_s == sum(offer_choice.BACKOFF_S * 2.0**k for k in range(8)), "the backoff doubles each time"


def test_refused_offer_that_is_not_needed_causes_no_decisions():
    """Guards against a decision at every event because an offer was refused long ago."""

    class Counted(Simple):
        decisions = 0

        def decide(self, view):
            self.decisions += 1
            return super().decide(view)

    policy = Counted(trials=1)
    made, _ = decided(policy, offers=(DEAR, SPOT), deadline_s=3600.0, budget_micro=10**9)
    (machine,) = made.state.live_machines
    made.handle(core.MachineEnded(machine=machine, expected=False, reason="none", lived_s=0.0, scarce=True), 1.0)
    (machine,) = made.state.live_machines
    made.handle(core.MachineReady(machine=machine, boot_s=1.0), 2.0)
    draw(made, 3.0)
    made.handle(core.Ticked(), 100.0)
    before = policy.decisions
    for at_s in range(101, 120):
        made.handle(core.Ticked(), float(at_s))
    assert policy.decisions == before


def test_machine_that_was_never_launched_is_not_billed():
    made, _ = decided(offers=(DEAR,))
    spent = made.state.ledger.spent_micro(10.0)
    assert spent > 0
    made.handle(core.MachineEnded(machine=0, expected=False, reason="no capacity", lived_s=0.0), 10.0)
    assert made.state.ledger.spent_micro(10.0) == spent // 2


def test_lifetime_by_the_providers_clock_is_billed():
    made, _ = decided(offers=(DEAR,))
    made.handle(core.MachineEnded(machine=0, expected=False, lived_s=7.0), 10.0)
    assert made.state.ledger.bill(0, 10.0) == DEAR.bill(7.0)


def test_next_offer_is_rented_when_a_quota_is_used_up():
    few = replace(SPOT, max_machines=1)
    assert rented(decided(Simple(trials=3), offers=(DEAR, few))[1]) == ["g5 spot", "g5", "g5"]


def test_observed_or_expected_losses_raise_the_expected_price():
    shaky = replace(SPOT, price_per_hour_micro=3_500_000, preemptions_per_hour=60.0)
    assert rented(decided(offers=(DEAR, shaky))[1]) == ["g5"] * 2
    steady = replace(shaky, preemptions_per_hour=0.0)
    made, found = decided(offers=(DEAR, steady))
    assert rented(found) == ["g5 spot"] * 2
    before = offer_choice.expected_price_s(made.state, steady)
    made.handle(core.MachineReady(machine=0, boot_s=2.0), 2.0)
    made.handle(core.MachineEnded(machine=0, expected=False, reason="taken away"), 20.0)
    assert offer_choice.expected_price_s(made.state, steady) > before


def test_machines_of_different_sizes_add_up_to_the_wanted_workers():
    large = replace(OTHER, workers_per_machine=4, max_machines=1)
    small = replace(OTHER, name="small", kind="small", workers_per_machine=1)
    assert rented(decided(Simple(trials=6), offers=(large, small), max_workers=8)[1]) == ["g4", "small", "small"]


def test_dearest_idle_machine_is_retired_first():
    made, _ = decided(offers=(DEAR, replace(SPOT, max_machines=1)))
    for machine in (0, 1):
        made.handle(core.MachineReady(machine=machine, boot_s=1.0), 2.0)
    assert [machine.offer for machine in made.state.live_machines.values()] == ["g5 spot", "g5"]
    assert [machine.id for machine in reconcile.surplus(made.state, core.Plan(workers=1))] == [1]
    made.state.settings = replace(made.state.settings, max_workers=0)
    assert [machine.id for machine in reconcile.surplus(made.state, core.Plan(workers=1))] == [1, 0]


# --- the scheduler machine ---


def test_scheduler_machine_is_rented_before_workers():
    made, found = decided(scheduler_offer=HOST)
    assert rented(found) == ["host"]
    assert rented(made.handle(core.Ticked(), 0.5)) == []
    assert rented(made.handle(core.MachineReady(machine=0, boot_s=1.0), 1.0)) == ["local", "local"]


def test_scheduler_machine_is_retired_last_and_is_billed():
    cloud = FakeCloud(Simple(trials=2, total=2), World(boot_s=2.0), scheduler_offer=HOST).run()
    gone = {number: box.ended_s for number, box in cloud.machines.items()}
    assert gone[0] == max(gone.values())
    assert list(gone.values()).count(gone[0]) == 1
    assert cloud.state.phase == "ended"
    assert cloud.state.ledger.bill(0, gone[0]) == HOST.bill(gone[0]) > 0
    assert {trial.state for trial in cloud.state.trials.values()} == {"completed"}


def test_policy_budget_excludes_the_cost_of_the_scheduler_machine():
    made, _ = decided(scheduler_offer=HOST)
    left_s = made.retire_by_s()
    assert made.policy_view().budget_micro <= made.state.budget_micro - HOST.bill(left_s) + HOST.bill(
        made.state.settings.lease_s
    )
    assert made.state.budget_micro - made.policy_view().budget_micro < HOST.bill(made.state.deadline_s + 60.0)


def test_all_machines_are_replaced_when_the_scheduler_machine_is_lost():
    made, _ = decided(scheduler_offer=HOST)
    made.handle(core.MachineReady(machine=0, boot_s=1.0), 1.0)
    for machine in (1, 2):
        made.handle(core.MachineReady(machine=machine, boot_s=1.0), 2.0)
    draw(made, 3.0, count=2)
    assert len(made.state.gangs) == 2
    found = made.handle(core.MachineEnded(machine=0, expected=False, reason="lost"), 10.0)
    assert {action.machine for action in of(found, core.Retire)} == {1, 2}
    assert "host" in rented(found)


def test_scheduler_machine_that_does_not_boot_is_retried_then_ends_the_study():
    cloud = FakeCloud(Simple(), World(boot_failure=1.0), scheduler_offer=HOST).run()
    assert cloud.state.failed
    assert "did not boot" in cloud.state.reason
    assert len(cloud.of(core.Rent)) > 1


def test_scheduler_machine_is_not_rented_without_money_for_a_worker():
    worst = sum(offer.bill(40.0) for offer in (HOST, OFFER))
    assert rented(decided(scheduler_offer=HOST, budget_micro=worst // 2)[1]) == []


# --- preempted machines ---


def test_trial_on_a_preempted_machine_is_saved_and_continues_elsewhere():
    made, _ = decided(Simple(trials=1))
    made.handle(core.MachineReady(machine=0, boot_s=2.0), 2.0)
    draw(made, 2.0)
    found = made.handle(core.MachineLeaving(machine=0, left_s=120.0, reason="spot interruption"), 10.0)
    assert one_of(found, core.StopGang).reason == "machine 0 is preempted: spot interruption"
    assert rented(found) == ["local"]
    assert not of(found, core.Retire)
    found = made.handle(core.GangEnded(gang=0, outcome="stopped"), 12.0)
    assert one_of(found, core.Retire).machine == 0
    assert not of(found, core.StartGang)
    found = made.handle(core.MachineReady(machine=1, boot_s=2.0), 14.0)
    assert one_of(found, core.StartGang).workers == ("1.0",)


def test_idle_machine_with_a_preemption_notice_is_retired_at_once():
    made, _ = decided(Simple(trials=1))
    made.handle(core.MachineReady(machine=0, boot_s=2.0), 2.0)
    found = made.handle(core.MachineLeaving(machine=0, left_s=120.0, reason="spot interruption"), 3.0)
    assert one_of(found, core.Retire).machine == 0


# --- a new runner ---


@pytest.mark.parametrize("adopted", [(), (0,)])
def test_new_runner_uses_the_machines_that_it_adopted(adopted):
    made, _ = decided(Simple(trials=1))
    made.handle(core.MachineReady(machine=0, boot_s=2.0), 2.0)
    draw(made, 2.0)
    made.handle(core.Reported(gang=0, epoch=1, value=0.5, seconds=3.0, checkpoint="0/1"), 6.0)
    found = made.handle(core.RunnerStarted(unseen_s=20.0, adopted=adopted), 6.0)
    if adopted:
        assert one_of(found, core.StartGang).workers == ("0.0",)
        assert one_of(found, core.StartGang).from_epoch == 1
        assert made.state.ledger.spent_micro(10.0) == OFFER.bill(30.0)
    else:
        assert rented(found) == ["local"]


# --- booting machines ---


def test_booting_machine_commits_its_boot_lease():
    slow = replace(OFFER, boot_lease_s=300.0)
    made, _ = decided(Simple(trials=1), offers=(slow,))
    ledger = made.state.ledger
    assert ledger.spent_micro(10.0) + ledger.committed_micro(10.0) == slow.bill(300.0)
    made.handle(core.MachineReady(machine=0, boot_s=10.0), 10.0)
    assert ledger.spent_micro(10.0) + ledger.committed_micro(10.0) == slow.bill(10.0 + made.state.settings.lease_s)
    assert rented(decided(Simple(trials=1), offers=(slow,), budget_micro=slow.bill(299.0))[1]) == []
