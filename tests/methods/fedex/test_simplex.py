"""The distribution over options: its step sizes, its updates and its gradient estimate."""

import math

import numpy as np
import pytest

from seer_nb.methods.fedex import FedEx
from seer_nb.methods.fedex.simplex import SCHEDULES, Simplex, StepSizes, discounted_mean
from tests.methods.fedex.small import KnownLosses


def test_step_sizes_match_values_computed_by_hand():
    gradients = [np.array([3.0, -4.0]), np.array([1.0, 0.0]), np.array([0.0, 0.0])]
    eta = math.sqrt(2 * math.log(2))

    def sizes(schedule, eta0=None):
        steps = StepSizes(schedule, 2, eta0)
        return [steps.next_size(gradient) for gradient in gradients]

    assert sizes("aggressive") == pytest.approx([eta / 4, eta, eta])
    assert sizes("adaptive") == pytest.approx([eta / 4, eta / math.sqrt(17), eta / math.sqrt(17)])
    assert sizes("auto") == pytest.approx([eta, eta / math.sqrt(2), eta / math.sqrt(3)])
    assert sizes("constant", 0.7) == [0.7] * 3
    assert sizes("scale", 0.5) == pytest.approx([0.5 * eta] * 3)


def test_discounted_mean_ranges_from_the_last_value_to_the_mean():
    assert discounted_mean([1.0, 2.0, 6.0], 0.0) == 6.0
    assert discounted_mean([1.0, 2.0, 6.0], 1.0) == 3.0
    assert discounted_mean([1.0, 2.0, 6.0], 0.5) == pytest.approx((0.25 * 1 + 0.5 * 2 + 6) / 1.75)


def test_gradient_estimate_is_unbiased():
    # Equal probabilities would hide a division by the wrong one, so skew them first.
    losses, baseline, rng = np.array([0.9, 0.4, 0.1]), 0.3, np.random.default_rng(0)
    simplex = Simplex(3, StepSizes("constant", 3, 1.0))
    simplex.update(np.array([0.0, 1.0, -0.5]))
    draws = np.array([simplex.draw(rng) for _ in range(100_000)])
    one = np.ones(1)
    by_option = [simplex.estimate_gradient([j], losses[[j]] - baseline, one) for j in range(3)]
    found = np.array(by_option)[draws]
    error = found.std(axis=0) / math.sqrt(len(draws))
    assert (np.abs(found.mean(axis=0) - (losses - baseline)) < 3 * error).all()


def test_gradient_estimate_weights_the_clients():
    simplex = Simplex(2, StepSizes("constant", 2, 1.0))
    found = simplex.estimate_gradient([0, 0, 1], np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.3, 0.5]))
    assert found == pytest.approx([(0.2 + 0.6) / 0.5, 1.5 / 0.5])


def test_update_moves_the_log_weights_against_the_gradient():
    simplex = Simplex(3, StepSizes("constant", 3, 0.5))
    gradient = np.array([1.0, -2.0, 0.25])
    simplex.update(gradient)
    simplex.update(gradient)
    wanted = np.exp(-gradient)
    assert simplex.theta == pytest.approx(wanted / wanted.sum())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_theta_is_a_distribution_after_every_round(schedule):
    configs = [{"loss": loss} for loss in (0.9, 0.5, 0.1, 0.7)]
    run = FedEx(KnownLosses(), configs, schedule=schedule, baseline=0.5, seed=1).run(200)
    for done in run.history:
        (theta,) = done.theta
        assert (theta >= 0).all()
        assert theta.sum() == pytest.approx(1.0, abs=1e-12)
        assert 0 <= done.entropy <= math.log(4) + 1e-12


def test_theta_stays_a_distribution_under_huge_gradients():
    simplex = Simplex(2, StepSizes("constant", 2, 1.0))
    simplex.update(np.array([1e9, 0.0]))
    assert simplex.theta.tolist() == [0.0, 1.0]
    simplex.update(np.array([0.0, 1e9]))
    assert simplex.theta.sum() == 1.0


def test_fedex_finds_the_configuration_with_the_least_loss():
    configs = [{"loss": loss} for loss in (0.9, 0.5, 0.1, 0.7)]
    hits = sum(
        FedEx(KnownLosses(), configs, schedule="adaptive", baseline=0.0, seed=seed).run(60).best_config["loss"] == 0.1
        for seed in range(10)
    )
    assert hits >= 9
