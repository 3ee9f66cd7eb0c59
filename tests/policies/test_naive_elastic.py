"""Naive elasticity: halving with one worker per trial; idle machines are retired."""

import pytest

from seer_nb import simulate
from seer_nb.policies import NaiveElastic
from tests.support.curve_tables import table


def run(policy=None, **changes):
    given = {"deadline": 600, "budget": 3.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    return simulate.run(table(rows=300), policy or NaiveElastic(), **{**given, **changes})


def rented(found, at_s):
    return sum(x.rented_s <= at_s < (x.ended_s or 1e9) for x in found.state.machines.values())


def test_every_trial_has_one_worker():
    found = run()
    assert {r.parallelism for t in found.state.trials.values() for r in t.curve} == {1}
    assert not found.violated


def test_cluster_shrinks_with_the_stages():
    found = run()
    first = max(t.curve[0].at_s for t in found.state.trials.values())
    last = max(r.at_s for t in found.state.trials.values() for r in t.curve)
    assert rented(found, last - 1) < rented(found, first - 1) / 3


def test_n_is_the_number_of_configurations_that_the_budget_pays_for():
    assert run(budget=6.0).n_trials > 1.7 * run(budget=3.0).n_trials
    assert run(epoch_seconds=60.0, deadline=3600, budget=18.0).spent_usd > 0.75 * 18.0


def test_n_does_not_depend_on_the_deadline():
    """Unlike with a fixed cluster, which shrinks with a later deadline."""
    assert run(deadline=1200).n_trials == pytest.approx(run(deadline=600).n_trials, rel=0.1)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="first_rung=0: not a number of epochs"):
        NaiveElastic(first_rung=0)
