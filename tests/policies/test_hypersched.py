"""HyperSched, against its three rules: cut-offs at every report, admission, and dealing out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb import simulate
from seer_nb.core import Scaling
from seer_nb.policies import HyperSched
from seer_nb.policies._statistics import quantile
from seer_nb.policies.hypersched import dealt
from tests.support.curve_tables import table
from tests.support.effort import examples
from tests.support.policy_views import gang, snapshot, trial

FOUR = tuple((number, "ready") for number in range(4))


@examples(100)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_the_quantile_is_numpys(values, share):
    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), rel=1e-9, abs=1e-9)


def test_what_diverged_lies_below_every_quantile():
    assert quantile([-math.inf, 0.0, 1.0], 0.25) == -math.inf
    assert quantile([-math.inf, -math.inf, 1.0], 0.0) == -math.inf


# --- cut-offs ---


def test_who_is_below_the_cut_off_of_a_rung_is_paused():
    trials = [trial(k, k / 10) for k in range(8)]
    # The 3/4 quantile of 0 ... 0.7 is 0.525.
    assert HyperSched(eta=4).below(snapshot(*trials)) == {0, 1, 2, 3, 4, 5}


def test_one_record_cuts_nobody_off():
    assert not HyperSched(eta=4).below(snapshot(trial(0, 0.1)))


def test_it_looks_back():
    """Who was above a rung's cut-off when it passed it is paused later, when better ones have reported that rung."""
    old = trial(0, 0.5, 0.6, 0.7)
    assert HyperSched(eta=4).below(snapshot(old, trial(1, 0.4))) == {1}
    better = [trial(k, 0.9) for k in range(1, 5)]
    assert 0 in HyperSched(eta=4).below(snapshot(old, *better))


def test_every_rung_counts():
    # Best at rung 1, worst at rung 4.
    falling = trial(0, 0.9, 0.1, 0.1, 0.1)
    others = [trial(k, 0.5 + k / 100, 0.6, 0.6, 0.6) for k in range(1, 6)]
    assert 0 in HyperSched(eta=4).below(snapshot(falling, *others))


def test_a_running_trial_below_is_stopped_and_an_idle_one_above_goes_on():
    low, high = trial(0, 0.1, state="running"), trial(1, 0.9)
    plan = HyperSched(eta=2).decide(snapshot(low, high, machines=FOUR, gangs=(gang(0, low, "0.0", until=9),)))
    numbers = [job.trial for job in plan.jobs]
    assert 0 not in numbers
    assert 1 in numbers
    assert plan.each_report


# --- admission ---


@pytest.mark.parametrize(
    ("stop_s", "curves", "admits"),
    [
        # Nobody has trained long: min(4 x 10, 9 x 10) s must be left.
        (41.0, 1, True),
        (39.0, 1, False),
        # The longest took 30 s: min(4 x 30, 9 x 10).
        (91.0, 3, True),
        (89.0, 3, False),
    ],
)
def test_trials_begin_only_while_there_is_time_for_them(stop_s, curves, admits):
    seen = snapshot(
        trial(0, *[0.5] * curves, worker_seconds=10.0 * curves),
        stop_s=stop_s,
        budget=10**9,
        scaling=Scaling(epoch_s=10.0),
    )
    assert HyperSched(eta=4).admits(seen) == admits
    plan = HyperSched(eta=4).decide(seen)
    assert any(job.trial is None for job in plan.jobs) == admits


def test_too_late_the_paused_ones_are_stopped():
    trials = [trial(k, k / 10, worker_seconds=10.0) for k in range(8)]
    plan = HyperSched(eta=4).decide(snapshot(*trials, stop_s=20.0, machines=FOUR, scaling=Scaling(epoch_s=10.0)))
    assert {verdict.trial for verdict in plan.verdicts} >= {0, 1, 2, 3, 4, 5}


# --- dealing out ---


def test_workers_are_dealt_out_in_turn_the_best_first():
    order = [trial(k) for k in range(3)]
    assert dealt(order, 8, 0) == {0: 1, 1: 1, 2: 1}
    assert dealt(order, 8, 1) == {0: 2, 1: 1, 2: 1}
    assert dealt(order, 8, 3) == {0: 2, 1: 2, 2: 2}
    assert dealt(order, 8, 6) == {0: 4, 1: 2, 2: 2} or dealt(order, 8, 6)[0] == 4
    assert dealt(order, 2, 100) == {0: 2, 1: 2, 2: 2}


def test_a_share_divides_the_batch():
    assert dealt([trial(0, batch_size=6)], 8, 100) == {0: 2}


def test_whole_studies():
    given_ = {"deadline": 600, "budget": 6.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    found = simulate.run(table(rows=300, epochs=27), HyperSched(), **given_)
    assert found.peak_workers == 9
    assert not found.violated
    sizes = {r.parallelism for t in found.state.trials.values() for r in t.curve}
    assert sizes > {1}, "idle workers are dealt out at the end"
    late = [t.started_s for t in found.state.trials.values()]
    assert max(late) < 600 - 4 * 10
