"""Grid search trains every configuration fully."""

from seer_nb import simulate
from seer_nb.policies import Grid, by_name
from tests.support.curve_tables import table


def run(**changes):
    given = {"deadline": 3000, "budget": 30.0, "epoch_seconds": 10.0, "offer": simulate.Offer(price_per_hour=3.6)}
    return simulate.run(table(rows=20), Grid(), **{**given, **changes})


def test_every_cell_is_trained_fully_and_none_is_eliminated():
    found = run()
    assert [len(t.curve) for t in found.state.trials.values()] == [9] * 20
    assert {t.state for t in found.state.trials.values()} == {"completed"}
    assert found.reason == "every configuration is trained"


def test_cluster_is_fixed_and_gangs_have_one_worker():
    found = run()
    assert found.peak_workers == 9
    assert {r.parallelism for t in found.state.trials.values() for r in t.curve} == {1}


def test_cells_that_do_not_fit_are_left_out():
    found = run(deadline=300, budget=0.5)
    assert 1 <= len(found.state.trials) < 20
    assert not found.violated


def test_grid_is_found_by_name():
    assert repr(by_name("grid")) == "Grid()"
