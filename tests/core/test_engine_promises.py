"""Invariants of the engine on a fake cloud with random faults, late events and random commands."""

import dataclasses
import math
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from seer_nb import core
from seer_nb.core.money import BillingRule
from seer_nb.policies import ASHA, SEER, RandomSearch
from seer_nb.testing.adversary.invariants import InvariantChecker, check_ended_study
from seer_nb.testing.adversary.strategies import run_random_study
from tests.support.effort import EFFORT, examples
from tests.support.fake_cloud import FakeCloud, Restart, World
from tests.support.records import OFFER

POLICIES = [SEER(), ASHA(), RandomSearch()]
STEPS = 25_000
"""Checked steps from each of four seeds: 100 000 in total."""

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
    boot_failure=rare,
    never_boots=rare,
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
        price_per_hour_micro=price,
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
    """Draw offers of one or two kinds, and the scheduler machine or None."""
    first = draw(offers)
    cheaper = replace(
        first, name="spot", spot=True, price_per_hour_micro=first.price_per_hour_micro // 3, preemptions_per_hour=0.1
    )
    other = replace(draw(offers), name="other", kind="other")
    host = replace(draw(offers), name="scheduler_offer", workers_per_machine=0, price_per_hour_micro=20_000)
    chosen = draw(st.sampled_from([(first,), (first,), (cheaper, first), (first, other), (cheaper, first, other)]))
    return {"offers": chosen, "scheduler_offer": draw(st.sampled_from([None, host]))}


asked = st.one_of(
    st.builds(core.SetBudget, budget_micro=st.integers(0, 2_000_000)),
    st.builds(core.SetDeadline, deadline_s=st.floats(50, 600)),
    st.builds(core.DeadlineMoved, deadline_s=st.floats(50, 600)),
    st.builds(core.Pin, trial=st.integers(0, 5), pinned=st.booleans()),
    st.builds(core.StopTrial, trial=st.integers(0, 5)),
    st.just(core.Pause()),
    st.just(core.Resume()),
    st.just(core.Stop()),
)
restarts = st.builds(
    Restart, seconds=st.sampled_from([0.0, 10.0, 1000.0]), waited=st.lists(asked, max_size=3).map(tuple)
)
commands = st.lists(st.tuples(st.floats(0, 400), st.one_of(asked, restarts)), max_size=5)


@st.composite
def studies(draw):
    return {
        "policy": draw(st.sampled_from(POLICIES)),
        "world": draw(worlds),
        "commands": draw(commands),
        **draw(markets()),
        "budget_micro": draw(st.integers(20_000, 1_000_000)),
        "deadline_s": draw(st.floats(30, 500)),
        "max_workers": draw(st.sampled_from([1, 2, 4, 8])),
        "max_epochs": draw(st.sampled_from([1, 3, 9])),
        "lease_s": draw(st.sampled_from([20.0, 30.0])),
        "report_timeout_s": draw(st.sampled_from([None, 60.0])),
    }


def run(given_, **changes):
    return FakeCloud(check=InvariantChecker(), **{**given_, **changes}).run()


@examples(100)
@given(studies())
def test_invariants_hold_under_random_faults(study):
    check_ended_study(run(study))


@pytest.mark.parametrize("first", [0, 10_000, 20_000, 30_000])
def test_invariants_hold_in_random_studies(first):
    """Many more and longer studies than hypothesis would generate."""
    steps, seeds = 0, count(first)
    while steps < max(1, EFFORT) * STEPS:
        steps += run_random_study(next(seeds))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_workers_are_rarely_idle_without_faults(policy):
    """Paid seconds are spent on training, except for boots, stalls and the last epochs."""
    cloud = FakeCloud(policy, World(epoch_s=5.0), budget_micro=10**9, deadline_s=600.0, check=InvariantChecker()).run()
    trained_s = sum(trial.worker_seconds for trial in cloud.state.trials.values())
    lived_s = sum(box.ended_s - box.rented_s for box in cloud.machines.values())
    assert trained_s > 0.8 * lived_s


def test_invariant_checks_detect_violations():
    """The checks above must be able to fail."""
    cloud = FakeCloud(RandomSearch(), World()).run(until_s=40.0)
    watch = InvariantChecker()
    watch(cloud)
    cloud.state.ledger.budget_micro = 1
    with pytest.raises(AssertionError, match="exceeds the budget"):
        watch(cloud)
    cloud.state.ledger.budget_micro = 10**9
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
