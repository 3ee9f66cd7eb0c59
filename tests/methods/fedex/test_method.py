"""FedEx on a federation that trains, and on a server with known losses."""

import math

import numpy as np
import pytest

from seer_nb.methods.fedex import FedEx, Server, ServerSettings
from tests.methods.fedex.small import CONFIGS, GOOD, KnownLosses, dropout_model, federation

ROUNDS = 60
USELESS = (0, 6)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_fedex_halves_the_error_of_uniform_sampling():
    # `python -m seer_nb.bench fedex` measures more seeds, and all configurations by themselves.
    clients = federation()
    found = FedEx(clients, CONFIGS, baseline=0.9, seed=0).run(ROUNDS)
    uniform = FedEx(clients, CONFIGS, schedule="constant", eta0=1e-12, seed=0).run(ROUNDS)
    single = [FedEx(clients, [CONFIGS[index]], seed=0).run(ROUNDS).evaluate() for index in USELESS]
    reached = np.array(found.evaluate())
    assert (reached < 0.5 * np.array(uniform.evaluate())).all()
    # A lower bound of the mean over all configurations: the other ones count as error 0.
    assert (reached < 0.5 * np.sum(single, axis=0) / len(CONFIGS)).all()
    assert found.best_config["lr"] in GOOD


def test_one_configuration_equals_federated_averaging_bit_for_bit():
    clients, config = federation(20, make=dropout_model, count=400), {"lr": 0.1, "dropout": 0.3, "batch": 8}
    run = FedEx(clients, [config], schedule="auto", seed=5).run(4)
    plain = Server(clients, seed=5)
    for _ in range(4):
        plain.communication_round(lambda: config)
    assert np.array_equal(run.server.weights, plain.weights)
    assert run.theta[0].tolist() == [1.0]


def test_a_run_depends_on_the_seed_only():
    clients = federation(20, make=dropout_model, count=400)
    runs = [FedEx(clients, CONFIGS, seed=seed).run(3) for seed in (1, 1, 2)]
    weights = [run.server.weights for run in runs]
    assert np.array_equal(weights[0], weights[1])
    assert runs[0].baseline == runs[1].baseline != runs[2].baseline
    assert not np.array_equal(weights[0], weights[2])


def test_evaluation_does_not_change_later_rounds():
    clients = federation(20, make=dropout_model, count=400)
    plain, evaluated = (FedEx(clients, CONFIGS, seed=1) for _ in range(2))
    plain.run(4)
    evaluated.run(2)
    assert evaluated.evaluate() == evaluated.evaluate()
    evaluated.copy().run(3)
    evaluated.run(2)
    assert np.array_equal(plain.server.weights, evaluated.server.weights)
    assert plain.theta[0].tolist() == evaluated.theta[0].tolist()


def test_product_grid_has_one_distribution_per_hyperparameter():
    class Grid(KnownLosses):
        def communication_round(self, get_config):
            def loss(config):
                return {"loss": 0.4 * (config["b"] != 2) + 0.4 * (config["a"] != "y")}

            return self.errors(lambda: loss(get_config()))

    run = FedEx(Grid(), {"b": [1, 2, 3], "a": ["x", "y"]}, schedule="adaptive", baseline=0.5, seed=0)
    assert (run.options.names, run.options.sizes) == (("a", "b"), (2, 3))
    assert run.entropy == pytest.approx(math.log(6))
    run.run(60)
    assert run.best_config == {"a": "y", "b": 2}
    assert all(theta.sum() == pytest.approx(1.0) for theta in run.theta)


def test_theta_is_frozen_at_its_mode_below_the_entropy_cutoff():
    run = FedEx(KnownLosses(), [{"loss": 0.9}, {"loss": 0.1}], cutoff=0.5, baseline=0.0, seed=0)
    while not run.stopped:
        run.step()
    theta = run.theta[0]
    last = run.step()
    assert last.theta[0].tolist() == theta.tolist()
    assert last.validation.personal == pytest.approx(run.best_config["loss"])


def test_diverging_client_has_error_1_and_is_left_out_of_the_mean():
    clients = federation(20, count=400)
    run = FedEx(clients, [{"lr": 1e30, "epochs": 5, "batch": 4}, {"lr": 0.1}], seed=0).run(10)
    assert np.isfinite(run.server.weights).all()
    assert run.best_config["lr"] == 0.1


def test_server_applies_momentum_and_learning_rate_decay():
    clients, settings = federation(20, count=400), ServerSettings(lr=0.5, momentum=0.9, gamma=0.8)
    whole, half = Server(clients, seed=1), Server(clients, settings, seed=1)
    w0 = whole.weights.astype(np.float64)
    for server in (whole, half):
        server.communication_round(lambda: {"lr": 0.1})
    g1 = w0 - whole.weights
    assert half.weights == pytest.approx(w0 - 0.5 * g1, abs=1e-6)
    w1 = half.weights.astype(np.float64)
    # A server of rate 1 takes the same second round from the same weights, which shows the pseudo-gradient.
    other = Server(clients, seed=1)
    other.load_state_dict({**half.state_dict(), "velocity": None})
    half.communication_round(lambda: {"lr": 0.1})
    other.communication_round(lambda: {"lr": 0.1})
    g2 = w1 - other.weights
    assert half.weights == pytest.approx(w1 - 0.5 * 0.8 * (0.9 * g1 + g2), abs=1e-6)


def test_fedprox_keeps_clients_close_to_the_received_weights():
    clients = federation(20, count=400)
    moved = []
    for mu in (0.0, 1.0):
        server = Server(clients, seed=1)
        before = server.weights
        server.communication_round(lambda mu=mu: {"lr": 0.1, "epochs": 5, "batch": 4, "mu": mu})
        moved.append(np.linalg.norm(server.weights - before))
    assert moved[1] < 0.8 * moved[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"configs": []}, "configs=\\[\\]: empty"),
        ({"configs": 3}, "configs=3: neither a list nor a dict"),
        ({"configs": [{"rate": 1}]}, "configs\\[0\\]: unknown hyperparameter 'rate'; expected lr, momentum"),
        (
            {"configs": {"lr": [0.1, -1.0]}},
            "configs\\['lr'\\]=-1.0: out of range; expected a finite number > 0",
        ),
        ({"schedule": "fast"}, "schedule='fast': unknown; expected one of 'aggressive'"),
        ({"baseline": 2}, "baseline=2: out of range; expected a finite number >= 0 and <= 1"),
        ({"eta0": math.nan}, "eta0=nan: out of range"),
        ({"seed": -1}, "seed=-1: too small"),
        ({"clients_per_round": 0}, "clients_per_round=0: too small"),
        ({"federation": 3}, "federation=3: not a federation"),
        ({"server": ServerSettings(gamma=2.0)}, "gamma of the server=2.0: out of range"),
    ],
)
def test_invalid_arguments_are_rejected(changes, message):
    given = {"federation": federation(5, count=100), "configs": [{"lr": 0.1}], **changes}
    with pytest.raises((TypeError, ValueError), match=message):
        FedEx(given.pop("federation"), given.pop("configs"), **given)
