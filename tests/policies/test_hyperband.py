"""Hyperband against the formula of its brackets."""

import math

import pytest

from seer_nb import simulate
from seer_nb.policies import Hyperband
from seer_nb.policies.hyperband import brackets
from tests.support.curve_tables import table


def test_brackets_match_the_table_in_the_paper():
    """Table 1 of Li et al., JMLR 2018: R = 81, eta = 3."""
    assert brackets(3, 81) == [
        (4, 81, (1, 3, 9, 27, 81)),
        (3, 34, (3, 9, 27, 81)),
        (2, 15, (9, 27, 81)),
        (1, 8, (27, 81)),
        (0, 5, (81,)),
    ]


@pytest.mark.parametrize("eta", [2, 3, 4, 5])
@pytest.mark.parametrize("most", [1, 2, 9, 27, 50, 81, 100, 243, 625])
def test_brackets_match_the_formula(eta, most):
    largest = math.floor(math.log(most) / math.log(eta) + 1e-9)
    found = brackets(eta, most)
    assert [s for s, _, _ in found] == list(range(largest, -1, -1))
    for s, n, epochs in found:
        assert n == math.ceil((largest + 1) * eta**s / (s + 1))
        assert epochs == tuple(int(most * eta ** (i - s) + 1e-9) for i in range(s + 1))
        assert epochs[-1] == most


def run(**changes):
    given = {"deadline": 3000, "budget": 30.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    return simulate.run(table(rows=200), Hyperband(eta=3), **{**given, **changes})


def test_first_round_of_brackets():
    """With R = 9: nine trials from epoch 1, five from epoch 3, three from epoch 9."""
    found = run()
    lengths = [len(t.curve) for t in found.state.trials.values()]
    assert sorted(lengths[:9]) == [1, 1, 1, 1, 1, 1, 3, 3, 9]
    assert sorted(lengths[9:14]) == [3, 3, 3, 3, 9]
    assert lengths[14:17] == [9, 9, 9]
    # And again from the beginning.
    assert sorted(lengths[17:26]) == [1, 1, 1, 1, 1, 1, 3, 3, 9]


def test_one_worker_per_trial_on_a_fixed_cluster():
    found = run()
    assert {r.parallelism for t in found.state.trials.values() for r in t.curve} == {1}
    # B / (c T) is ten; the lease is reserved.
    assert found.peak_workers == 9
    assert not found.violated


def test_study_ends_when_the_configurations_do():
    found = simulate.run(
        table(rows=10), Hyperband(eta=3), deadline=30_000, budget=300.0, offer=simulate.Offer(price_per_hour=3.6)
    )
    assert len(found.state.trials) == 10
    assert "every bracket is trained" in found.reason


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="eta=1: too small; expected an integer >= 2"):
        Hyperband(eta=1)
