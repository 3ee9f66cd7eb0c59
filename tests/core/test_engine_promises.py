"""What an engine promises whatever happens: on a fake cloud with random faults, late events and moving sliders."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from seer_nb.core import model as m
from seer_nb.core.engine import Engine
from seer_nb.core.money import BillingRule
from seer_nb.policies import ASHA, SEER, RandomSearch
from tests.builders import OFFER
from tests.core.effort import examples
from tests.core.fake_cloud import FakeCloud, World, picture

CI = examples(25)
POLICIES = [SEER(), ASHA(), RandomSearch()]
DECISIONS = (m.Rent, m.Retire, m.Draw, m.StartGang, m.StopGang, m.AbandonGang, m.EndTrial, m.BeginEnd, m.Finish, m.Note)

rare = st.sampled_from([0.0, 0.0, 0.05, 0.3])
worlds = st.builds(
    World,
    seed=st.integers(0, 10**6),
    configs=st.sampled_from([math.inf, math.inf, 1, 3, 10]),
    epoch_s=st.sampled_from([2.0, 10.0, 40.0]),
    overhead=st.sampled_from([0.0, 0.15, 0.9]),
    stall_s=st.sampled_from([0.0, 1.0, 5.0]),
    boot_s=st.sampled_from([0.0, 3.0, 30.0]),
    spread=st.sampled_from([0.0, 0.5]),
    batch_size=st.sampled_from([None, 6, 32]),
    store_every=st.sampled_from([1, 3]),
    late_s=st.sampled_from([0.0, 0.0, 0.5, 5.0]),
    tick_late_s=st.sampled_from([0.0, 0.05, 0.5]),
    no_boot=rare,
    no_word=rare,
    life_s=st.sampled_from([math.inf, 300.0, 60.0]),
    notice=st.sampled_from([0.0, 0.0, 0.3]),
    refused=rare,
    adopts=st.sampled_from([0.0, 0.5, 1.0]),
    raises=rare,
    hangs=rare,
    diverges=rare,
    returns=rare,
    damages=rare,
)
offers = st.builds(
    lambda price, unit, minimum_s, workers, release_s, boot_lease_s: replace(
        OFFER,
        price_per_hour=price,
        billing=BillingRule(unit=unit, minimum_s=minimum_s),
        workers_per_machine=workers,
        release_s=release_s,
        boot_timeout_s=60.0,
        boot_lease_s=boot_lease_s,
    ),
    st.sampled_from([0, 360_000, 3_600_000]),
    st.sampled_from(["second", "second", "hour"]),
    st.sampled_from([0, 60]),
    st.sampled_from([1, 1, 2]),
    st.sampled_from([0.5, 10.0]),
    st.sampled_from([0.0, 0.0, 60.0]),
)


@st.composite
def markets(draw):
    """Offers of one or two kinds, and the machine that hosts the scheduler, if there is one."""
    first = draw(offers)
    cheaper = replace(first, name="spot", spot=True, price_per_hour=first.price_per_hour // 3, losses_per_hour=0.1)
    other = replace(draw(offers), name="other", kind="other")
    host = replace(draw(offers), name="host", workers_per_machine=0, price_per_hour=20_000)
    chosen = draw(st.sampled_from([(first,), (first,), (cheaper, first), (first, other), (cheaper, first, other)]))
    return {"offers": chosen, "host": draw(st.sampled_from([None, host]))}


commands = st.lists(
    st.tuples(
        st.floats(0, 400),
        st.one_of(
            st.builds(m.SetBudget, budget=st.integers(0, 2_000_000)),
            st.builds(m.SetDeadline, deadline_s=st.floats(50, 600)),
            st.builds(m.DeadlineMoved, deadline_s=st.floats(50, 600)),
            st.builds(m.Pin, trial=st.integers(0, 5), pinned=st.booleans()),
            st.builds(m.StopTrial, trial=st.integers(0, 5)),
            st.just(m.Pause()),
            st.just(m.Resume()),
            st.sampled_from([0.0, 10.0, 1000.0]),  # the runner dies
            st.just(m.Stop()),
        ),
    ),
    max_size=5,
)


@st.composite
def studies(draw):
    return {
        "policy": draw(st.sampled_from(POLICIES)),
        "world": draw(worlds),
        "commands": draw(commands),
        **draw(markets()),
        "budget": draw(st.integers(20_000, 1_000_000)),
        "deadline_s": draw(st.floats(30, 500)),
        "max_workers": draw(st.sampled_from([1, 2, 4, 8])),
        "max_epochs": draw(st.sampled_from([1, 3, 9])),
        "lease_s": draw(st.sampled_from([20.0, 30.0])),
        "report_timeout_s": draw(st.sampled_from([None, 60.0])),
    }


class Watch:
    """Looks at a study after every event."""

    def __init__(self):
        self.best = None
        self.spent = 0
        self.lengths = {}

    def __call__(self, cloud):
        self.money(cloud)
        self.gangs(cloud)
        self.trials(cloud)
        self.nothing_is_lost(cloud)

    def money(self, cloud):
        state = cloud.state
        spent, committed = state.ledger.spent(cloud.now_s), state.ledger.committed(cloud.now_s)
        assert spent + committed <= state.budget, "the budget is broken"
        assert spent <= state.budget

    def gangs(self, cloud):
        gangs = cloud.state.gangs.values()
        trials = [gang.trial for gang in gangs]
        workers = [worker for gang in gangs for worker in gang.workers]
        assert len(trials) == len(set(trials)), "a trial is in two gangs"
        assert len(workers) == len(set(workers)), "a worker is in two gangs"
        for gang in gangs:
            assert cloud.state.trials[gang.trial].gang == gang.id

    def trials(self, cloud):
        for trial in cloud.state.trials.values():
            if len(trial.curve) != self.lengths.get(trial.id, 0):
                assert [report.epoch for report in trial.curve] == list(range(1, len(trial.curve) + 1))
                assert trial.epoch <= cloud.settings.max_epochs
                self.lengths[trial.id] = len(trial.curve)
            assert trial.resume_epoch <= trial.epoch
            assert (trial.state == "running") <= (trial.gang is not None)

    def nothing_is_lost(self, cloud):
        best = cloud.state.best
        if cloud.world.damages:
            self.best = None  # that one may have been damaged
        if self.best is not None:
            assert best is not None
            assert best.best.value >= self.best, "the best checkpoint was lost"
        if best is not None:
            assert best.best.checkpoint is not None
            self.best = best.best.value


def run(given_, **changes):
    return FakeCloud(check=Watch(), **{**given_, **changes}).run()


@CI
@given(studies())
def test_a_study_ends_in_time_within_its_budget_and_loses_nothing(study):
    cloud = run(study)
    state = cloud.state
    assert not state.live
    assert not state.gangs
    assert all(box.gone_s is not None for box in cloud.boxes.values()), "a machine outlives its study"
    assert cloud.real_bill() <= state.ledger.spent(cloud.now_s) <= state.budget
    assert all(trial.state != "running" for trial in state.trials.values())


@CI
@given(studies())
def test_no_machine_lives_after_the_deadline(study):
    """But for the time by which a timer is late, and with no slider that moves the deadline below what is left."""
    study["commands"] = [
        item
        for item in study["commands"]
        if not isinstance(item[1], m.SetDeadline | m.DeadlineMoved | m.Pause | m.Resume | float)
    ]
    cloud = run(study)
    last_s = max((box.gone_s for box in cloud.boxes.values()), default=0.0)
    assert last_s <= study["deadline_s"] + study["world"].tick_late_s


@CI
@given(studies())
def test_the_same_events_at_the_same_times_give_the_same_actions(study):
    study["commands"] = [item for item in study["commands"] if isinstance(item[1], m.EventBase)]
    cloud = run(study)
    again = Engine(cloud.settings, study["policy"])
    for at_s, event, actions in cloud.log:
        assert again.handle(event, at_s) == actions
    assert picture(again.state) == picture(cloud.state)


@CI
@given(studies())
def test_the_records_give_the_same_state_again(study):
    cloud = run(study)
    again = Engine(cloud.settings, study["policy"]).state
    for at_s, record in cloud.records():
        again.apply(record, at_s)
    assert picture(again) == picture(cloud.state)


@CI
@given(studies())
def test_every_decision_carries_a_reason(study):
    cloud = run(study)
    for action in cloud.actions:
        if isinstance(action, DECISIONS):
            assert action.reason.strip(), f"{action} has no reason"


@CI
@given(studies())
def test_a_trial_goes_on_from_what_was_stored(study):
    cloud = run(study)
    stored = {}
    for event_or_action in (record for _, record in cloud.records()):
        if isinstance(event_or_action, m.Reported) and event_or_action.checkpoint:
            stored.setdefault(event_or_action.checkpoint, event_or_action.epoch)
        elif isinstance(event_or_action, m.StartGang):
            if event_or_action.checkpoint is None:
                assert event_or_action.from_epoch == 0
            else:
                assert stored[event_or_action.checkpoint] == event_or_action.from_epoch
            assert event_or_action.from_epoch < event_or_action.until <= cloud.settings.max_epochs


@CI
@given(studies())
def test_what_was_eliminated_never_trains_again(study):
    cloud = run(study)
    ended = set()
    for _, record in cloud.records():
        if isinstance(record, m.EndTrial):
            ended.add(record.trial)
        elif isinstance(record, m.StartGang):
            assert record.trial not in ended


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_without_faults_a_study_leaves_no_worker_idle_for_long(policy):
    """Paid seconds are seconds of training, but for boots, stalls and the last epochs."""
    cloud = FakeCloud(policy, World(epoch_s=5.0), budget=10**9, deadline_s=600.0, check=Watch()).run()
    trained_s = sum(trial.worker_seconds for trial in cloud.state.trials.values())
    lived_s = sum(box.gone_s - box.opened_s for box in cloud.boxes.values())
    assert trained_s > 0.8 * lived_s


def test_the_watch_sees_what_it_watches():
    """The checks above must be able to fail."""
    cloud = FakeCloud(RandomSearch(), World()).run(until_s=40.0)
    watch = Watch()
    watch(cloud)
    cloud.state.ledger.budget = 1
    with pytest.raises(AssertionError, match="the budget is broken"):
        watch(cloud)
    cloud.state.ledger.budget = 10**9
    gang = cloud.state.gangs[0]
    cloud.state.gangs[99] = replace(gang, id=99)
    with pytest.raises(AssertionError, match="a trial is in two gangs"):
        watch(cloud)
    cloud.state.gangs[99] = replace(gang, id=99, trial=99)
    with pytest.raises(AssertionError, match="a worker is in two gangs"):
        watch(cloud)
    del cloud.state.gangs[99]
    cloud.state.trials.clear()
    with pytest.raises((AssertionError, KeyError)):
        watch(cloud)
    assert dataclasses.is_dataclass(cloud.world)
