"""``tune``: its ladders, its results, and the same errors on workers as in this process."""

import os
import signal
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb.methods.fedex import elimination, random_search, tune
from seer_nb.methods.fedex.client import ClientConfig, ClientTask
from seer_nb.methods.fedex.limits import Limits
from seer_nb.methods.fedex.options import client_space, neighbours
from seer_nb.methods.fedex.worker_pool import InProcessPool, open_pool
from seer_nb.methods.result import MethodResult
from seer_nb.search_space import Space
from tests.methods.fedex.small import dropout_model, federation

SMALL = {"max_rounds": 5, "total_rounds": 20, "wrapper": "sha", "eliminations": 1, "fedex_k": 3, "clients_per_round": 4}


def small():
    return federation(12, make=dropout_model, count=300)


def test_successive_elimination_promotes_a_third_at_each_rung():
    ladder = elimination(40, 200)
    assert (ladder.arms, ladder.rate, len(ladder.rungs)) == (27, 3, 4)
    assert ladder.rounds == 200
    assert random_search(40, 205).arms == 5


@given(st.integers(1, 3), st.integers(2, 4), st.integers(4, 60), st.integers(0, 900))
def test_elimination_uses_all_rounds_that_fit_and_no_more(eliminations, rate, most, more):
    total = most + sum(rate**i - 1 for i in range(1, eliminations + 1)) + more
    ladder = elimination(most, total, eliminations, rate)
    assert ladder.rounds <= total
    assert list(ladder.rungs) == sorted({*ladder.rungs})
    assert ladder.rungs[-1] == most
    # Rounds may remain only if the arm that reaches the top cannot train longer.
    assert total - ladder.rounds < rate - 1 or total - ladder.rounds == 0 or ladder.rungs[-2] >= most - eliminations - 1


def test_elimination_reduces_27_arms_to_1():
    found = tune(federation(6, count=60), max_rounds=4, total_rounds=60, wrapper="sha", fedex_k=2, clients_per_round=1)
    assert found.rounds <= 60
    assert sorted(Counter(found.frame.rounds).values()) == [1, 2, 6, 18]
    assert Counter(found.frame.state) == {"stopped": 26, "completed": 1}


def test_result_has_tables_files_and_figures(tmp_path):
    found = tune(small(), **SMALL)
    frame, curves = found.frame, found.curves()
    assert {
        "trial",
        "state",
        "selection_score",
        "test_error",
        "best_epoch",
        "config_lr",
        "config_server_lr",
        "entropy",
        "reason",
    } <= set(frame)
    assert len(curves) == found.rounds == frame.rounds.sum() <= 20
    assert found.best.selection_score == curves.value.min()
    assert frame.set_index("trial").test_personal.dropna().to_dict() == {found.best.trial: found.best.test.personal}
    assert found.theta().groupby(["trial", "epoch"]).probability.sum().to_numpy() == pytest.approx(1.0)
    for table in ("results", "curves", "theta"):
        assert len(pd.read_csv(found.export(tmp_path / f"{table}.csv", table))) > 0
    assert found.figures["curves"].data[1].name == f"best: arm {found.best.trial}"
    heat = found.figures["theta"].data[0]
    assert len(heat.z) == 3
    # Long names of the rows would leave no room for the map: they are in the hover text.
    assert list(heat.y) == ["0", "1", "2"]
    theta = found.theta()
    assert [row[0] for row in heat.text] == theta[theta.trial == found.best.trial].label[:3].tolist()
    assert isinstance(found, MethodResult)
    assert found.seed == 0
    assert found.wall_s >= curves.elapsed_s.max()


def test_global_target_ranks_arms_by_the_shared_model():
    found = tune(small(), **SMALL, target="global")
    assert found.best.selection_score == found.curves()["global"].min()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_workers_give_the_same_result_as_this_process_bit_for_bit():
    clients = small()
    here = tune(clients, **SMALL)
    there = tune(clients, **SMALL, provider=seer.Local(max_workers=2), budget="$0.01", deadline="2min")
    assert np.array_equal(here.best.weights, there.best.weights)
    assert here.best.test == there.best.test
    assert 0 < there.spent_usd <= 0.01
    assert here.curves().drop(columns="elapsed_s").equals(there.curves().drop(columns="elapsed_s"))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_lost_worker_does_not_change_the_outcomes():
    clients = federation(12, make=dropout_model, count=300)
    config = ClientConfig(lr=0.1, dropout=0.3)
    tasks = [ClientTask(client, config, "validation", client, returns_weights=True) for client in range(12)]
    weights = clients.trainer.initial_weights(0)
    here = InProcessPool(clients).run_tasks(weights, tasks)
    limits = Limits.from_arguments("2min", "$0.01", provider := seer.Local(2))
    with open_pool(clients, provider, None, 12, limits) as pool:
        pool.run_tasks(weights, tasks)
        machine = next(iter(pool.fleet.rented.values()))
        os.kill(machine.process.pid, signal.SIGKILL)
        there = pool.run_tasks(weights, tasks)
    assert all(np.array_equal(one.weights, other.weights) for one, other in zip(here, there, strict=True))
    assert not limits.ledger.accounts[0]
    assert 0 < limits.spent_usd() <= 0.01


def test_deadline_ends_a_search_with_the_best_state_so_far():
    found = tune(small(), max_rounds=10_000, total_rounds=20_000, deadline="1s", clients_per_round=2)
    assert found.wall_s < 5
    assert 0 < found.rounds < 20_000
    assert found.reason == "the deadline was reached"
    assert found.best.test is not None
    assert set(found.frame.state) == {"stopped"}


def test_neighbours_stay_close_and_within_the_range():
    space, rng = Space(client_space()), np.random.default_rng(0)
    for _ in range(50):
        centre, *others = neighbours(space, 9, 0.1, rng)
        for config in others:
            assert abs(np.log10(config["lr"] / centre["lr"])) <= 0.4 + 1e-9
            assert 1e-4 <= config["lr"] <= 1
            assert abs(config["epochs"] - centre["epochs"]) <= 1
            assert 0.5 <= config["batch"] / centre["batch"] <= 2
            assert abs(config["dropout"] - centre["dropout"]) <= 0.05 + 1e-9
    assert len({tuple(c.values()) for c in neighbours(space, 5, 0.0, rng)}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"federation": 3}, "federation=3: expected a"),
        ({"wrapper": "grid"}, "wrapper='grid': unknown; expected one of 'random', 'sha'"),
        ({"total_rounds": 3}, "total_rounds=3: too small; expected at least max_rounds=5"),
        ({"wrapper": "sha", "total_rounds": 30}, "too small for eliminations=3 at rate=3; expected at least 5 and 41"),
        ({"target": "all"}, "target='all': unknown"),
        ({"fedex_k": 0}, "fedex_k=0: too small"),
        ({"eps": 2}, "eps=2: out of range"),
        ({"client_space": {"rate": 1.0}}, "unknown hyperparameter 'rate'"),
        ({"server_space": {"rate": 1.0}}, "server_space: unknown hyperparameter 'rate'; expected lr, momentum"),
        ({"server_space": {"decay": 0.1, "gamma": 0.9}}, "server_space: has both decay and gamma"),
        ({"budget": 1}, "budget=1: nothing costs money without a provider; expected provider="),
        ({"provider": 3}, "provider=3: not a provider"),
        ({"provider": seer.Local(1)}, "costs money; expected a budget="),
        ({"workers": 2}, "workers=2: needs a provider"),
        ({"deadline": "soon"}, "deadline='soon': not a length of time"),
    ],
)
def test_invalid_arguments_are_rejected(changes, message):
    given = {"federation": federation(5, count=100), "max_rounds": 5, "total_rounds": 10, **changes}
    with pytest.raises((TypeError, ValueError), match=message):
        tune(given.pop("federation"), **given)
