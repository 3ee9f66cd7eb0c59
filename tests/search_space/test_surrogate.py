"""Proposals: what a forest makes of the trials so far, in spaces with and without an end."""

import itertools

import numpy as np
import pytest
from msgspec.structs import replace

import seer_nb as seer
from seer_nb.search_space import Space
from seer_nb.search_space.sampler import ConfigSampler
from seer_nb.search_space.surrogate import LEAST, Features, Proposer, SpaceProposer
from tests.support.policy_views import trial

BOWL = {"lr": seer.loguniform(1e-5, 1.0), "width": seer.lograndint(4, 512), "act": seer.choice(["relu", "tanh"])}
GRID = {"a": seer.randint(1, 6), "b": seer.choice(["x", "y", "z"])}


def loss(config):
    """Least at lr = 0.01, width = 64, with tanh."""
    away = (np.log10(config["lr"]) + 2) ** 2 + (np.log2(config["width"]) - 6) ** 2 / 4
    return float(away + (config["act"] == "relu"))


def trials(space, count, value=loss, seed=0):
    """As random search begins."""
    sampler = ConfigSampler(Space(space), seed=seed)
    configs = [sampler.draw(number) for number in range(count)]
    return [replace(trial(number, value(config)), config=config) for number, config in enumerate(configs)]


# --- features ---


def test_logarithmic_scales_are_given_or_judged():
    configs = [{"lr": 10.0**-k, "layers": k} for k in range(1, 6)]
    by_range, as_told = Features(configs)(configs), Features(configs, log=["layers"])(configs)
    assert np.allclose(np.diff(by_range, axis=0), [-np.log(10), 1])
    assert np.allclose(as_told[:, 0], [10.0**-k for k in range(1, 6)])
    assert np.allclose(as_told[:, 1], np.log(range(1, 6)))


def test_options_have_a_column_each_and_booleans_are_options():
    configs = [{"act": "relu", "bias": True}, {"act": "tanh", "bias": False}]
    assert Features(configs)(configs).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]


# --- ranking ---


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_candidates_come_first(mode):
    sign = 1 if mode == "min" else -1
    x = np.linspace(0, 1, 60)[:, None]
    values = sign * (x[:, 0] - 0.3) ** 2
    told = [trial(number, float(value)) for number, value in enumerate(values)]
    candidates = np.linspace(0.01, 0.99, 40)[:, None]
    order = Proposer(mode, seed=0).rank(x, told, candidates)
    assert sorted(order) == list(range(40))
    assert np.abs(candidates[order[:5], 0] - 0.3).max() < 0.1
    assert np.abs(candidates[order[-5:], 0] - 0.3).min() > 0.5


def test_who_diverged_or_failed_is_last_and_who_has_not_reported_tells_nothing():
    x = np.arange(20.0)[:, None]
    told = [trial(number, None if number < 5 else number / 20) for number in range(16)]
    told += [trial(number, state="failed" if number < 18 else "running") for number in range(16, 20)]
    order = Proposer("max", seed=0).rank(x, told, x[:18])
    assert set(order[-5:]) <= {0, 1, 2, 3, 4, 16, 17}
    assert Proposer("max", seed=0).rank(x[18:], told[18:], x) is None


def test_too_few_reports_tell_nothing():
    told = trials(BOWL, LEAST)
    assert SpaceProposer(Space(BOWL), "min", 0).propose(told[:-1], set()) is None
    assert SpaceProposer(Space(BOWL), "min", 0).propose(told, set()) is not None


# --- spaces ---


def test_proposals_are_better_than_random_configurations():
    told = trials(BOWL, 40)
    proposer = SpaceProposer(Space(BOWL), "min", 0)
    proposed = [loss(proposer.propose(told, set())) for _ in range(20)]
    assert np.median(proposed) < np.quantile([loss(t.config) for t in told], 0.1)


def test_the_same_seed_proposes_the_same():
    told = trials(BOWL, 20)
    first, again, other = (SpaceProposer(Space(BOWL), "min", seed).propose(told, set()) for seed in (1, 1, 2))
    assert first == again != other


def test_a_finite_space_is_gone_through_once_with_proposals_among_random_ones():
    space = Space(GRID)
    sampler = ConfigSampler(space, seed=3)
    drawn = []
    for number in itertools.count():
        told = [trial_of(n, config) for n, config in enumerate(drawn)]
        config = sampler.draw(number, told if number % 2 else None)
        if config is None:
            break
        drawn.append(config)
    assert len(drawn) == len({space.key(config) for config in drawn}) == 18
    assert sampler.draw(18) is None


def trial_of(number, config):
    return replace(trial(number, config["a"] / 6), config=config)


def test_after_a_restart_nothing_is_drawn_twice():
    space = Space(GRID)
    first = ConfigSampler(space, seed=3)
    drawn = [first.draw(number) for number in range(9)]
    told = [trial_of(number, config) for number, config in enumerate(drawn)]
    drawn.append(first.draw(9, told))
    again = ConfigSampler(space, seed=3)
    again.restore([trial_of(number, config) for number, config in enumerate(drawn)])
    rest = list(iter(lambda: again.draw(10), None))
    assert len({space.key(config) for config in drawn + rest}) == len(drawn) + len(rest) == 18


def test_values_beyond_single_precision_are_taken_as_its_largest():
    configs = [{"x": -1e300}, {"x": 0.1}, {"x": 1e300}]
    rows = Features(configs)(configs)
    assert np.isfinite(rows.astype(np.float32)).all()
    assert rows[:, 0].tolist() == sorted(rows[:, 0].tolist())
