"""Searches as studies on real workers: pauses and the number of workers do not change an arm."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import seer_nb as seer
from seer_nb._utils.randomness import derive_seed
from seer_nb.methods import fedex
from seer_nb.methods.fedex.arms import GangPool
from seer_nb.methods.fedex.client import ClientTask
from seer_nb.methods.result import MethodResult
from seer_nb.study import serialization
from seer_nb.worker import remote
from tests.methods.fedex.small import dropout_model, federation
from tests.study.test_life import Resizing
from tests.support.studies import assert_no_processes_left, kill, training, worker_pids
from tests.support.waiting import until

pytestmark = pytest.mark.slow

SERVER = {"lr": 1.0, "momentum": 0.9}
SMALL = {"fedex_k": 3, "clients_per_round": 5, "max_rounds": 6, "deadline": "10min", "budget": "$0.05"}
ONE = {"lr": seer.choice([0.1]), "batch": 8, "dropout": 0.1, "epochs": 1}
THREE = {"lr": seer.choice([0.01, 0.03, 0.1]), "batch": 8, "dropout": 0.1}
COLUMNS = ["epoch", "value", "global", "personal", "entropy", "mode"]


def slow_loss(outputs, targets):
    time.sleep(0.08)
    return torch.nn.functional.cross_entropy(outputs, targets)


def small(**more):
    return federation(12, make=dropout_model, count=300, **more)


def search(clients=None, space=ONE, **changes):
    given = {**SMALL, "provider": seer.Local(2), "policy": "grid", "server_space": SERVER, "name": "mine", **changes}
    return fedex.Search(small() if clients is None else clients, space, **given)


def train_without_study(arm, clients, rounds, seed=0):
    configs = [arm.options.config_at([option]) for option in range(*arm.options.sizes)]
    given = {"server": arm.settings, "clients_per_round": 5, "cutoff": 1e-4, "seed": derive_seed(seed, arm.number)}
    return fedex.FedEx(clients, configs, **given).run(rounds)


def check_curve(found, arm, clients):
    """Check that the arm's curve equals that of a run without a study, bit for bit."""
    expected = train_without_study(arm, clients, len(arm.history))
    rows = [(n, x.validation.personal, *x.validation, x.entropy, x.mode) for n, x in enumerate(expected.history, 1)]
    curves = found.curves()
    assert curves[curves.trial == arm.number][COLUMNS].to_numpy().tolist() == [list(map(float, row)) for row in rows]
    return expected


@pytest.mark.timeout(300)
def test_arm_resized_between_1_and_2_workers_equals_that_of_this_process(home):
    clients = small()
    started = search(clients, policy=Resizing(((2, 1), (4, 2), (6, 1)))).start()
    found = started.wait(280)
    assert started.study.curves().parallelism.tolist() == [1, 1, 2, 2, 1, 1]
    check_curve(found, found.arms[0], clients)
    assert_no_processes_left(home)


@pytest.mark.timeout(300)
def test_killed_worker_does_not_change_the_arm(home):
    clients = small(loss=slow_loss)
    started = search(clients, policy=Resizing(((6, 2),))).start()
    member = training(started.study, epochs=1).workers[1]
    kill(worker_pids(started.study)[member])
    found = started.wait(280)
    assert "-9" in str(started.study.events().details.to_list())
    check_curve(found, found.arms[0], clients)
    assert_no_processes_left(home)


@pytest.mark.timeout(300)
def test_result_has_tables_files_and_figures_and_matches_the_study(home, tmp_path):
    clients = small()
    started = search(clients, THREE).start()
    until(lambda: started.result().best, "a round")
    assert fedex.Search.attach("mine").result().rounds > 0
    found = started.wait()
    assert isinstance(found, MethodResult)
    assert found.reason == "every configuration is trained"
    assert 0 < found.spent_usd <= 0.05

    frame, best = found.frame, found.best
    assert frame.state.tolist() == ["completed"] * 3
    assert frame.rounds.tolist() == [6, 6, 6]
    assert len(found.curves()) == found.rounds == 18
    assert (best.trial, best.epoch, best.selection_score) == (
        *frame.loc[frame.selection_score.idxmin(), ["trial", "best_epoch", "selection_score"]],
    )
    assert (best.selection_score, best.epoch) == (found.study.best.value, found.study.best.epoch)

    expected = train_without_study(found.arms[best.trial], clients, best.epoch)
    assert np.array_equal(best.weights, expected.server.weights)
    assert best.test == expected.evaluate()
    assert best.config == expected.best_config
    assert best.server == fedex.ServerSettings(1.0, 0.9)
    assert frame.test_personal.dropna().to_dict() == {best.trial: best.test.personal}
    assert frame.test_error.dropna().to_dict() == {best.trial: best.test_error} == {best.trial: best.test.personal}
    for arm in found.arms:
        last = check_curve(found, arm, clients)
        assert (arm.best_config, arm.entropy) == (last.best_config, last.entropy)

    theta = found.theta()
    assert len(theta) == 3 * best.epoch
    assert theta.groupby("epoch").probability.sum().to_numpy() == pytest.approx(1.0)
    for table in ("results", "curves", "theta"):
        assert found.export(tmp_path / f"{table}.csv", table).stat().st_size > 0
    assert set(found.figures) == {"curves", "theta"}

    again = fedex.Search.attach("mine")
    assert np.array_equal(again.arm(best.trial).run(best.epoch).server.weights, best.weights)
    with pytest.raises(ValueError, match=r"trial=7 is not a trial of study 'mine'"):
        again.arm(7)
    assert repr(again) == "<Search 'mine': Federation(12 clients, 179 samples to train on)>"
    assert again.result().frame.equals(frame)
    assert_no_processes_left(home)


@pytest.mark.timeout(300)
def test_search_keeps_its_deadline_and_budget(home):
    started = search(space=None, server_space=None, policy="seer", budget="$0.01", max_rounds=1000).start()
    until(lambda: len(started.study.curves()) > 1, "two rounds")
    deadline_s = started.study.state.now_s + 6
    started.study.adjust(deadline=deadline_s)
    found = started.wait(100)
    assert found.reason.startswith("the deadline ")
    # The margin is for a loaded machine.
    assert found.wall_s <= deadline_s + 5
    assert 0 < found.spent_usd <= 0.01
    assert found.best.selection_score == started.study.best.value
    assert found.best.test is not None
    assert_no_processes_left(home)


def test_state_dict_restores_a_run_bit_for_bit():
    clients, configs = small(), [{"lr": 0.1}, {"lr": 0.3}]
    first, other = (fedex.FedEx(clients, configs, schedule="adaptive", clients_per_round=3) for _ in range(2))
    other.load_state_dict(first.run(2).state_dict())
    assert np.array_equal(first.run(2).server.weights, other.run(2).server.weights)
    assert str(first.history) == str(other.history)
    with pytest.raises(ValueError, match="has 2 options; expected 4"):
        fedex.FedEx(clients, configs * 2).load_state_dict(first.state_dict())


def test_gang_larger_than_the_round_exchanges_all_outcomes(monkeypatch):
    clients, size = small(), 3
    rates = ((0, 0.1), (1, 1e38))
    tasks = [
        ClientTask(client, fedex.ClientConfig(lr=lr, epochs=3), "validation", 0, returns_weights=True)
        for client, lr in rates
    ]
    weights = clients.trainer.initial_weights(0)
    sent_by_rank = []
    pools = [GangPool(clients, rank, size) for rank in range(size)]
    for pool in pools:
        sent = []
        monkeypatch.setattr(pool, "all_gather", lambda own, sent=sent: sent.append(own) or [own] * size)
        pool.run_tasks(weights, tasks)
        sent_by_rank.append(sent)
    exchanges = iter(zip(*sent_by_rank, strict=True))
    monkeypatch.setattr(pools[2], "all_gather", lambda _: next(exchanges))
    found, expected = pools[2].run_tasks(weights, tasks), clients.trainer.run_tasks(weights, tasks)
    assert np.array_equal(found[0].weights, expected[0].weights)
    assert found[1].weights is expected[1].weights is None
    assert [x[:2] for x in found] == [x[:2] for x in expected]


def test_trainer_unpickles_on_a_machine_without_seer_nb(tmp_path):
    (tmp_path / "seer_nb.zip").write_bytes(remote.archive(b""))
    (tmp_path / "function").write_bytes(serialization.ship(search().trainer).pickled)
    code = "import sys; sys.path.insert(0, 'seer_nb.zip'); import cloudpickle; "
    code += "print(cloudpickle.loads(open('function', 'rb').read()), sys.modules['seer_nb'].__file__)"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("<FedEx arms of Federation(12 clients"), done.stderr
    assert "seer_nb.zip" in done.stdout


def test_federation_too_large_to_send_is_rejected(home, monkeypatch):
    monkeypatch.setattr("seer_nb.methods.fedex.validation.MAX_DATA_BYTES", 2**16)
    with pytest.raises(ValueError, match="MiB of data are too large to send to each worker; expected at most"):
        search()


def test_search_displays_its_study(home, monkeypatch):
    shown = []
    monkeypatch.setattr(seer.Study, "_ipython_display_", lambda study: shown.append(study.name))
    search()._ipython_display_()
    assert shown == ["mine"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clients": 3}, "federation=3: expected a"),
        ({"target": "all"}, "target='all': unknown; expected one of 'global', 'personal'"),
        ({"fedex_k": 0}, "fedex_k=0: too small"),
        ({"eps": 2}, "eps=2: out of range"),
        ({"max_rounds": 0}, "max_rounds=0: too small"),
        ({"schedule": "fast"}, "schedule='fast': unknown"),
        ({"baseline": 2}, "baseline=2: out of range"),
        ({"cutoff": -1}, "cutoff=-1: out of range"),
        ({"clients_per_round": 0}, "clients_per_round=0: too small"),
        ({"space": {"rate": 1.0}}, "unknown hyperparameter 'rate'; expected lr"),
        ({"server_space": {"rate": 1.0}}, "server_space: unknown hyperparameter 'rate'; expected lr, momentum"),
        ({"policy": "best"}, "policy='best': unknown policy"),
        ({"provider": 3}, "provider=3 does not rent machines"),
        ({"budget": "$0"}, "budget="),
        ({"deadline": "soon"}, "deadline='soon'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_invalid_arguments_are_rejected(home, changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        search(**changes)
