"""The distribution over configurations, its steps and its estimate, against hand values and by many draws."""

import math

import numpy as np
import pytest

from seer_nb.methods.fedex import FedEx
from seer_nb.methods.fedex.simplex import SCHEDULES, Simplex, Steps, discounted_mean
from tests.methods.fedex.small import Known


def test_the_schedules_match_hand_values():
    gradients = [np.array([3.0, -4.0]), np.array([1.0, 0.0]), np.array([0.0, 0.0])]
    eta = math.sqrt(2 * math.log(2))

    def steps(schedule, eta0=None):
        made = Steps(schedule, 2, eta0)
        return [made.next(gradient) for gradient in gradients]

    assert steps("aggressive") == pytest.approx([eta / 4, eta, eta])
    assert steps("adaptive") == pytest.approx([eta / 4, eta / math.sqrt(17), eta / math.sqrt(17)])
    assert steps("auto") == pytest.approx([eta, eta / math.sqrt(2), eta / math.sqrt(3)])
    assert steps("constant", 0.7) == [0.7] * 3
    assert steps("scale", 0.5) == pytest.approx([0.5 * eta] * 3)


def test_the_baseline_is_the_last_value_the_mean_or_between():
    assert discounted_mean([1.0, 2.0, 6.0], 0.0) == 6.0
    assert discounted_mean([1.0, 2.0, 6.0], 1.0) == 3.0
    assert discounted_mean([1.0, 2.0, 6.0], 0.5) == pytest.approx((0.25 * 1 + 0.5 * 2 + 6) / 1.75)


def test_the_estimate_is_unbiased():
    # Skewed first: with equal probabilities a wrong division would not be seen.
    losses, baseline, rng = np.array([0.9, 0.4, 0.1]), 0.3, np.random.default_rng(0)
    simplex = Simplex(3, Steps("constant", 3, 1.0))
    simplex.move(np.array([0.0, 1.0, -0.5]))
    draws = np.array([simplex.draw(rng) for _ in range(100_000)])
    one = np.ones(1)
    by_option = [simplex.gradient([j], losses[[j]] - baseline, one) for j in range(3)]
    found = np.array(by_option)[draws]
    error = found.std(axis=0) / math.sqrt(len(draws))
    assert (np.abs(found.mean(axis=0) - (losses - baseline)) < 3 * error).all()


def test_clients_count_by_their_weight():
    simplex = Simplex(2, Steps("constant", 2, 1.0))
    found = simplex.gradient([0, 0, 1], np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.3, 0.5]))
    assert found == pytest.approx([(0.2 + 0.6) / 0.5, 1.5 / 0.5])


def test_a_step_is_a_softmax_of_the_log_weights():
    simplex = Simplex(3, Steps("constant", 3, 0.5))
    gradient = np.array([1.0, -2.0, 0.25])
    simplex.move(gradient)
    simplex.move(gradient)
    wanted = np.exp(-gradient)
    assert simplex.theta == pytest.approx(wanted / wanted.sum())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_theta_is_always_a_distribution(schedule):
    configs = [{"loss": loss} for loss in (0.9, 0.5, 0.1, 0.7)]
    run = FedEx(Known(), configs, schedule=schedule, baseline=0.5, seed=1).run(200)
    for done in run.history:
        (theta,) = done.theta
        assert (theta >= 0).all()
        assert theta.sum() == pytest.approx(1.0, abs=1e-12)
        assert 0 <= done.entropy <= math.log(4) + 1e-12


def test_a_gradient_beyond_all_bounds_leaves_a_distribution():
    simplex = Simplex(2, Steps("constant", 2, 1.0))
    simplex.move(np.array([1e9, 0.0]))
    assert simplex.theta.tolist() == [0.0, 1.0]
    simplex.move(np.array([0.0, 1e9]))
    assert simplex.theta.sum() == 1.0


def test_the_best_of_known_losses_is_found():
    configs = [{"loss": loss} for loss in (0.9, 0.5, 0.1, 0.7)]
    hits = sum(
        FedEx(Known(), configs, schedule="adaptive", baseline=0.0, seed=seed).run(60).best_config["loss"] == 0.1
        for seed in range(10)
    )
    assert hits >= 9
