"""Naive elasticity: halving with one worker a trial, idle workers handed back."""

import pytest

from seer_nb import simulate
from seer_nb.policies import NaiveElastic
from tests.support.curve_tables import table


def run(policy=None, **changes):
    given = {"deadline": 600, "budget": 3.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    return simulate.run(table(rows=300), policy or NaiveElastic(), **{**given, **changes})


def rented(found, at_s):
    return sum(x.rented_s <= at_s < (x.ended_s or 1e9) for x in found.state.machines.values())


def test_one_worker_a_trial_always():
    found = run()
    assert {r.parallelism for t in found.state.trials.values() for r in t.curve} == {1}
    assert not found.violated


def test_the_cluster_is_as_large_as_the_stage():
    found = run()
    first = max(t.curve[0].at_s for t in found.state.trials.values())
    last = max(r.at_s for t in found.state.trials.values() for r in t.curve)
    assert rented(found, last - 1) < rented(found, first - 1) / 3


def test_as_many_configurations_as_the_money_pays_for():
    assert run(budget=6.0).n_trials > 1.7 * run(budget=3.0).n_trials
    assert run(epoch_seconds=60.0, deadline=3600, budget=18.0).spent_usd > 0.75 * 18.0


def test_it_fills_the_money_whatever_the_deadline():
    """Unlike a fixed cluster, which a later deadline makes smaller."""
    assert run(deadline=1200).n_trials == pytest.approx(run(deadline=600).n_trials, rel=0.1)


def test_bad_arguments_get_a_sentence():
    with pytest.raises(ValueError, match="first_rung=0: not a number of epochs"):
        NaiveElastic(first_rung=0)
