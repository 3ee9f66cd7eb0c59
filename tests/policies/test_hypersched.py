"""HyperSched against its three rules: cut-offs at every report, admission, and the distribution of workers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb import simulate
from seer_nb.core import Scaling
from seer_nb.policies import HyperSched
from seer_nb.policies._statistics import quantile
from seer_nb.policies.hypersched import distribute_workers
from tests.support.curve_tables import table
from tests.support.effort import examples
from tests.support.policy_views import gang, snapshot, trial

FOUR = tuple((number, "ready") for number in range(4))


@examples(100)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_quantile_equals_numpys(values, share):
    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), rel=1e-9, abs=1e-9)


def test_diverged_trials_are_below_every_quantile():
    assert quantile([-math.inf, 0.0, 1.0], 0.25) == -math.inf
    assert quantile([-math.inf, -math.inf, 1.0], 0.0) == -math.inf


# --- cut-offs ---


def test_trials_below_a_cut_off_are_paused():
    trials = [trial(k, k / 10) for k in range(8)]
    # The 3/4 quantile of 0 ... 0.7 is 0.525.
    assert HyperSched(eta=4).below_cutoff(snapshot(*trials)) == {0, 1, 2, 3, 4, 5}


def test_a_single_report_cuts_no_trial_off():
    assert not HyperSched(eta=4).below_cutoff(snapshot(trial(0, 0.1)))


def test_later_reports_lower_earlier_trials():
    """A trial that passed a rung is paused when better ones report that rung later."""
    old = trial(0, 0.5, 0.6, 0.7)
    assert HyperSched(eta=4).below_cutoff(snapshot(old, trial(1, 0.4))) == {1}
    better = [trial(k, 0.9) for k in range(1, 5)]
    assert 0 in HyperSched(eta=4).below_cutoff(snapshot(old, *better))


def test_cut_offs_of_every_rung_count():
    # Best at rung 1, worst at rung 4.
    falling = trial(0, 0.9, 0.1, 0.1, 0.1)
    others = [trial(k, 0.5 + k / 100, 0.6, 0.6, 0.6) for k in range(1, 6)]
    assert 0 in HyperSched(eta=4).below_cutoff(snapshot(falling, *others))


def test_a_running_trial_below_stops_and_a_paused_one_above_resumes():
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
        # Every training was short: min(4 x 10, 9 x 10) s must be left.
        (41.0, 1, True),
        (39.0, 1, False),
        # The longest took 30 s: min(4 x 30, 9 x 10).
        (91.0, 3, True),
        (89.0, 3, False),
    ],
)
def test_trials_start_only_while_there_is_time_for_them(stop_s, curves, admits):
    seen = snapshot(
        trial(0, *[0.5] * curves, worker_seconds=10.0 * curves),
        stop_s=stop_s,
        budget_micro=10**9,
        scaling=Scaling(epoch_s=10.0),
    )
    assert HyperSched(eta=4).admits_trials(seen) == admits
    plan = HyperSched(eta=4).decide(seen)
    assert any(job.trial is None for job in plan.jobs) == admits


def test_paused_trials_are_stopped_after_admission_ends():
    trials = [trial(k, k / 10, worker_seconds=10.0) for k in range(8)]
    plan = HyperSched(eta=4).decide(snapshot(*trials, stop_s=20.0, machines=FOUR, scaling=Scaling(epoch_s=10.0)))
    assert {verdict.trial for verdict in plan.verdicts} >= {0, 1, 2, 3, 4, 5}


# --- workers ---


def test_workers_are_distributed_in_turn_best_trial_first():
    order = [trial(k) for k in range(3)]
    assert distribute_workers(order, 8, 0) == {0: 1, 1: 1, 2: 1}
    assert distribute_workers(order, 8, 1) == {0: 2, 1: 1, 2: 1}
    assert distribute_workers(order, 8, 3) == {0: 2, 1: 2, 2: 2}
    assert distribute_workers(order, 8, 6) == {0: 4, 1: 2, 2: 2} or distribute_workers(order, 8, 6)[0] == 4
    assert distribute_workers(order, 2, 100) == {0: 2, 1: 2, 2: 2}


def test_parallelism_divides_the_batch():
    assert distribute_workers([trial(0, batch_size=6)], 8, 100) == {0: 2}


def test_idle_workers_are_used_and_no_trial_starts_late_in_a_study():
    given_ = {"deadline": 600, "budget": 6.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    found = simulate.run(table(rows=300, epochs=27), HyperSched(), **given_)
    assert found.peak_workers == 9
    assert not found.violated
    sizes = {r.parallelism for t in found.state.trials.values() for r in t.curve}
    assert sizes > {1}, "idle workers are distributed at the end"
    late = [t.started_s for t in found.state.trials.values()]
    assert max(late) < 600 - 4 * 10
