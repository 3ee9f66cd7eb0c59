"""Synchronous halving on a fixed cluster, against its definition."""

from collections import Counter

import pytest

from seer_nb import core, simulate
from seer_nb.policies import Halving
from seer_nb.policies._rungs import fixed_cluster_size
from seer_nb.policies._stages import current_stage
from tests.support.curve_tables import table
from tests.support.policy_views import gang, snapshot, trial

FOUR = tuple((number, "ready") for number in range(4))


def simulated(policy, **changes):
    given = {"deadline": 600, "budget": 6.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    return simulate.run(table(rows=300), policy, **{**given, **changes})


def jobs(*trials, n=9, **changes):
    plan = Halving(eta=3, n=n).decide(snapshot(*trials, machines=FOUR, **changes))
    return [(job.trial, job.workers, job.until) for job in plan.jobs], plan


# --- stages ---


def test_a_stage_has_one_in_eta_of_the_one_before():
    trials = [trial(k, k / 10) for k in range(9)]
    stage = current_stage(trials, 9, 3, (1, 3, 9), "max")
    assert (stage.number, stage.n_stages, stage.from_epoch, stage.until) == (2, 3, 1, 3)
    assert [t.id for t in stage.members] == [8, 7, 6]
    assert [verdict.trial for verdict in stage.verdicts] == [5, 4, 3, 2, 1, 0]


def test_no_trial_is_promoted_before_the_last_report():
    trials = [trial(k, k / 10) for k in range(8)] + [trial(8, state="running")]
    stage = current_stage(trials, 9, 3, (1, 3, 9), "max")
    assert stage.number == 1
    assert [t.id for t in stage.unfinished] == [8]
    assert not stage.verdicts


def test_a_failed_trial_does_not_delay_the_barrier():
    trials = [trial(k, k / 10) for k in range(8)] + [trial(8, state="failed")]
    assert current_stage(trials, 9, 3, (1, 3, 9), "max").number == 2


def test_at_least_one_trial_is_promoted():
    trials = [trial(k, k / 10, k / 10, k / 10) for k in range(2)]
    assert [t.id for t in current_stage(trials, 2, 3, (1, 3, 9), "min").members] == [0]


# --- plans ---


def test_survivors_share_all_workers():
    made, plan = jobs(*(trial(k, k / 10) for k in range(9)), stop_s=1000.0, budget_micro=4_200_000)
    assert fixed_cluster_size(snapshot(stop_s=1000.0, budget_micro=4_200_000)) == 4
    assert made == [(8, 1, 3), (7, 1, 3), (6, 1, 3)], "three trials, four workers: one each"
    assert plan.workers == 4
    made, _ = jobs(*(trial(k, *[k / 10] * 3) for k in range(3)), stop_s=1000.0, budget_micro=4_200_000, n=3)
    assert made == [(2, 4, 9)] or made[0][:2] == (2, 4)


def test_a_running_gang_keeps_its_workers_until_the_barrier():
    busy = trial(8, 0.8, state="running")
    made, _ = jobs(*(trial(k, k / 10) for k in range(8)), busy, gangs=(gang(0, busy, "0.0", until=3),))
    assert (8, 1, 3) in made


def test_done_when_the_last_survivors_are_trained():
    trials = [trial(0, *[0.5] * 9, state="completed")]
    plan = Halving(eta=3, n=1).decide(snapshot(*trials, machines=FOUR))
    assert plan.done
    assert plan.workers == 0


# --- whole studies ---


def test_cluster_size_is_what_the_budget_pays_for_until_the_deadline():
    found = simulated(Halving())
    # B / (c T) is ten; the lease of 30 s is reserved.
    assert found.peak_workers == 9
    assert not found.violated


def test_stage_sizes_and_rungs_of_a_whole_bracket():
    found = simulated(Halving(eta=3, n=27), deadline=4000, budget=40.0)
    lengths = Counter(len(t.curve) for t in found.state.trials.values())
    assert lengths == {1: 18, 3: 6, 9: 3}
    ends = {k: [t.curve[k - 1].at_s for t in found.state.trials.values() if len(t.curve) >= k] for k in (1, 3)}
    # A barrier: promoted trials start after the last report of rung 1.
    starts = [t.curve[1].at_s - t.curve[1].seconds for t in found.state.trials.values() if len(t.curve) > 1]
    assert min(starts) >= max(ends[1])


def test_n_is_the_number_of_configurations_that_fit():
    found = simulated(Halving(eta=3), deadline=600, budget=6.0)
    assert max(len(t.curve) for t in found.state.trials.values()) == 9
    assert found.elapsed_s > 0.7 * 600


def test_the_same_seed_gives_the_same_curves():
    assert simulated(Halving(), seed=3).curves().equals(simulated(Halving(), seed=3).curves())


@pytest.mark.parametrize(("changes", "name"), [({"eta": 1}, "eta=1"), ({"n": 0}, "n=0"), ({"top": -1}, "top=-1")])
def test_bad_arguments_are_refused(changes, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        Halving(**changes)


def test_a_pinned_trial_is_promoted():
    trials = [trial(k, k / 10, pinned=k == 0) for k in range(9)]
    plan = Halving(eta=3, n=9).decide(snapshot(*trials, machines=FOUR))
    assert 0 in {job.trial for job in plan.jobs}
    assert 0 not in {verdict.trial for verdict in plan.verdicts}
    assert isinstance(plan, core.Plan)
