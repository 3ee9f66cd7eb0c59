"""Proposals by a forest, in finite and infinite spaces."""

import itertools

import numpy as np
import pytest
from msgspec.structs import replace

import seer_nb as seer
from seer_nb.search_space import Space
from seer_nb.search_space.sampler import ConfigSampler
from seer_nb.search_space.surrogate import MIN_TRIALS, Features, Proposer, SpaceProposer
from tests.support.policy_views import trial

BOWL = {"lr": seer.loguniform(1e-5, 1.0), "width": seer.lograndint(4, 512), "act": seer.choice(["relu", "tanh"])}
GRID = {"a": seer.randint(1, 6), "b": seer.choice(["x", "y", "z"])}


def loss(config):
    """Return a loss with its minimum at lr = 0.01, width = 64, act = tanh."""
    away = (np.log10(config["lr"]) + 2) ** 2 + (np.log2(config["width"]) - 6) ** 2 / 4
    return float(away + (config["act"] == "relu"))


def trials(space, count, value=loss, seed=0):
    """Return the first trials of random search."""
    sampler = ConfigSampler(Space(space), seed=seed)
    configs = [sampler.draw(number) for number in range(count)]
    return [replace(trial(number, value(config)), config=config) for number, config in enumerate(configs)]


# --- features ---


def test_logarithmic_scales_are_given_or_inferred():
    configs = [{"lr": 10.0**-k, "layers": k} for k in range(1, 6)]
    inferred, given = Features(configs)(configs), Features(configs, log=["layers"])(configs)
    assert np.allclose(np.diff(inferred, axis=0), [-np.log(10), 1])
    assert np.allclose(given[:, 0], [10.0**-k for k in range(1, 6)])
    assert np.allclose(given[:, 1], np.log(range(1, 6)))


def test_each_option_has_a_column_and_booleans_are_options():
    configs = [{"act": "relu", "bias": True}, {"act": "tanh", "bias": False}]
    assert Features(configs)(configs).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]


# --- ranking ---


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_candidates_come_first(mode):
    sign = 1 if mode == "min" else -1
    x = np.linspace(0, 1, 60)[:, None]
    values = sign * (x[:, 0] - 0.3) ** 2
    known = [trial(number, float(value)) for number, value in enumerate(values)]
    candidates = np.linspace(0.01, 0.99, 40)[:, None]
    order = Proposer(mode, seed=0).rank(x, known, candidates)
    assert sorted(order) == list(range(40))
    assert np.abs(candidates[order[:5], 0] - 0.3).max() < 0.1
    assert np.abs(candidates[order[-5:], 0] - 0.3).min() > 0.5


def test_diverged_and_failed_trials_are_last_and_silent_ones_are_ignored():
    x = np.arange(20.0)[:, None]
    known = [trial(number, None if number < 5 else number / 20) for number in range(16)]
    known += [trial(number, state="failed" if number < 18 else "running") for number in range(16, 20)]
    order = Proposer("max", seed=0).rank(x, known, x[:18])
    assert set(order[-5:]) <= {0, 1, 2, 3, 4, 16, 17}
    assert Proposer("max", seed=0).rank(x[18:], known[18:], x) is None


def test_no_proposal_from_too_few_reports():
    known = trials(BOWL, MIN_TRIALS)
    assert SpaceProposer(Space(BOWL), "min", 0).propose(known[:-1], set()) is None
    assert SpaceProposer(Space(BOWL), "min", 0).propose(known, set()) is not None


# --- spaces ---


def test_proposals_are_better_than_random_configurations():
    known = trials(BOWL, 40)
    proposer = SpaceProposer(Space(BOWL), "min", 0)
    proposed = [loss(proposer.propose(known, set())) for _ in range(20)]
    assert np.median(proposed) < np.quantile([loss(t.config) for t in known], 0.1)


def test_the_same_seed_gives_the_same_proposal():
    known = trials(BOWL, 20)
    first, again, other = (SpaceProposer(Space(BOWL), "min", seed).propose(known, set()) for seed in (1, 1, 2))
    assert first == again != other


def test_proposed_and_random_configurations_of_a_finite_space_do_not_repeat():
    space = Space(GRID)
    sampler = ConfigSampler(space, seed=3)
    drawn = []
    for number in itertools.count():
        known = [trial_of(n, config) for n, config in enumerate(drawn)]
        config = sampler.draw(number, known if number % 2 else None)
        if config is None:
            break
        drawn.append(config)
    assert len(drawn) == len({space.key(config) for config in drawn}) == 18
    assert sampler.draw(18) is None


def trial_of(number, config):
    return replace(trial(number, config["a"] / 6), config=config)


def test_no_configuration_is_drawn_twice_after_a_restart():
    space = Space(GRID)
    first = ConfigSampler(space, seed=3)
    drawn = [first.draw(number) for number in range(9)]
    known = [trial_of(number, config) for number, config in enumerate(drawn)]
    drawn.append(first.draw(9, known))
    again = ConfigSampler(space, seed=3)
    again.restore([trial_of(number, config) for number, config in enumerate(drawn)])
    rest = list(iter(lambda: again.draw(10), None))
    assert len({space.key(config) for config in drawn + rest}) == len(drawn) + len(rest) == 18


def test_values_beyond_single_precision_are_clipped():
    configs = [{"x": -1e300}, {"x": 0.1}, {"x": 1e300}]
    rows = Features(configs)(configs)
    assert np.isfinite(rows.astype(np.float32)).all()
    assert rows[:, 0].tolist() == sorted(rows[:, 0].tolist())
