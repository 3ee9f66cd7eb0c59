"""Arguments and calls of other tools are refused with the name of their counterpart here."""

import functools
import inspect
import pickle

import pytest

import seer_nb as seer
from seer_nb import policies
from seer_nb.study.settings import HINTS
from seer_nb.worker.hints import Hints
from tests.support import refusals
from tests.support.refusals import make, raised


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Bad input leaves nothing behind."""
    return refusals.home(tmp_path, monkeypatch)


# --- arguments ---


@pytest.mark.parametrize("name", HINTS)
def test_an_argument_of_another_tool_gets_advice(home, name):
    assert raised(TypeError, make, **{name: 3}) == f"Study({name}=3): unknown argument; {HINTS[name]}"
    assert not home.exists()


def test_every_name_in_the_advice_exists():
    ours = inspect.signature(seer.Study).parameters
    assert not ours.keys() & HINTS.keys()
    for hint in HINTS.values():
        assert any(f"{name}=" in hint for name in [*ours, *inspect.signature(seer.Study.run).parameters]), hint


def test_a_misspelt_argument_gets_a_suggestion():
    assert raised(TypeError, make, deadlin="1h") == (
        "Study(deadlin='1h'): unknown argument (did you mean 'deadline'?); expected train, space, metric, "
        "mode, max_epochs, deadline, budget, provider, policy, sampler, seed, name, store, report_timeout, "
        "max_parallelism, exist"
    )


def test_help_of_study_describes_its_arguments():
    assert list(inspect.signature(seer.Study).parameters)[:3] == ["train", "space", "metric"]
    assert "help(seer.Study)" in seer.Study.__init__.__doc__
    assert "deadline: Time limit: seconds" in seer.Study.__doc__


RUNGS = "eta, first_rung"
TAKES = {
    seer.ASHA: RUNGS,
    seer.SEER: f"{RUNGS}, tops, rounds, proposals, overlap, slopes",
    policies.Halving: f"{RUNGS}, top, n",
    policies.Hyperband: "eta",
    policies.HyperSched: RUNGS,
    policies.NaiveElastic: f"{RUNGS}, top",
    policies.RubberBand: f"{RUNGS}, top, n",
}


@pytest.mark.parametrize("kind", TAKES)
def test_a_policy_lists_its_arguments_for_an_unknown_one(kind):
    sentence = f"{kind.__name__}(foo=1): unknown argument; expected {TAKES[kind]}"
    assert raised(TypeError, kind, foo=1) == sentence
    assert ", ".join(inspect.signature(kind).parameters) == TAKES[kind]
    assert repr(pickle.loads(pickle.dumps(kind(eta=5)))) == repr(kind(eta=5))


@pytest.mark.parametrize("name", ["tops", "rounds", "proposals", "overlap", "slopes"])
@pytest.mark.parametrize("value", ["no", None, 0])
def test_switches_must_be_booleans(name, value):
    assert raised(TypeError, seer.SEER, **{name: value}) == f"{name}={value!r}: not a bool; expected True or False"


# --- functions ---


class Class:
    def __init__(self, config, run):
        """A decorated function that keeps its name."""


def swapped(run, config):
    """Arguments of Optuna's `optimize`, followed by those of seer_nb."""


class Swapped:
    def __call__(self, run, options):
        """An instance of it is given."""


SWAPPED = "has its parameters in the wrong order: write"


def test_a_class_is_refused_as_training_function():
    sentence = "train=Class is a class: give a function, or an instance with __call__(config, run)"
    assert raised(TypeError, make, Class) == sentence


def test_parameters_in_the_wrong_order_are_refused():
    assert raised(TypeError, make, swapped) == f"train=swapped(run, config) {SWAPPED} swapped(config, run)"
    assert raised(TypeError, make, lambda a, config: 0) == f"train=<lambda>(a, config) {SWAPPED} <lambda>(config, run)"
    assert SWAPPED in raised(TypeError, make, Swapped())


@pytest.mark.parametrize("train", [lambda *both: 0, lambda c, r, n=3: 0, lambda config, run: 0, lambda x, /, y: 0])
def test_parameters_may_have_other_names(train):
    make(train)


def as_objective(objective):
    """Return an objective of another tool, of one argument, as a training function."""

    @functools.wraps(objective)
    def wrapper(config, run):
        return objective(config)

    return wrapper


def without_run(train):
    @functools.wraps(train)
    def wrapper(config):
        return train(config, None)

    return wrapper


def test_a_decorated_function_is_judged_by_its_own_signature():
    make(as_objective(lambda trial: 0))
    make(functools.partial(as_objective(lambda trial: 0)))
    assert raised(TypeError, make, without_run(lambda config, run: 0)) == (
        "train=<lambda>(config) cannot be called as train(config, run): give it these two parameters"
    )


# --- a run ---


class Run(Hints):
    """Training functions that use other tools' names on `Run`."""

    def __init__(self):
        self.x = 1

    @property
    def broken(self):
        return self.nothing


VALUES = "values come from the search space, as config[name]"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("suggest_float", VALUES),
        ("suggest_anything", VALUES),
        ("params", "that is run.config"),
        ("number", "that is run.trial"),
        ("log", "run.report(accuracy=...) ends an epoch with its metrics"),
        ("should_prune", "the study's policy decides which trials continue; run.report ends the others"),
    ],
)
def test_run_gives_advice_for_attributes_of_other_tools(name, hint):
    assert issubclass(seer.Run, Hints)
    assert raised(AttributeError, getattr, Run(), name) == f"run.{name}: {hint}"
    assert not hasattr(Run(), name)
    assert name not in dir(seer.Run)


def test_other_unknown_attributes_raise_the_usual_error():
    run = pickle.loads(pickle.dumps(Run()))
    assert run.x == 1
    assert raised(AttributeError, getattr, run, "reprot") == "'Run' object has no attribute 'reprot'"
    assert raised(AttributeError, getattr, run, "broken") == "'Run' object has no attribute 'nothing'"
    with pytest.raises(AttributeError) as caught:
        run.reprot  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("reprot", run)
    assert vars(Run.__new__(Run)) == {}
