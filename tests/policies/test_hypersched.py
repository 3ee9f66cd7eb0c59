"""HyperSched against its three rules: cut-offs at every report, admission, and the distribution of workers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb import simulate
from seer_nb.core import Scaling
from seer_nb.policies import HyperSched
from seer_nb.policies._statistics import sorted_quantile
from seer_nb.policies.hypersched import distribute_workers
from tests.support.curve_tables import table
from tests.support.effort import examples
from tests.support.policy_views import gang, report, snapshot, trial

FOUR = tuple((number, "ready") for number in range(4))


@examples(100)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_quantile_equals_numpys(values, share):
    values.sort()
    assert sorted_quantile(values, share) == pytest.approx(float(np.quantile(values, share)), rel=1e-9, abs=1e-9)
    for place in range(len(values) if len(values) > 1 else 0):
        others = values[:place] + values[place + 1 :]
        assert sorted_quantile(values, share, place) == sorted_quantile(others, share)


def test_diverged_trials_are_below_every_quantile():
    assert sorted_quantile([-math.inf, 0.0, 1.0], 0.25) == -math.inf
    assert sorted_quantile([-math.inf, -math.inf, 1.0], 0.0) == -math.inf


# --- cut-offs ---


def test_trials_below_a_cut_off_are_paused():
    trials = [trial(k, k / 10) for k in range(8)]
    # The 3/4 quantile of 0 ... 0.7 without 0.5 is just 0.5, without 0.4 it is 0.55.
    assert HyperSched(eta=4).below_cutoff(snapshot(*trials)) == {0, 1, 2, 3, 4}


def test_fewer_than_two_other_reports_cut_no_trial_off():
    assert not HyperSched(eta=4).below_cutoff(snapshot(trial(0, 0.1)))
    assert not HyperSched(eta=4).below_cutoff(snapshot(trial(0, 0.1), trial(1, 0.9)))


def test_later_reports_lower_earlier_trials():
    """A trial that passed a rung is paused when better ones report that rung later."""
    old = trial(0, 0.5, 0.6, 0.7)
    assert HyperSched(eta=4).below_cutoff(snapshot(old, trial(1, 0.4), trial(2, 0.4))) == {1, 2}
    better = [trial(k, 0.9) for k in range(1, 5)]
    assert 0 in HyperSched(eta=4).below_cutoff(snapshot(old, *better))


def test_cut_offs_of_every_rung_count():
    # Best at rung 1, worst at rung 4.
    falling = trial(0, 0.9, 0.1, 0.1, 0.1)
    others = [trial(k, 0.5 + k / 100, 0.6, 0.6, 0.6) for k in range(1, 6)]
    assert 0 in HyperSched(eta=4).below_cutoff(snapshot(falling, *others))


def test_a_running_trial_below_stops_and_a_paused_one_above_resumes():
    low, high = trial(0, 0.1, state="running"), trial(1, 0.9)
    seen = snapshot(low, high, trial(2, 0.5), machines=FOUR, gangs=(gang(0, low, "0.0", until=9),))
    plan = HyperSched(eta=2).decide(seen)
    numbers = [job.trial for job in plan.jobs]
    assert 0 not in numbers
    assert 1 in numbers
    assert plan.each_report


class PublishedRungs:
    """Rules of the published code: what it records, when it pauses a trial, and which ones may resume."""

    def __init__(self, eta, rungs):
        self.share = 1 - 1 / eta
        self.records = {rung: {} for rung in sorted(rungs, reverse=True)}
        self.paused = {}

    def cutoff(self, rung):
        values = list(self.records[rung].values())
        return np.quantile(values, self.share) if len(values) > 1 else None

    def pauses(self, number, epoch, value):
        for rung, records in self.records.items():
            if epoch < rung:
                continue
            cutoff = self.cutoff(rung)  # before the trial's own record
            if cutoff is not None and records.setdefault(number, value) < cutoff:
                self.paused[number] = rung
                return True
            records.setdefault(number, value)
        return False

    def resumable(self):
        return {number for number, rung in self.paused.items() if self.records[rung][number] >= self.cutoff(rung)}


@examples(25)
@given(st.randoms(use_true_random=False), st.sampled_from([2, 3, 4]))
def test_every_pause_and_resumption_is_that_of_the_published_code(drawn, eta):
    top = 18
    published = PublishedRungs(eta, [eta**k for k in range(5) if eta**k < top])
    curves, running = dict.fromkeys(range(12), ()), dict.fromkeys(range(12), 0.0)
    for clock in range(1, 80):
        if not running:
            break
        number = drawn.choice(sorted(running))
        curves[number] = (*curves[number], report(len(curves[number]) + 1, round(drawn.random(), 2), at_s=float(clock)))
        if len(curves[number]) == top - 1:
            running.pop(number)
            continue
        pauses = published.pauses(number, len(curves[number]), curves[number][-1].value)
        trials = [trial(k, curve=curve, state="running" if k in running else "paused") for k, curve in curves.items()]
        gangs = [gang(k, trials[k], f"{k}.0", until=top, started_s=since) for k, since in running.items()]
        given_ = {"max_workers": 1000, "budget_micro": 10**12, "max_epochs": top, "exhausted": True}
        seen = snapshot(*trials, gangs=tuple(gangs), **given_)
        assert (number in HyperSched(eta).below_cutoff(seen)) == pauses
        jobs = {job.trial for job in HyperSched(eta).decide(seen).jobs}
        assert jobs & running.keys() == running.keys() - ({number} if pauses else set())
        resumable = published.resumable() - {number}
        assert (jobs - running.keys()) & published.paused.keys() == resumable
        if pauses:
            running.pop(number)
        for other in drawn.sample(sorted(resumable), k=min(1, len(resumable))):
            published.paused.pop(other)
            running[other] = float(clock)


def test_resumed_trial_trains_until_its_next_report():
    low = trial(0, 0.1, state="running")
    others = [trial(k, 0.5) for k in (1, 2)]
    jobs = [
        HyperSched(eta=2).decide(snapshot(low, *others, gangs=(gang(0, low, "0.0", until=9, started_s=since),))).jobs
        for since in (0.0, 1.0)
    ]
    assert [0 in {job.trial for job in each} for each in jobs] == [False, True]


# --- admission ---


@pytest.mark.parametrize(
    ("stop_s", "curves", "admits"),
    [
        # Every training was short: min(4 x (10 - 1), 9 x 10) s must be left.
        (37.0, 1, True),
        (35.0, 1, False),
        # The longest took 30 s: min(4 x (30 - 1), 9 x 10).
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


def test_only_trials_that_lost_their_workers_resume_after_admission_has_ended():
    # A cut-off paused trial 0. Later records of the same rung have lowered the cut-off below its value.
    records = [(0.5, 3.0), (0.9, 1.0), (0.9, 1.0), (0.1, 9.0), (0.1, 9.0), (0.1, 9.0)]
    trials = [
        trial(k, curve=(report(1, value, at_s=at_s),), worker_seconds=10.0) for k, (value, at_s) in enumerate(records)
    ]
    given_ = {"budget_micro": 10**9, "scaling": Scaling(epoch_s=10.0), "exhausted": True}
    plans = {stop_s: HyperSched(eta=2).decide(snapshot(*trials, stop_s=stop_s, **given_)) for stop_s in (1e4, 15.0)}
    assert {job.trial for job in plans[1e4].jobs} == {0, 1, 2}
    assert {job.trial for job in plans[15.0].jobs} == {1, 2}
    assert {verdict.trial for verdict in plans[15.0].verdicts} == {0, 3, 4, 5}


def test_paused_trials_are_stopped_after_admission_ends():
    trials = [trial(k, k / 10, worker_seconds=10.0) for k in range(8)]
    plan = HyperSched(eta=4).decide(snapshot(*trials, stop_s=20.0, machines=FOUR, scaling=Scaling(epoch_s=10.0)))
    assert {verdict.trial for verdict in plan.verdicts} == {0, 1, 2, 3, 4}


# --- workers ---


def test_workers_are_distributed_in_turn_best_trial_first():
    order = [trial(k) for k in range(3)]
    assert distribute_workers(order, 8, 0) == {0: 1, 1: 1, 2: 1}
    assert distribute_workers(order, 8, 1) == {0: 2, 1: 1, 2: 1}
    assert distribute_workers(order, 8, 3) == {0: 2, 1: 2, 2: 2}
    assert distribute_workers(order, 8, 6) == {0: 4, 1: 2, 2: 2} or distribute_workers(order, 8, 6)[0] == 4
    assert distribute_workers(order, 2, 100) == {0: 2, 1: 2, 2: 2}


@pytest.mark.parametrize(("reports", "workers"), [(5, 1), (6, 4)])
def test_gang_is_resized_after_its_sixth_report_at_the_earliest(reports, workers):
    alone = trial(0, *[0.5] * reports, state="running")
    running = gang(0, alone, "0.0", until=90, from_epoch=0)
    seen = snapshot(alone, gangs=(running,), machines=FOUR, max_epochs=90, exhausted=True, budget_micro=10**12)
    (job,) = HyperSched().decide(seen).jobs
    assert job.workers == workers


def test_parallelism_divides_the_batch_and_is_1_without_shared_work():
    assert distribute_workers([trial(0, batch_size=6)], 8, 100) == {0: 2}
    assert distribute_workers([trial(0, shares=False)], 8, 100) == {0: 1}


def test_idle_workers_are_used_and_no_trial_starts_late_in_a_study():
    given_ = {"deadline": 600, "budget": 6.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    found = simulate.run(table(rows=300, epochs=27), HyperSched(), **given_)
    assert found.peak_workers == 9
    assert not found.violated
    sizes = {r.parallelism for t in found.state.trials.values() for r in t.curve}
    assert sizes > {1}, "idle workers are distributed at the end"
    late = [t.started_s for t in found.state.trials.values()]
    assert max(late) < 600 - 4 * 10
