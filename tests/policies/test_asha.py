"""ASHA against its definition: a free worker promotes the best trial of the highest rung that has a free place."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from seer_nb import core
from seer_nb.policies import ASHA
from seer_nb.policies._rungs import fixed_cluster_size, rank_trials, rungs
from tests.support.effort import examples
from tests.support.fake_cloud import FakeCloud, World
from tests.support.policy_views import gang, snapshot, trial
from tests.support.records import OFFER

FOUR = tuple((number, "ready") for number in range(4))


def jobs(*trials, eta=3, **changes):
    """Return (trial, until) of the jobs that ASHA starts or continues."""
    plan = ASHA(eta=eta).decide(snapshot(*trials, machines=FOUR, **changes))
    return [(job.trial, job.until) for job in plan.jobs]


# --- rungs ---


@pytest.mark.parametrize(
    ("eta", "first", "top", "expected"),
    [
        (3, 1, 9, (1, 3, 9)),
        (3, 1, 27, (1, 3, 9, 27)),
        (4, 1, 16, (1, 4, 16)),
        (3, 2, 9, (2, 6, 9)),
        (2, 1, 1, (1,)),
        (3, 5, 3, (3,)),
        # A rung at 9 would only repeat the verdict at 10.
        (3, 1, 10, (1, 3, 10)),
    ],
)
def test_rungs_grow_by_eta_up_to_the_top(eta, first, top, expected):
    assert rungs(eta, first, top) == expected


@examples(50)
@given(st.integers(2, 5), st.integers(1, 20), st.integers(1, 500))
def test_rungs_ascend_to_the_top_in_every_case(eta, first, top):
    ladder = rungs(eta, first, top)
    assert list(ladder) == sorted(set(ladder))
    assert ladder[-1] == top


def test_trials_are_ranked_by_value_at_the_rung_and_diverged_ones_last():
    trials = [trial(0, 0.1, 0.9), trial(1, 0.5), trial(2, None), trial(3, 0.5), trial(4)]
    assert [t.id for t in rank_trials(trials, 1, "max")] == [1, 3, 0, 2]
    assert [t.id for t in rank_trials(trials, 1, "min")] == [0, 1, 3, 2]
    assert [t.id for t in rank_trials(trials, 2, "max")] == [0]


# --- the cluster ---


@pytest.mark.parametrize(
    ("budget", "size"),
    # 1000 micro-dollars a second for 600 s, and a lease of 30 s.
    [(1, 1), (629_999, 1), (630_000, 1), (1_259_999, 1), (1_260_000, 2), (10**9, 4)],
)
def test_cluster_size_is_what_the_budget_pays_for_until_the_deadline(budget, size):
    assert fixed_cluster_size(snapshot(stop_s=600.0, budget_micro=budget)) == size


def test_all_free_machines_are_used():
    assert fixed_cluster_size(snapshot(offers=(replace(OFFER, price_per_hour_micro=0),), budget_micro=1)) == 4


# --- the next trial ---


def test_every_worker_starts_a_configuration_at_first():
    assert jobs() == [(None, 1)] * 4


def test_one_in_eta_is_promoted_and_other_workers_start_new_trials():
    three = [trial(0, 0.1), trial(1, 0.3), trial(2, 0.2)]
    assert jobs(*three) == [(1, 3), (None, 1), (None, 1), (None, 1)]
    assert jobs(*three, mode="min")[0] == (0, 3)


def test_no_trial_is_promoted_before_eta_have_reported():
    assert jobs(trial(0, 0.1), trial(1, 0.3)) == [(None, 1)] * 4


def test_the_highest_rung_promotes_first():
    high = [trial(number, 0.5, 0.5, 0.5 + number / 100) for number in range(3)]
    low = [trial(number, number / 100) for number in range(3, 9)]
    # Three of nine may leave epoch 1, and three have; one of three may leave epoch 3.
    assert jobs(*high, *low)[:2] == [(2, 9), (None, 1)]


def test_a_promoted_trial_keeps_its_place():
    promoted = trial(0, 0.9, state="running")
    others = [trial(1, 0.5), trial(2, 0.4)]
    running = gang(0, promoted, "0.0", until=3)
    found = jobs(promoted, *others, gangs=(running,))
    assert found == [(0, 3), (None, 1), (None, 1), (None, 1)]


def test_a_late_report_can_promote_a_trial_that_was_passed_over():
    six = [trial(0, 0.9, 0.9, 0.9), *(trial(number, number / 100) for number in range(1, 6))]
    # Two of six are promoted: the first already was; trial 5 is the best of the others.
    assert jobs(*six)[0] == (5, 3)


def test_an_interrupted_trial_resumes_to_its_rung():
    assert jobs(trial(0, 0.5, 0.5))[0] == (0, 3)
    assert jobs(trial(0, *[0.5] * 5))[0] == (0, 9)


@pytest.mark.parametrize("state", ["stopped", "failed", "completed"])
def test_an_ended_trial_is_not_promoted_and_holds_its_place(state):
    ended = trial(0, 0.9, state=state)
    assert all(number is None for number, _ in jobs(ended, trial(1, 0.5), trial(2, 0.4)))


def test_running_gangs_continue_and_a_stopping_one_frees_its_place():
    running, stopping = trial(0, state="running"), trial(1, state="running")
    gangs = (gang(0, running, "0.0", until=1), gang(1, stopping, "1.0", until=1, stopping="a weak rank"))
    assert jobs(running, stopping, gangs=gangs) == [(0, 1), (None, 1), (None, 1), (None, 1)]


def test_an_exhausted_space_starts_no_more_than_was_drawn():
    assert jobs(waiting=2, exhausted=True) == [(None, 1)] * 2


def test_done_when_no_trial_can_be_promoted_or_started():
    plan = ASHA().decide(snapshot(trial(0, 0.5), trial(1, 0.4), exhausted=True))
    assert plan.done
    assert not plan.jobs
    assert plan.workers == 0


def test_there_are_no_verdicts():
    assert not ASHA().decide(snapshot(*(trial(n, n / 100) for n in range(20)))).verdicts


@examples(60)
@given(st.lists(st.lists(st.floats(0, 1), max_size=9), max_size=20), st.sampled_from([2, 3, 4]))
def test_promoted_trials_are_in_the_top_one_in_eta_of_their_rung(curves, eta):
    trials = [trial(number, *values) for number, values in enumerate(curves)]
    ladder = rungs(eta, 1, 9)
    for number, until in jobs(*trials, eta=eta):
        if number is None:
            assert until == 1
            continue
        epoch = trials[number].epoch
        assert until == min(rung for rung in ladder if rung > epoch)
        if epoch in ladder:
            better = [t for t in trials if t.epoch >= epoch and t.value_at(epoch) > trials[number].value_at(epoch)]
            reported = [t for t in trials if t.epoch >= epoch]
            assert len(better) < len(reported) // eta


# --- arguments and whole runs ---


@pytest.mark.parametrize(("kwargs", "name"), [({"eta": 1}, "eta=1"), ({"first_rung": 0}, "first_rung=0")])
def test_bad_arguments_are_refused(kwargs, name):
    with pytest.raises(ValueError, match=name):
        ASHA(**kwargs)


def test_cluster_runs_from_start_to_deadline():
    cloud = FakeCloud(ASHA(), World(), budget_micro=1_300_000).run()
    # Two workers for 600 s.
    assert len(cloud.machines) == 2
    assert cloud.now_s > 560.0
    assert max(trial.epoch for trial in cloud.state.trials.values()) == 9
    assert all(len(start.workers) == 1 for _, start in cloud.of(core.StartGang))


def test_a_finite_space_ends_the_study_early():
    cloud = FakeCloud(ASHA(), World(configs=9), budget_micro=10**9).run()
    epochs = sorted(trial.epoch for trial in cloud.state.trials.values())
    assert epochs == [1] * 6 + [3] * 2 + [9]
    assert cloud.now_s < 200.0
    assert math.isclose(cloud.now_s, max(box.ended_s for box in cloud.machines.values()), abs_tol=1e-6)
