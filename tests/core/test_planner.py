"""The cheapest schedule within time and money, and the most trials that they allow."""

import math
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from seer_nb.core import Scaling, planner
from seer_nb.core.money import BillingRule, Offer
from seer_nb.core.planner import (
    Resources,
    StageWork,
    cheapest_schedule,
    largest_schedule,
    least_parallelism,
    parallelisms,
)
from tests.support.effort import examples
from tests.support.policy_views import snapshot

CI = examples(120)


def resources(**changes):
    """Return plentiful resources: epochs of 10 s on workers at 1000 micro-dollars per second."""
    given_ = {
        "time_left_s": 10_000.0,
        "money_micro": 100_000_000.0,
        "epoch_s": 10.0,
        "scaling": Scaling(overhead=0.15, stall_s=1.0, boot_s=20.0),
        "price_micro_per_s": 1000.0,
        "lease_s": 30.0,
        "minimum_s": 0.0,
        "workers_per_machine": 1,
        "max_workers": 8,
        "max_parallelism": 8,
    }
    return Resources(**{**given_, **changes})


def halving(n, eta=3, top=9):
    """Return the legs of successive halving: floor(n / eta^k) trials reach eta^k epochs."""
    legs, epoch, k = [], 0, 0
    while epoch < top:
        until = min(top, eta**k)
        legs.append(StageWork(max(1, n // eta**k), until - epoch))
        epoch, k = until, k + 1
    return legs


anything = st.builds(
    resources,
    time_left_s=st.floats(1, 5000),
    money_micro=st.floats(0, 5_000_000),
    epoch_s=st.floats(0.1, 60),
    scaling=st.builds(
        Scaling, overhead=st.floats(0, 1), stall_s=st.floats(0, 10), boot_s=st.sampled_from([0.0, 1.0, 20.0, 120.0])
    ),
    price_micro_per_s=st.sampled_from([0.0, 10.0, 1000.0]),
    minimum_s=st.sampled_from([0.0, 60.0, 600.0]),
    workers_per_machine=st.sampled_from([1, 2, 4]),
    max_workers=st.sampled_from([1, 2, 3, 4, 8]),
    workers=st.sampled_from([0, 0, 1, 4]),
).map(lambda r: r._replace(max_parallelism=r.max_workers, workers=min(r.workers, r.max_workers)))
a_leg = st.builds(StageWork, st.integers(0, 12), st.floats(0.5, 9), st.none() | st.floats(1, 500))
some_legs = st.lists(a_leg, min_size=1, max_size=4)


# --- parallelism and resources ---


@pytest.mark.parametrize(("most", "expected"), [(1, (1,)), (2, (1, 2)), (3, (1, 2)), (8, (1, 2, 4, 8))])
def test_parallelisms_are_the_powers_of_two_up_to_the_maximum(most, expected):
    assert parallelisms(most) == expected


@CI
@given(anything, st.floats(0.5, 30), st.floats(0.1, 600))
def test_least_parallelism_is_fast_enough_and_half_of_it_is_not(r, epochs, seconds):
    p = least_parallelism(r, epochs, seconds)
    if p is None:
        assert all(r.trial_seconds(epochs, each) > seconds for each in parallelisms(r.max_parallelism))
    else:
        assert r.trial_seconds(epochs, p) <= seconds
        assert p == 1 or r.trial_seconds(epochs, p // 2) > seconds


def test_resources_of_the_whole_study_and_what_is_left():
    offer = Offer(name="box", price_per_hour_micro=7_200_000, workers_per_machine=2, billing=BillingRule(minimum_s=60))
    at = snapshot(
        now_s=100.0,
        stop_s=500.0,
        spent_micro=300_000,
        machines=((0, "ready"), (1, "booting"), (2, "retiring")),
        offers=(offer,),
    )
    whole, left = Resources.of_study(at), Resources.remaining(at)
    assert (whole.time_left_s, whole.money_micro, whole.workers) == (500.0, at.budget_micro, 0)
    assert (left.time_left_s, left.money_micro) == (400.0, at.budget_micro - 300_000)
    # Workers of a retiring machine do not count.
    assert left.workers == 4
    assert (left.price_micro_per_s, left.minimum_s, left.workers_per_machine) == (1000.0, 60, 2)


def test_time_paid_in_advance_counts_as_money_left():
    """Half of the billed minute lies ahead for one machine; the other one is retiring."""
    offer = Offer(name="box", price_per_hour_micro=7_200_000, workers_per_machine=2, billing=BillingRule(minimum_s=60))
    at = snapshot(now_s=30.0, machines=((0, "ready"), (1, "retiring")), offers=(offer,), spent_micro=240_000)
    assert Resources.remaining(at).money_micro == at.budget_micro - 240_000 + 30 * 2000


def test_planning_before_the_first_epoch_raises():
    with pytest.raises(ValueError, match="no epoch has been measured yet"):
        Resources.of_study(snapshot(scaling=Scaling()))


# --- the cheapest schedule ---


@CI
@given(some_legs, anything)
def test_schedule_never_exceeds_time_money_and_quota(legs, r):
    schedule = cheapest_schedule(legs, r)
    assume(schedule is not None)
    assert schedule.duration_s <= r.time_left_s
    lease = max((s.workers for s in schedule.stages[-1:]), default=0) * r.lease_s * r.price_micro_per_s
    assert schedule.cost_micro + lease <= r.money_micro * (1 + 1e-12)
    assert schedule.workers <= r.max_workers
    assert all(stage.parallelism <= r.max_parallelism for stage in schedule.stages)


@CI
@given(some_legs, anything)
def test_schedule_contains_all_of_the_work(legs, r):
    """Its worker-seconds suffice for the legs, and no trial is faster than s(p) allows."""
    schedule = cheapest_schedule(legs, r)
    assume(schedule is not None)
    for leg, stage in zip(legs, schedule.stages, strict=True):
        assert (stage.trials, stage.epochs) == leg[:2]
        if leg.trials:
            one_s = r.scaling.stall_s + leg.epochs * r.epoch_s / r.scaling.speedup(stage.parallelism)
            assert stage.duration_s >= one_s * (1 - 1e-9)
            assert stage.workers * stage.duration_s >= leg.trials * stage.parallelism * one_s * (1 - 1e-9)
            assert stage.cost_micro >= leg.trials * stage.parallelism * one_s * r.price_micro_per_s * (1 - 1e-9)


@CI
@given(some_legs, anything)
def test_schedule_cost_includes_boots_and_minimums(legs, r):
    schedule = cheapest_schedule(legs, r)
    assume(schedule is not None)
    rented = r.workers
    for stage in schedule.stages:
        booted = max(0, stage.workers - rented)
        if stage.trials:
            working_s = stage.duration_s - (r.scaling.boot_s if booted else 0.0)
            least_s = stage.workers * working_s + booted * max(r.scaling.boot_s, r.minimum_s - working_s)
            assert stage.cost_micro == pytest.approx(least_s * r.price_micro_per_s)
            rented = stage.workers


def test_no_parallelism_is_bought_when_time_is_plentiful():
    schedule = cheapest_schedule(halving(27), resources())
    assert [stage.parallelism for stage in schedule.stages] == [1, 1, 1]


def test_parallelism_is_raised_first_in_late_small_stages():
    legs = halving(27, top=27)
    slack = cheapest_schedule(legs, resources(max_workers=64, max_parallelism=64))
    raised = []
    for share in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        tight = cheapest_schedule(
            legs, resources(time_left_s=share * slack.duration_s, max_workers=64, max_parallelism=64)
        )
        raised.append([stage.parallelism for stage in tight.stages])
    assert raised[0] != [1, 1, 1, 1]
    for each in raised:
        assert each == sorted(each), "a stage was sped up before one with fewer trials"


@CI
@given(st.integers(1, 200), st.sampled_from([2, 3, 4]), anything)
def test_gangs_have_one_worker_while_trials_take_turns(n, eta, r):
    """On fewer workers than trials, a gang only makes the other trials wait.

    Guards against buying parallelism where more machines, or no parallelism, would be faster.
    """
    schedule = cheapest_schedule(halving(n, eta), r)
    assume(schedule is not None)
    assert all(stage.parallelism == 1 for stage in schedule.stages if stage.trials >= stage.workers)


def test_trials_take_turns_on_fewer_workers():
    stage = cheapest_schedule([StageWork(12, 3)], resources(max_workers=4, max_parallelism=4, workers=4)).stages[0]
    assert (stage.workers, stage.parallelism) == (4, 1)
    # Three turns, each with a stall and three epochs.
    assert stage.duration_s == pytest.approx(3 * (1 + 3 * 10))


def test_machine_is_booted_only_if_it_trains_long_enough_or_time_is_short():
    legs = [StageWork(8, 1)]
    r = resources(scaling=Scaling(overhead=0.15, stall_s=1.0, boot_s=100.0))
    assert cheapest_schedule(legs, r).workers == 1
    assert cheapest_schedule(legs, r._replace(time_left_s=115.0)).workers == 8


def test_machines_are_rented_whole():
    stage = cheapest_schedule([StageWork(3, 9)], resources(workers_per_machine=4, max_workers=8)).stages[0]
    assert stage.workers == 4


def test_schedule_on_free_machines_needs_no_money():
    schedule = cheapest_schedule(halving(27), resources(price_micro_per_s=0.0, money_micro=0.0))
    assert schedule.cost_micro == 0
    assert cheapest_schedule(halving(27), resources(price_micro_per_s=1.0, money_micro=0.0)) is None


def test_schedule_without_work_costs_nothing():
    schedule = cheapest_schedule([StageWork(0, 1), StageWork(0, 2)], resources())
    assert (schedule.duration_s, schedule.cost_micro, schedule.workers) == (0.0, 0.0, 0)


def test_no_schedule_is_faster_than_the_serial_fraction():
    # With c = 1 a gang is as fast as one worker.
    r = resources(time_left_s=50.0, scaling=Scaling(overhead=1.0, stall_s=0.0, boot_s=0.0))
    assert cheapest_schedule([StageWork(1, 9)], r) is None


def price_of(legs, ways, r):
    """Return the cost of executing each leg in a shape, computed naively; None if time or money does not suffice."""
    time_s = cost = 0.0
    rented = r.workers
    for leg, (turns, p) in zip(legs, ways, strict=True):
        if not leg.trials:
            continue
        one_s = r.scaling.stall_s + leg.epochs * r.epoch_s / r.scaling.speedup(p)
        wanted = leg.trials * p / turns
        if leg.within_s is not None:
            wanted = leg.trials * one_s / max(leg.within_s, one_s) - 1e-9
        machines = math.ceil(math.ceil(wanted) / r.workers_per_machine)
        workers = max(p, min(r.max_workers, machines * r.workers_per_machine))
        stage_s = max(one_s, leg.trials * one_s / (workers // p))
        new = max(0, workers - rented)
        boot_s = r.scaling.boot_s if new else 0.0
        time_s += boot_s + stage_s
        cost += r.price_micro_per_s * (workers * stage_s + new * max(boot_s, r.minimum_s - stage_s))
        if time_s > r.time_left_s or cost + workers * r.lease_s * r.price_micro_per_s > r.money_micro:
            return None
        rented = workers
    return cost


@CI
@given(st.lists(a_leg, min_size=1, max_size=3), anything)
def test_no_combination_of_shapes_is_cheaper(legs, r):
    every = product(*(planner.shapes(leg, r) for leg in legs))
    best = min((cost for ways in every if (cost := price_of(legs, ways, r)) is not None), default=None)
    found = cheapest_schedule(legs, r)
    assert (found is None) == (best is None)
    if found is not None:
        assert found.cost_micro == pytest.approx(best)


def test_shapes_that_are_considered():
    """Turns on few machines if machines are expensive, several workers per trial if there are enough."""
    r = resources(max_workers=16, max_parallelism=8)
    assert planner.shapes(StageWork(4, 1), r) == [(4, 1), (2, 1), (1, 1), (1, 2), (1, 4)]
    free = r._replace(scaling=Scaling(overhead=0.15, stall_s=1.0, boot_s=0.0))
    assert planner.shapes(StageWork(1, 1), free) == [(1, 1), (1, 2), (1, 4), (1, 8)]
    assert planner.shapes(StageWork(40, 1), free) == [(1, 1)]
    # Twice as many workers are no faster.
    assert planner.shapes(StageWork(1, 1), free._replace(scaling=Scaling(overhead=1.0, stall_s=1.0, boot_s=0.0))) == [
        (1, 1)
    ]


# --- the most trials ---


def brute_force(legs, r, high):
    """Return the largest number before the first one that cannot be scheduled."""
    best = None
    for n in range(1, high + 1):
        if cheapest_schedule(legs(n), r) is None:
            break
        best = n
    return best


@examples(60)
@given(anything, st.integers(1, 60), st.sampled_from([2, 3, 4]))
def test_largest_number_of_trials_is_maximal(r, high, eta):
    def legs(n):
        return halving(n, eta)

    found = largest_schedule(legs, r, high)
    if found is None:
        assert cheapest_schedule(legs(1), r) is None
        return
    n, schedule = found
    assert 1 <= n <= high
    assert schedule == cheapest_schedule(legs(n), r)
    assert n == high or cheapest_schedule(legs(n + 1), r) is None
    assert n >= brute_force(legs, r, high)


@examples(60)
@given(anything, st.floats(1, 4), st.floats(1, 4))
def test_more_time_or_money_never_gives_fewer_trials(r, longer, richer):
    def count(**changes):
        found = largest_schedule(halving, r._replace(**changes), 500)
        return found[0] if found else 0

    n = count()
    assert count(time_left_s=longer * r.time_left_s) >= n
    assert count(money_micro=richer * r.money_micro) >= n
    assert count(time_left_s=longer * r.time_left_s, money_micro=richer * r.money_micro) >= n


@pytest.mark.parametrize("seconds", [*range(60, 700, 9), 1e6])
def test_largest_number_of_trials_matches_its_closed_form(seconds):
    free = Scaling(overhead=0.15, stall_s=1.0, boot_s=0.0)
    one = resources(price_micro_per_s=0.0, time_left_s=seconds, scaling=free, max_workers=1, max_parallelism=1)
    n, _ = largest_schedule(lambda n: [StageWork(n, 1)], one, 1_000_000)
    assert 0.99 * (seconds // 11) <= n <= seconds // 11, "within 1 %; exact below 100"
