"""The search space: accepted values, drawn configurations, and Optuna's samplers."""

import json
import math
import pickle
import subprocess
import sys
import warnings

import numpy as np
import optuna
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import seer_nb as seer
from seer_nb import core
from seer_nb._utils.text import short_repr
from seer_nb.search_space import Choice, ConfigSampler, Float, Integer, Space

HINT = 'expected a dict such as {"lr": seer.loguniform(1e-4, 1e-1), "batch": seer.choice([32, 64]), "depth": 3}'
KINDS = (
    "expected uniform, loguniform, quniform, randint, lograndint or choice, an Optuna distribution, a frozen "
    "scipy.stats uniform, loguniform or randint, or a constant of None, bool, int, float, str, list and dict"
)
MIXED = {
    "lr": seer.loguniform(1e-4, 1e-1),
    "batch": seer.choice([32, 64, None, "auto", True]),
    "width": seer.lograndint(1, 256),
    "depth": seer.randint(1, 5),
    "drop": seer.quniform(0.1, 0.5, 0.1),
    "momentum": seer.uniform(0.0, 0.9),
    "betas": seer.choice([(0.9, 0.999)]),
    "name": "adam",
}
TINY = {"a": seer.choice(["x", "y", None]), "b": seer.randint(1, 2), "c": 7}


def trial(number, config, *values, state="completed"):
    curve = tuple(
        core.Report(epoch=k, value=v, metrics={}, seconds=1.0, parallelism=1, at_s=0.0, cost_micro=0, checkpoint="c")
        for k, v in enumerate(values, 1)
    )
    best = max((r for r in curve if r.value is not None), key=lambda r: r.value, default=None)
    return core.Trial(id=number, config=config, state=state, curve=curve, best=best)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: seer.uniform(3, 1), ValueError, "low=3.0: above high=1.0; uniform expects low <= high"),
        (lambda: seer.uniform("a", 1), TypeError, "low='a': not a number; uniform expects finite numbers"),
        (lambda: seer.uniform(0, high=True), TypeError, "high=True: not a number; uniform expects finite numbers"),
        (lambda: seer.uniform(math.nan, 1), ValueError, "low=nan: not finite; uniform expects finite numbers"),
        (
            lambda: seer.uniform(0, 10**400),
            ValueError,
            f"high=1{'0' * 76}...: not finite; uniform expects finite numbers",
        ),
        (lambda: seer.loguniform(0, 1), ValueError, "low=0: has no logarithm; loguniform expects bounds > 0"),
        (lambda: seer.loguniform(-1e-3, 1), ValueError, "low=-0.001: has no logarithm; loguniform expects bounds > 0"),
        (
            lambda: seer.uniform(-1e308, 1e308),
            ValueError,
            "low=-1e+308, high=1e+308: high - low is infinite; uniform expects a finite range",
        ),
        (
            lambda: seer.quniform(0, 1, 0),
            ValueError,
            "q=0: not a step from low=0 to high=1; expected 0 < q <= high - low",
        ),
        (
            lambda: seer.quniform(0, 1, 2),
            ValueError,
            "q=2: not a step from low=0 to high=1; expected 0 < q <= high - low",
        ),
        (
            lambda: seer.quniform(0, 1, 1e-300),
            ValueError,
            "q=1e-300: too small from low=0 to high=1; expected uniform instead",
        ),
        (lambda: seer.randint(1.5, 3), TypeError, "low=1.5: not an integer; randint expects integers"),
        (lambda: seer.randint(3, 1), ValueError, "low=3: above high=1; randint expects low <= high"),
        (
            lambda: seer.randint(0, 2**60),
            ValueError,
            "high=1152921504606846976: beyond 2**53; randint expects integers that a float holds exactly",
        ),
        (lambda: seer.lograndint(0, 3), ValueError, "low=0: below 1; lograndint expects bounds >= 1"),
        (lambda: seer.choice([]), ValueError, "options=[]: empty; expected at least one option"),
        (
            lambda: seer.choice("relu"),
            TypeError,
            "options='relu': not a list; expected a list such as choice([32, 64])",
        ),
        (lambda: seer.choice(3), TypeError, "options=3: not a list; expected a list such as choice([32, 64])"),
        (lambda: seer.choice([1, True]), ValueError, "options=[1, True]: True occurs twice; expected each option once"),
        (
            lambda: seer.choice([math.inf]),
            ValueError,
            "option inf: cannot be stored; expected a finite number of at most 64 bits",
        ),
        (
            lambda: seer.choice([(1, 2), (3, 4)]),
            TypeError,
            (
                "option (1, 2): of type tuple; expected None, bool, int, float or str (for objects, give names and map "
                "them to objects in train)"
            ),
        ),
        (lambda: Space({}), ValueError, f"space={{}}: empty; {HINT}"),
        (lambda: Space([1]), TypeError, f"space=[1]: not a dict; {HINT}"),
        (lambda: Space({1: 2}), TypeError, "space: the name 1 is of type int; expected names of type str"),
        (lambda: Space({" ": 2}), ValueError, "space: the name ' ' is blank; expected a name with visible characters"),
        (
            lambda: Space({"a": math.nan}),
            ValueError,
            "space['a']=nan: cannot be stored; expected a finite number of at most 64 bits",
        ),
        (
            lambda: Space({"a": {1: 2}}),
            TypeError,
            "space['a']={1: 2}: a name in the dict is not a str; expected names of type str",
        ),
        (
            lambda: Space({"a": [seer.uniform(0, 1)]}),
            TypeError,
            (
                "space['a']=[uniform(0, 1)]: a domain inside a list or dict; expected a hyperparameter of its own for "
                "each domain"
            ),
        ),
        (
            lambda: Space({"a": {1}}),
            TypeError,
            f"space['a']={{1}}: a set can be neither searched nor stored; {KINDS}",
        ),
    ],
)
def test_bad_values_are_refused(make, error, sentence):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == sentence


def test_unsupported_scipy_distributions_are_refused():
    with pytest.raises(ValueError, match=r"scipy's norm cannot be searched; expected uniform"):
        Space({"a": scipy.stats.norm()})
    with pytest.raises(ValueError, match="a shifted loguniform cannot be searched; expected loc=0"):
        Space({"a": scipy.stats.loguniform(1, 2, loc=3)})


def test_distributions_of_other_libraries_are_converted():
    d = optuna.distributions
    space = Space(
        {
            "a": d.FloatDistribution(1e-3, 1.0, log=True),
            "b": d.FloatDistribution(0.0, 1.0, step=0.25),
            "c": d.IntDistribution(1, 10, step=3),
            "d": d.CategoricalDistribution(["x", None]),
            "e": scipy.stats.uniform(1, 2),
            "f": scipy.stats.loguniform(1e-3, 1e-1),
            "g": scipy.stats.randint(1, 5),
        }
    )
    assert space.domains == {
        "a": Float(low=1e-3, high=1.0, log=True),
        "b": Float(low=0.0, high=1.0, step=0.25),
        "c": Integer(low=1, high=10, step=3),
        "d": Choice(options=("x", None)),
        "e": Float(low=1.0, high=3.0),
        "f": Float(low=1e-3, high=1e-1, log=True),
        "g": Integer(low=1, high=4),
    }


@pytest.mark.parametrize(
    "given",
    [
        optuna.distributions.IntDistribution(1, 9, step=2),
        optuna.distributions.FloatDistribution(0.1234567, 1.0),
        optuna.distributions.FloatDistribution(0.25, 1.0, step=0.25),
    ],
    ids=str,
)
def test_the_repr_of_a_domain_reads_back_as_the_domain(given):
    domain = Space({"x": given}).domains["x"]
    names = {"IntDistribution": optuna.distributions.IntDistribution, "uniform": seer.uniform}
    again = eval(repr(domain), {**names, "quniform": seer.quniform})
    assert Space({"x": again}).domains["x"] == domain


def test_domains_become_optuna_distributions_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted = Space(MIXED | {"odd": seer.quniform(0.1, 0.95, 0.1)}).to_optuna()
    assert converted["lr"] == optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)
    assert converted["depth"] == optuna.distributions.IntDistribution(1, 5)
    assert converted["odd"].high == 0.9
    assert list(converted) == ["lr", "batch", "width", "depth", "drop", "momentum", "odd"]


def test_numpy_scalars_become_plain():
    space = Space({"a": seer.choice(np.array([1, 2])), "b": np.float64(0.5), "c": seer.randint(np.int64(1), 2)})
    assert [type(option) for option in space.domains["a"].options] == [int, int]
    assert type(space.constants["b"]) is float


def test_a_space_survives_pickling():
    space = pickle.loads(pickle.dumps(Space(MIXED)))
    assert (space.domains, space.constants) == (Space(MIXED).domains, Space(MIXED).constants)


@given(seed=st.integers(0, 2**63), number=st.integers(0, 10**6))
def test_configurations_are_plain_within_bounds_and_in_order(seed, number):
    config = ConfigSampler(Space(MIXED), seed=seed).draw(number)
    assert list(config) == list(MIXED)
    assert json.loads(json.dumps(config)) == config
    assert 1e-4 <= config["lr"] <= 1e-1
    assert config["batch"] in [32, 64, None, "auto", True]
    assert type(config["width"]) is int
    assert 1 <= config["width"] <= 256
    assert config["depth"] in range(1, 6)
    assert config["drop"] in [0.1, 0.2, 0.3, 0.4, 0.5]
    assert config["betas"] == [0.9, 0.999]


@pytest.mark.parametrize("given", [MIXED, TINY])
def test_random_search_depends_on_seed_and_number_alone(given):
    straight = [ConfigSampler(Space(given), seed=3).draw(n) for n in range(6)]
    sampler = ConfigSampler(Space(given), seed=3)
    sampler.restore([trial(0, straight[0], 0.5)])
    assert [sampler.draw(n) for n in (5, 0, 3)] == [straight[n] for n in (5, 0, 3)]
    assert straight != [ConfigSampler(Space(given), seed=4).draw(n) for n in range(6)]


def test_both_ends_of_randint_are_drawn_equally_often():
    sampler = ConfigSampler(Space({"k": seer.randint(1, 4), "x": seer.uniform(0, 1)}))
    counts = np.bincount([sampler.draw(n)["k"] for n in range(2000)])
    assert counts[0] == 0
    assert all(400 < count < 600 for count in counts[1:])


@pytest.mark.parametrize(
    "sampler",
    [None, optuna.samplers.TPESampler(seed=0), optuna.samplers.RandomSampler(seed=0)],
    ids=["random", "tpe", "optuna-random"],
)
def test_configurations_of_a_finite_space_do_not_repeat(sampler):
    source = ConfigSampler(Space(TINY), sampler)
    drawn = [source.draw(number) for number in range(6)]
    assert len({(c["a"], c["b"]) for c in drawn}) == 6
    assert source.draw(6) is None
    assert source.draw(7) is None


def test_a_space_of_constants_has_one_configuration():
    source = ConfigSampler(Space({"lr": 0.1, "layers": seer.choice([[1, 2]])}))
    first = source.draw(0)
    assert first == {"lr": 0.1, "layers": [1, 2]}
    first["layers"].append(3)
    assert source.draw(0) == {"lr": 0.1, "layers": [1, 2]}
    assert source.draw(1) is None


OPTIONS = [
    ("lr", [0.1, 0.01], "seer.choice([0.1, 0.01])", "[0.1, 0.01]"),
    ("kind", ("relu", None, True), "seer.choice(['relu', None, True])", "['relu', None, True]"),
    ("one", [np.float64(0.5)], "seer.choice([0.5])", "[0.5]"),
    ("rate", (1e-4, 0.1), "seer.loguniform(0.0001, 0.1) or seer.choice([0.0001, 0.1])", "[0.0001, 0.1]"),
    ("shift", (-1, 0.5), "seer.uniform(-1, 0.5) or seer.choice([-1, 0.5])", "[-1, 0.5]"),
    ("depth", (1, 5), "seer.randint(1, 5) or seer.choice([1, 5])", "[1, 5]"),
    ("long", list(range(99)), "seer.choice([...])", "[...]"),
]


@pytest.mark.parametrize(("name", "value", "searched", "listed"), OPTIONS, ids=[row[0] for row in OPTIONS])
def test_a_plain_list_counts_as_one_constant_with_a_warning(name, value, searched, listed):
    with pytest.warns(UserWarning, match="counts as one constant") as caught:
        space = Space({name: value})
    (warning,) = caught
    assert str(warning.message) == (
        f"space[{name!r}]={short_repr(value)}: a plain list counts as one constant, "
        f"the same in all trials; write {searched} "
        f"to search it, or seer.choice([{listed}]) to keep the constant without this warning"
    )
    assert space.constants == {name: list(value)}


def test_the_warning_names_the_users_line_once_per_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    given = {"metric": "a", "mode": "max", "max_epochs": 3, "deadline": "1h", "budget": 1}
    with pytest.warns(UserWarning, match="counts as one constant") as caught:
        seer.Study(lambda config, run: None, {"a": [1, 2], "b": (3, 2), "c": 1, "d": seer.randint(1, 2)}, **given)
    constants = [str(each.message)[:10] for each in caught if "one constant" in str(each.message)]
    assert constants == ["space['a']", "space['b']"]
    assert {each.filename for each in caught} == {__file__}


@pytest.mark.parametrize("meant", [[1, 2], (0.9, 0.999), {"lr": [1, 2]}, []], ids=str)
def test_a_list_as_the_only_option_is_a_constant_without_a_warning(meant):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space = Space({"a": seer.choice([meant]), "b": {"inner": [1, 2]}, "c": [[1, 2]], "d": [], "e": 3})
    assert space.constants == {
        "a": list(meant) if isinstance(meant, tuple) else meant,
        "b": {"inner": [1, 2]},
        "c": [[1, 2]],
        "d": [],
        "e": 3,
    }
    assert (space.size, space.domains) == (1, {})


def test_choice_of_several_lists_is_refused():
    with pytest.raises(TypeError, match="expected None, bool, int, float or str"):
        seer.choice([[1], [1, 2]])
    with pytest.raises(TypeError, match="a domain inside a list or dict"):
        Space({"a": [seer.choice([[1, 2]])]})


def test_rare_values_of_a_finite_space_are_found_in_few_tries():
    source = ConfigSampler(Space({"k": seer.lograndint(1, 300)}))
    assert sorted(source.draw(n)["k"] for n in range(300)) == list(range(1, 301))


class ConstantSampler(optuna.samplers.RandomSampler):
    """Proposes the same configuration every time."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        return {"a": "y", "b": 2}[param_name]


def test_a_repeating_sampler_does_not_end_a_finite_space():
    source = ConfigSampler(Space(TINY), ConstantSampler())
    drawn = [source.draw(number) for number in range(6)]
    assert drawn[0] == {"a": "y", "b": 2, "c": 7}
    assert len({(c["a"], c["b"]) for c in drawn}) == 6
    assert source.draw(6) is None


def test_a_sampler_may_repeat_itself_in_an_infinite_space():
    source = ConfigSampler(
        Space(TINY | {"x": seer.uniform(0, 1), "b": 2, "a": seer.uniform(0, 1)}), ConstantFloatSampler()
    )
    assert source.draw(0) == source.draw(1)


class ConstantFloatSampler(optuna.samplers.RandomSampler):
    """Proposes the same real number for everything."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        return 0.5


def test_a_grid_does_not_repeat_even_after_a_restart():
    def grid():
        return ConfigSampler(
            Space({"a": seer.uniform(0, 1), "k": 3}), optuna.samplers.GridSampler({"a": [0, 0.5, 0.5, 1]})
        )

    source = grid()
    drawn = [source.draw(number) for number in range(3)]
    assert sorted(config["a"] for config in drawn) == [0.0, 0.5, 1.0]
    assert all(type(config["a"]) is float and config["k"] == 3 for config in drawn)
    for number, config in enumerate(drawn):
        source.tell(trial(number, config, 0.1))
    assert source.draw(3) is None
    again = grid()
    again.restore([trial(0, drawn[0], 0.1), trial(1, drawn[1], state="running")])
    assert [again.draw(2), again.draw(3)] == [drawn[2], None]
    # Optuna warns about trials beyond the four cells of the grid.
    assert len(source.optuna_study.trials) == 4


def test_unsuitable_samplers_are_refused():
    with pytest.raises(TypeError) as caught:
        ConfigSampler(Space(MIXED), "tpe")
    assert str(caught.value) == (
        "sampler='tpe': not an Optuna sampler; expected one such as optuna.samplers.TPESampler(seed=0), or None for "
        "random search"
    )
    with pytest.raises(ValueError, match="grid") as caught:
        ConfigSampler(Space(TINY), optuna.samplers.GridSampler({"z": [1]}))
    assert str(caught.value) == ("sampler: its grid has the names 'z'; expected the searched names 'a', 'b'")


def test_tpe_learns_from_results_also_after_a_restart():
    space = Space({"x": seer.uniform(-10, 10)})

    def distance(source):
        """Return the mean distance of proposals: 5.5 for random search, 2.5 to 3.1 for TPE, above 5.9 when misled."""
        return np.mean([abs(source.draw(number)["x"] - 3) for number in range(100, 140)])

    source = ConfigSampler(space, optuna.samplers.TPESampler(seed=1), mode="max")
    trials = []
    for number in range(60):
        config = source.draw(number)
        value = -abs(config["x"] - 3)
        trials.append(trial(number, config, value - 1, value, state="stopped" if number % 3 else "completed"))
        source.tell(trials[-1])
    restored, misled = (ConfigSampler(space, optuna.samplers.TPESampler(), mode=mode) for mode in ("max", "min"))
    restored.restore(trials)
    misled.restore(trials)
    assert distance(source) < 4
    assert distance(restored) < 4
    assert distance(misled) > 5


def test_a_restarted_sampler_does_not_repeat_its_proposals():
    space = Space({"x": seer.uniform(0, 1)})
    source = ConfigSampler(space, optuna.samplers.RandomSampler(seed=0))
    first = [source.draw(number) for number in range(3)]
    again = ConfigSampler(space, optuna.samplers.RandomSampler(seed=0))
    again.restore(trial(number, config, state="running") for number, config in enumerate(first))
    assert again.draw(3) not in first


@pytest.mark.parametrize(
    ("values", "state", "expected", "value"),
    [
        ((0.5, 0.9, 0.7), "completed", "COMPLETE", 0.9),
        ((0.5, 0.4), "stopped", "PRUNED", 0.4),
        ((0.5, None), "stopped", "PRUNED", None),
        ((0.5,), "failed", "FAIL", None),
        ((), "completed", "FAIL", None),
        ((0.5,), "paused", "RUNNING", None),
    ],
)
def test_optuna_receives_each_ended_trial_once(values, state, expected, value):
    source = ConfigSampler(Space(MIXED), optuna.samplers.RandomSampler(seed=0))
    ended = trial(0, source.draw(0), *values, state=state)
    source.tell(ended)
    source.tell(ended)
    received = source.optuna_study.trials[0]
    assert (received.state.name, received.value) == (expected, value)
    if expected != "RUNNING":
        steps = {k: math.nan if v is None else v for k, v in enumerate(values, 1)}
        assert received.intermediate_values == pytest.approx(steps, nan_ok=True)


def test_optuna_receives_reported_metrics_and_cost_as_user_attributes():
    """Guards `constraints_func`, which reads user attributes."""
    limits = []

    def constraints(frozen):
        limits.append((frozen.user_attrs["latency"] - 10, frozen.user_attrs["cost_usd"] - 1))
        return limits[-1]

    sampler = optuna.samplers.NSGAIISampler(constraints_func=constraints, seed=0)
    source = ConfigSampler(Space(MIXED), sampler, metric="accuracy")
    for number, (rows, state) in enumerate(
        [
            ([(0.5, 12.0), (0.9, 8.0), (0.7, 9.0)], "completed"),  # those of the best report
            ([(0.5, 12.0), (0.4, 13.0)], "stopped"),  # those of the last report
            ([(0.5, 12.0), (None, None)], "stopped"),  # a diverged trial has the last finite ones
            ([(None, None)], "stopped"),  # NaN would end the study
            ([(0.5, 12.0)], "failed"),
            ([], "stopped"),  # no metric could be read
        ]
    ):
        made = trial(number, source.draw(number), *(value for value, _ in rows), state=state)
        curve = tuple(replace(r, metrics={"latency": x}) for r, (_, x) in zip(made.curve, rows, strict=True))
        best = max((r for r in curve if r.value is not None), key=lambda r: r.value, default=None)
        source.tell(replace(made, curve=curve, best=best, cost_nano=2_500_000_000))
    assert limits == [(-2.0, 1.5), (3.0, 1.5), (2.0, 1.5), (math.inf, 1.5)]
    received = source.optuna_study.trials
    assert [each.state.name for each in received] == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED", "FAIL", "FAIL"]
    assert received[0].user_attrs == {"cost_usd": 2.5, "accuracy": 0.9, "latency": 8.0}


class Outside(optuna.samplers.RandomSampler):
    """A sampler that returns a value that no space has."""

    def sample_independent(self, *_):
        return 99


@pytest.mark.parametrize("domain", [seer.uniform(0, 1), seer.randint(1, 3), seer.choice([1, 2])])
def test_a_proposal_outside_the_space_is_an_error(domain):
    with pytest.raises(ValueError, match=r"99"):
        ConfigSampler(Space({"a": domain}), Outside()).draw(0)


def test_optunas_log_level_is_restored(capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        ConfigSampler(Space(MIXED), optuna.samplers.TPESampler(seed=0)).draw(0)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr().err == ""


def test_the_space_imports_no_heavy_library():
    code = (
        "import sys, seer_nb as s; from seer_nb.search_space import Space; Space({'a': s.uniform(0, 1)});"
        "print({'optuna', 'numpy', 'pandas', 'torch'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
