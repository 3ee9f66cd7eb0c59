"""FedEx on a federation that trains, and on a server whose losses are known."""

import math

import numpy as np
import pytest

from seer_nb.methods.fedex import FedEx, Server, ServerSettings
from tests.methods.fedex.small import CONFIGS, GOOD, Known, dropping, federation

ROUNDS = 60
HOPELESS = (0, 6)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_one_shared_model_learns_which_learning_rate_works():
    # All seeds, and all configurations by themselves, are measured by `python -m seer_nb.bench fedex`.
    clients = federation()
    found = FedEx(clients, CONFIGS, baseline=0.9, seed=0).run(ROUNDS)
    uniform = FedEx(clients, CONFIGS, schedule="constant", eta0=1e-12, seed=0).run(ROUNDS)
    single = [FedEx(clients, [CONFIGS[place]], seed=0).run(ROUNDS).evaluate() for place in HOPELESS]
    reached = np.array(found.evaluate())
    assert (reached < 0.5 * np.array(uniform.evaluate())).all()
    # The mean of all configurations is no less than if the others had no error at all.
    assert (reached < 0.5 * np.sum(single, axis=0) / len(CONFIGS)).all()
    assert found.best_config["lr"] in GOOD


def test_with_one_configuration_it_is_federated_averaging_bit_for_bit():
    clients, config = federation(20, make=dropping, count=400), {"lr": 0.1, "dropout": 0.3, "batch": 8}
    run = FedEx(clients, [config], schedule="auto", seed=5).run(4)
    plain = Server(clients, seed=5)
    for _ in range(4):
        plain.communication_round(lambda: config)
    assert np.array_equal(run.server.weights, plain.weights)
    assert run.theta[0].tolist() == [1.0]


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    clients = federation(20, make=dropping, count=400)
    runs = [FedEx(clients, CONFIGS, seed=seed).run(3) for seed in (1, 1, 2)]
    weights = [run.server.weights for run in runs]
    assert np.array_equal(weights[0], weights[1])
    assert runs[0].baseline == runs[1].baseline != runs[2].baseline
    assert not np.array_equal(weights[0], weights[2])


def test_looking_at_the_test_error_changes_nothing():
    clients = federation(20, make=dropping, count=400)
    plain, looked = (FedEx(clients, CONFIGS, seed=1) for _ in range(2))
    plain.run(4)
    looked.run(2)
    assert looked.evaluate() == looked.evaluate()
    looked.copy().run(3)
    looked.run(2)
    assert np.array_equal(plain.server.weights, looked.server.weights)
    assert plain.theta[0].tolist() == looked.theta[0].tolist()


def test_a_product_grid_has_a_distribution_for_each_hyperparameter():
    class Grid(Known):
        def communication_round(self, get_config):
            def loss(config):
                return {"loss": 0.4 * (config["b"] != 2) + 0.4 * (config["a"] != "y")}

            return self._answers(lambda: loss(get_config()))

    run = FedEx(Grid(), {"b": [1, 2, 3], "a": ["x", "y"]}, schedule="adaptive", baseline=0.5, seed=0)
    assert (run.options.names, run.options.sizes) == (("a", "b"), (2, 3))
    assert run.entropy == pytest.approx(math.log(6))
    run.run(60)
    assert run.best_config == {"a": "y", "b": 2}
    assert all(theta.sum() == pytest.approx(1.0) for theta in run.theta)


def test_below_the_cutoff_theta_stays_and_its_mode_is_used():
    run = FedEx(Known(), [{"loss": 0.9}, {"loss": 0.1}], cutoff=0.5, baseline=0.0, seed=0)
    while not run.stopped:
        run.step()
    theta = run.theta[0]
    last = run.step()
    assert last.theta[0].tolist() == theta.tolist()
    assert last.validation.personal == pytest.approx(run.best_config["loss"])


def test_a_client_that_diverges_counts_as_wrong_and_does_not_spoil_the_model():
    clients = federation(20, count=400)
    run = FedEx(clients, [{"lr": 1e30, "epochs": 5, "batch": 4}, {"lr": 0.1}], seed=0).run(10)
    assert np.isfinite(run.server.weights).all()
    assert run.best_config["lr"] == 0.1


def test_the_server_takes_momentum_and_decay():
    clients, settings = federation(20, count=400), ServerSettings(lr=0.5, momentum=0.9, gamma=0.8)
    whole, half = Server(clients, seed=1), Server(clients, settings, seed=1)
    w0 = whole.weights.astype(np.float64)
    for server in (whole, half):
        server.communication_round(lambda: {"lr": 0.1})
    g1 = w0 - whole.weights
    assert half.weights == pytest.approx(w0 - 0.5 * g1, abs=1e-6)
    w1 = half.weights.astype(np.float64)
    # The same second round by a server of rate 1, from the same weights: it shows the pseudo-gradient.
    other = half.copy()
    other._settings, other._velocity = ServerSettings(), None
    half.communication_round(lambda: {"lr": 0.1})
    other.communication_round(lambda: {"lr": 0.1})
    g2 = w1 - other.weights
    assert half.weights == pytest.approx(w1 - 0.5 * 0.8 * (0.9 * g1 + g2), abs=1e-6)


def test_fedprox_keeps_clients_close_to_what_they_were_sent():
    clients = federation(20, count=400)
    moved = []
    for mu in (0.0, 1.0):
        server = Server(clients, seed=1)
        before = server.weights
        server.communication_round(lambda mu=mu: {"lr": 0.1, "epochs": 5, "batch": 4, "mu": mu})
        moved.append(np.linalg.norm(server.weights - before))
    assert moved[1] < 0.8 * moved[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"configs": []}, "configs=\\[\\] is empty"),
        ({"configs": 3}, "configs=3 is neither a list nor a dict"),
        ({"configs": [{"rate": 1}]}, "configs\\[0\\] has the hyperparameter 'rate': clients know lr, momentum"),
        (
            {"configs": {"lr": [0.1, -1.0]}},
            "configs\\['lr'\\]=-1.0: out of range; expected a finite number > 0",
        ),
        ({"schedule": "fast"}, "schedule='fast': unknown; expected one of 'aggressive'"),
        ({"baseline": 2}, "baseline=2: out of range; expected a finite number >= 0 and <= 1"),
        ({"eta0": math.nan}, "eta0=nan: out of range"),
        ({"seed": -1}, "seed=-1: too small"),
        ({"clients_per_round": 0}, "clients_per_round=0: too small"),
        ({"federation": 3}, "federation=3 is no federation"),
        ({"server": ServerSettings(gamma=2.0)}, "gamma of the server=2.0: out of range"),
    ],
)
def test_what_cannot_be_is_said(changes, sentence):
    given = {"federation": federation(5, count=100), "configs": [{"lr": 0.1}], **changes}
    with pytest.raises((TypeError, ValueError), match=sentence):
        FedEx(given.pop("federation"), given.pop("configs"), **given)
