"""Bad input gets one sentence that names the argument, the value and what is allowed, before any machine is rented."""

import asyncio
import functools
import importlib
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import cloudpickle
import numpy as np
import optuna
import pytest

import seer_nb as seer
from seer_nb import function
from seer_nb.core import model as m
from seer_nb.journal import Journal
from seer_nb.runner import files
from tests.builders import Builder, small_study

MONEY = 'give dollars such as "$0.50" or 0.5'
TIME = 'give a time such as "10min", "1h30m", 90 (seconds) or a timedelta'
DEADLINE = f"{TIME}, or a datetime with a time zone"
SPACE = 'give a dict such as {"lr": seer.loguniform(1e-4, 1e-1), "batch": seer.choice([32, 64]), "depth": 3}'
STORE = 'give a folder, or an fsspec URL such as "s3://bucket/folder"'
EPOCHS = "is not a number of epochs: give a whole number from 1 to 1000000000"
SEED = "is not a seed: give a whole number from 0 to 9223372036854775807"
NAME = "use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit"
METRIC = 'is not the name of a metric: give the keyword that train passes to run.report, such as "accuracy"'
MODE = 'is unknown: give "max" when more is better, or "min"'
POLICY = 'is not a policy: give a name such as "seer", or an object with decide(snapshot)'
PROVIDER = "does not rent machines: give a provider such as seer.Local()"


def train(config, run):
    for _ in run.epochs():
        run.report(accuracy=1.0)


def make(train=train, **changes):
    given = {
        "space": {"lr": seer.uniform(0, 1)},
        "metric": "accuracy",
        "mode": "max",
        "max_epochs": 3,
        "deadline": "1min",
        "budget": "$1",
        "name": "study",
    }
    return seer.Study(train, **{**given, **changes})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Bad input leaves nothing behind."""
    folder = tmp_path / "studies"
    monkeypatch.setenv("SEER_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def raised(error, act, *args, **kwargs):
    with pytest.raises(error) as caught:
        act(*args, **kwargs)
    assert type(caught.value) is error
    return str(caught.value)


class Rents:
    """A provider, but for what a test changes."""

    max_workers = 2

    def __init__(self, **changes):
        self.__dict__.update(changes)

    def __repr__(self):
        return "Rents()"

    def offers(self):
        return seer.Local().offers()

    def fleet(self, context):
        raise AssertionError("a machine was about to be rented")


class Decides:
    def __init__(self, held=None):
        self.held = held

    def __repr__(self):
        return "Decides()"

    def decide(self, snapshot):
        raise AssertionError("no study was started")


class Sampler(optuna.samplers.RandomSampler):
    def __init__(self, held):
        super().__init__()
        self.held = held

    def __repr__(self):
        return "Sampler()"


# --- the arguments of a study ---

NAIVE = datetime(2100, 1, 1)  # noqa: DTZ001 - that it has no time zone is the point
PAST = datetime(2020, 1, 1, tzinfo=UTC)
BAD = [
    ("space", {}, ValueError, f"space={{}} is empty: {SPACE}"),
    ("space", None, TypeError, f"space=None is not a dict: {SPACE}"),
    ("space", [("lr", 1)], TypeError, f"space=[('lr', 1)] is not a dict: {SPACE}"),
    ("space", {3: 1}, TypeError, "space has the name 3, of type int: give names as str"),
    ("metric", "", ValueError, f"metric='' {METRIC}"),
    ("metric", "val accuracy", ValueError, f"metric='val accuracy' {METRIC}"),
    ("metric", None, ValueError, f"metric=None {METRIC}"),
    ("mode", "maximum", ValueError, f"mode='maximum' {MODE}"),
    ("mode", None, ValueError, f"mode=None {MODE}"),
    ("mode", ["max"], ValueError, f"mode=['max'] {MODE}"),
    ("max_epochs", 0, ValueError, f"max_epochs=0 {EPOCHS}"),
    ("max_epochs", -3, ValueError, f"max_epochs=-3 {EPOCHS}"),
    ("max_epochs", 2.0, ValueError, f"max_epochs=2.0 {EPOCHS}"),
    ("max_epochs", True, ValueError, f"max_epochs=True {EPOCHS}"),
    ("max_epochs", 10**30, ValueError, f"max_epochs={10**30} {EPOCHS}"),
    ("deadline", 0, ValueError, f"deadline=0 is not more than 0 seconds: {DEADLINE}"),
    ("deadline", "-5min", ValueError, f"deadline='-5min' is not a length of time: {DEADLINE}"),
    ("deadline", -5, ValueError, f"deadline=-5 is not more than 0 seconds: {DEADLINE}"),
    (
        "deadline",
        timedelta(seconds=-1),
        ValueError,
        f"deadline={timedelta(seconds=-1)!r} is not more than 0 seconds: {DEADLINE}",
    ),
    ("deadline", "soon", ValueError, f"deadline='soon' is not a length of time: {DEADLINE}"),
    ("deadline", "inf", ValueError, f"deadline='inf' is not a length of time: {DEADLINE}"),
    ("deadline", None, TypeError, f"deadline=None is not a length of time: {DEADLINE}"),
    ("deadline", PAST, ValueError, f"deadline={PAST!r} has passed already: {DEADLINE}"),
    (
        "deadline",
        NAIVE,
        ValueError,
        (
            f"deadline={NAIVE!r} has no time zone, so it could mean several moments: give an aware datetime, "
            "such as datetime.now().astimezone() + timedelta(hours=1)"
        ),
    ),
    (
        "deadline",
        "3s",
        ValueError,
        "deadline='3s' is too short: a machine of 'local' takes about 3.5 s to boot and to be handed back",
    ),
    ("budget", 0, ValueError, f"budget=0 is not more than 0: {MONEY}"),
    ("budget", "-$1", ValueError, f"budget='-$1' is not more than 0: {MONEY}"),
    ("budget", "a dollar", ValueError, f"budget='a dollar' is not an amount of money: {MONEY}"),
    ("budget", float("nan"), ValueError, f"budget=nan is not an amount of money: {MONEY}"),
    ("budget", "€5", ValueError, f"budget='€5' is not an amount of money: {MONEY}"),
    ("budget", None, TypeError, f"budget=None is not an amount of money: {MONEY}"),
    ("seed", -1, ValueError, f"seed=-1 {SEED}"),
    ("seed", 0.5, ValueError, f"seed=0.5 {SEED}"),
    ("seed", None, ValueError, f"seed=None {SEED}"),
    ("seed", 2**63, ValueError, f"seed={2**63} {SEED}"),
    ("name", "", ValueError, f"name='' is not a name for a study: {NAME}"),
    ("name", "../up", ValueError, f"name='../up' is not a name for a study: {NAME}"),
    ("name", "a" * 101, ValueError, f"name='{'a' * 76}... is not a name for a study: {NAME}"),
    ("name", 7, ValueError, f"name=7 is not a name for a study: {NAME}"),
    (
        "policy",
        "hyperbandit",
        ValueError,
        (
            'policy=\'hyperbandit\' is unknown: give one of "seer", "asha", "random_search", '
            "or an object with decide(snapshot)"
        ),
    ),
    ("policy", None, TypeError, f"policy=None {POLICY}"),
    ("policy", seer.SEER, TypeError, f"policy=<class 'seer_nb.policies.seer.SEER'> {POLICY}"),
    ("provider", "local", TypeError, f"provider='local' {PROVIDER}"),
    ("provider", seer.Local, TypeError, f"provider=<class 'seer_nb.providers.local.Local'> {PROVIDER}"),
    ("provider", Rents(offers=tuple), ValueError, "provider=Rents() offers no machines: it must have one to rent"),
    (
        "provider",
        Rents(max_workers=0),
        ValueError,
        "provider=Rents() has max_workers=0: it must be a whole number from 1 on",
    ),
    (
        "sampler",
        "tpe",
        TypeError,
        (
            "sampler='tpe' is not an Optuna sampler: give one such as optuna.samplers.TPESampler(seed=0), "
            "or None for random search"
        ),
    ),
    (
        "sampler",
        optuna.samplers.GridSampler({"depth": [1, 2]}),
        ValueError,
        "sampler's grid has the names 'depth', but the space searches 'lr': they must be the same",
    ),
    ("store", 3, TypeError, f"store=3 is not a place for checkpoints: {STORE}"),
    ("store", b"there", TypeError, f"store=b'there' is not a place for checkpoints: {STORE}"),
    ("store", " ", ValueError, f"store=' ' is empty: {STORE}"),
    ("store", "foo://there", ValueError, f"store='foo://there' cannot be reached (Protocol not known: foo): {STORE}"),
    ("store", "memory://there", ValueError, f"store='memory://there' is not shared between processes: {STORE}"),
    ("report_timeout", "0s", ValueError, f"report_timeout='0s' is not more than 0 seconds: {TIME}"),
    ("report_timeout", "ages", ValueError, f"report_timeout='ages' is not a length of time: {TIME}"),
]


@pytest.mark.parametrize(("argument", "value", "error", "sentence"), BAD, ids=lambda value: str(value)[:40])
def test_a_study_refuses(home, argument, value, error, sentence):
    assert raised(error, make, **{argument: value}) == sentence
    assert not home.exists()


def test_what_just_fits_is_taken():
    make(max_epochs=np.int64(1), seed=np.int32(7), deadline="3.6s", store="here", name="a" * 100, report_timeout=1)


def test_a_budget_too_small_for_one_epoch_of_one_trial():
    # A cent a second: three seconds to boot and 30 of lease are 33 cents.
    provider = seer.Local(max_workers=1, price_per_hour=36)
    assert raised(ValueError, make, provider=provider, budget="$0.32") == (
        "budget='$0.32' is too small for one epoch of one trial: a machine of 'local' at $36.00 an hour "
        "can cost $0.33 until it has booted and its lease of 30 s has ended"
    )
    make(provider=provider, budget="$0.33")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"max_workers": 0}, "max_workers=0 is not a number of workers: give a whole number from 1 on"),
        ({"max_workers": -2}, "max_workers=-2 is not a number of workers: give a whole number from 1 on"),
        ({"max_workers": 1.5}, "max_workers=1.5 is not a number of workers: give a whole number from 1 on"),
        ({"price_per_hour": "-$1"}, f"price_per_hour='-$1' is not 0 or more: {MONEY}"),
        ({"price_per_hour": "cheap"}, f"price_per_hour='cheap' is not an amount of money: {MONEY}"),
    ],
    ids=str,
)
def test_local_refuses(given, sentence):
    assert raised(ValueError, seer.Local, **given) == sentence


@pytest.mark.parametrize(
    ("domain", "error", "sentence"),
    [
        (lambda: seer.loguniform(0, 1), ValueError, "low=0 has no logarithm: loguniform takes bounds above 0"),
        (lambda: seer.loguniform(-1, 1), ValueError, "low=-1 has no logarithm: loguniform takes bounds above 0"),
        (lambda: seer.lograndint(0, 8), ValueError, "low=0 is below 1: lograndint takes bounds from 1 on"),
        (lambda: seer.uniform(2, 1), ValueError, "low=2.0 is above high=1.0: write uniform with the lower bound first"),
        (lambda: seer.randint(2, 1), ValueError, "low=2 is above high=1: write randint with the lower bound first"),
        (lambda: seer.choice([]), ValueError, "options=[] is empty: choice takes at least one option"),
    ],
    ids=range(6),
)
def test_a_domain_refuses(domain, error, sentence):
    """The cell in which a space is written shows the error; test_space.py has all of them."""
    assert raised(error, lambda: make(space={"x": domain()})) == sentence


# --- names ---


def test_a_name_in_use(home):
    (home / "study").mkdir(parents=True)
    sentence = (
        f"name='study' is already in use in {home}: seer.attach('study') opens that study; else choose another name"
    )
    assert raised(ValueError, make) == sentence


def test_a_name_taken_since_the_study_was_made(home):
    study = make()
    (home / "study").mkdir(parents=True)
    assert raised(ValueError, study.start).startswith(f"name='study' is already in use in {home}: ")
    assert study.status == "created"
    assert list((home / "study").iterdir()) == []


def test_every_function_has_a_default_name_that_is_one():
    def größe_2(config, run):  # noqa: PLC2401 - a name as people give it
        """Not of ASCII letters only."""

    names = [make(each, name=None).name for each in (größe_2, lambda config, run: None, functools.partial(train))]
    assert [name.rpartition("-")[0].rpartition("-")[0].rpartition("-")[0] for name in names] == [
        "gr-e-2",
        "lambda",
        "study",
    ]


@pytest.mark.parametrize(("made", "known"), [((), "none"), (("b", "a"), "'a', 'b'")])
def test_attach_to_an_unknown_name(home, made, known):
    for name in made:
        stored(Builder(), home / name)
    assert raised(seer.StudyNotFoundError, seer.attach, "digits") == (
        f"name='digits' is not a study in {home}: there are {known}"
    )


def test_attach_to_what_is_no_name():
    assert raised(ValueError, seer.attach, "../up") == f"name='../up' is not a name for a study: {NAME}"
    assert raised(ValueError, seer.attach, None) == f"name=None is not a name for a study: {NAME}"


# --- the training function ---


def one_parameter(config): ...


def by_keyword(*, config, run): ...


def three_parameters(config, run, data): ...


def generator(config, run):
    yield


async def coroutine(config, run): ...


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, "train=3 is not a function: give a function of (config, run)"),
        (None, "train=None is not a function: give a function of (config, run)"),
        (
            one_parameter,
            "train=one_parameter(config) cannot be called as train(config, run): give it these two parameters",
        ),
        (
            by_keyword,
            "train=by_keyword(*, config, run) cannot be called as train(config, run): give it these two parameters",
        ),
        (
            three_parameters,
            (
                "train=three_parameters(config, run, data) cannot be called as train(config, run): "
                "give it these two parameters"
            ),
        ),
        (
            generator,
            (
                "train=generator is a generator function (it has a yield), which does not run when it is called: "
                "give a plain function of (config, run)"
            ),
        ),
        (
            coroutine,
            (
                "train=coroutine is a coroutine function (async def), which does not run when it is called: "
                "give a plain function of (config, run)"
            ),
        ),
        (dict, "train=dict does not say its parameters: give a Python function of (config, run)"),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_what_is_no_training_function(given, sentence):
    assert raised(TypeError, make, given) == sentence


class Trainer:
    """Has what cannot be pickled deep inside."""

    def __init__(self, held):
        self.parts = {"held": [0, held]}

    def train(self, config, run): ...

    def __call__(self, config, run): ...

    def __repr__(self):
        return "Trainer()"


LOCK = threading.Lock()


def helper():
    return [LOCK for _ in range(2)]  # an inner function, in Python 3.11


def uses_a_helper(config, run):
    helper()


def recursive(config, run):
    recursive(config, run)
    helper()


def closure(held):
    return lambda config, run: held


def default(held):
    def with_default(config, run, held=held): ...

    return with_default


def decorated(held):
    @functools.wraps(train)
    def wrapper(config, run):
        return train(config, held)

    return wrapper


LOCKED = "of type _thread.lock, which cannot be pickled (cannot pickle '_thread.lock' object)"
INSIDE = "make it inside the function instead"


@pytest.mark.parametrize(
    ("given", "name", "where"),
    [
        (uses_a_helper, "uses_a_helper", "the global 'LOCK' of the global 'helper'"),
        (recursive, "recursive", "the global 'LOCK' of the global 'helper'"),
        (closure(LOCK), "<lambda>", "the closure variable 'held'"),
        (closure({"a": (LOCK,)}), "<lambda>", "the item 0 of the item 'a' of the closure variable 'held'"),
        (default(LOCK), "with_default", "the default of 'held'"),
        (decorated(LOCK), "train", "the closure variable 'held'"),
        (functools.partial(lambda held, config, run: held, LOCK), None, "the argument 0"),
        (functools.partial(three_parameters, data=LOCK), None, "the argument 'data'"),
        (Trainer(LOCK).train, "train", "the item 1 of the item 'held' of the attribute 'parts' of its object"),
        (Trainer(LOCK), "Trainer()", "the item 1 of the item 'held' of the attribute 'parts'"),
        (
            closure(Trainer(LOCK).train),
            "<lambda>",
            "the item 1 of the item 'held' of the attribute 'parts' of its object of the closure variable 'held'",
        ),
    ],
    ids=range(11),
)
def test_a_function_that_cannot_be_pickled_names_the_offending_object(home, given, name, where):
    sentence = raised(ValueError, make, given)
    if name is None:
        assert sentence.startswith("train=functools.partial(<function ")
    else:
        assert sentence.startswith(f"train={name} cannot be sent to the workers: ")
    assert sentence.endswith(f"cannot be sent to the workers: it uses {where}, {LOCKED}; {INSIDE}")
    assert not home.exists()


def test_sockets_generators_and_open_files(tmp_path):
    with socket.socket() as connection, (tmp_path / "log").open("w") as file:
        kinds = (
            (connection, "socket.socket"),
            ((n for n in range(3)), "generator"),
            (file, "_io.TextIOWrapper"),
            (sys._getframe(), "frame"),
        )
        for held, kind in kinds:
            sentence = raised(ValueError, make, closure(held))
            assert f": it uses the closure variable 'held', of type {kind}, which cannot be pickled (" in sentence


MODULE = """\
import threading

lock = threading.Lock()
rate = 0.5

def fit():
    with lock:
        return rate

def clean(config, run):
    return rate

def locked(config, run):
    return fit()
"""


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    (tmp_path / "users_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("users_module")
    del sys.modules["users_module"]


def test_functions_of_a_users_module_that_holds_a_lock(users_module):
    function = "train=locked cannot be sent to the workers: it uses the global 'lock' of the global 'fit'"
    assert raised(ValueError, make, users_module.locked) == f"{function}, {LOCKED}; {INSIDE}"

    def whole_module(config, run):
        users_module.fit()

    module = "it uses the attribute 'lock' of the closure variable 'users_module'"
    sentence = raised(ValueError, make, whole_module)
    assert sentence == f"train=whole_module cannot be sent to the workers: {module}, {LOCKED}; {INSIDE}"


def load_elsewhere(pickled, code, folder):
    """What a fresh process prints that has neither this module nor the user's."""
    (folder / "pickled").write_bytes(pickled)
    load = "import cloudpickle, pathlib; found = cloudpickle.loads(pathlib.Path('pickled').read_bytes())\n"
    command = [sys.executable, "-c", load + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_a_users_module_goes_along_by_value_with_its_source(users_module, tmp_path):
    users_module.rate = None
    code = "print(found({}, None), found.__code__.co_filename.rpartition('/')[2], found.__module__)\n"
    code += "import linecache; print(linecache.getline(found.__code__.co_filename, 11).strip())"
    pickled = function.dumps(users_module.clean)
    away = tmp_path / "away"
    away.mkdir()
    (tmp_path / "users_module.py").unlink()
    assert load_elsewhere(pickled, code, away).splitlines() == ["None users_module.py users_module", "return rate"]


def test_modules_that_the_user_registered_stay_registered(users_module):
    cloudpickle.register_pickle_by_value(users_module)
    try:
        function.dumps(users_module.clean)
        assert "users_module" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(users_module)
    function.dumps(users_module.clean)
    assert "users_module" not in cloudpickle.list_registry_pickle_by_value()


SCRIPT = """\
import threading
import seer_nb as seer

lock = threading.Lock()

def train(config, run):
    with lock:
        run.report(accuracy=1.0)

try:
    seer.Study(train, {"x": 1}, metric="accuracy", mode="max", max_epochs=1, deadline="1min", budget=1)
except ValueError as error:
    print(error)
"""


def test_a_function_in_main(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout == f"train=train cannot be sent to the workers: it uses the global 'lock', {LOCKED}; {INSIDE}\n"


@pytest.mark.parametrize("argument", ["policy", "sampler", "provider"])
def test_other_objects_that_cannot_be_pickled(home, argument):
    made = {"policy": Decides, "sampler": Sampler, "provider": lambda held: Rents(held=held)}[argument](LOCK)
    where = "cannot be sent to the runner: it holds the attribute 'held'"
    assert raised(ValueError, make, **{argument: made}) == f"{argument}={made!r} {where}, {LOCKED}"
    assert not home.exists()


# --- a study before it is started ---


@pytest.mark.parametrize(
    "act",
    [
        lambda study: study.wait(),
        lambda study: asyncio.run(study._wait_async()),
        lambda study: study.pause(),
        lambda study: study.resume(),
        lambda study: study.stop(),
        lambda study: study.adjust(budget=2),
        lambda study: study.adjust(deadline="2min"),
        lambda study: study.events(),
        lambda study: study.export("events.csv", table="events"),
    ],
    ids=range(9),
)
def test_before_the_start(home, act):
    study = make()
    assert raised(seer.SeerError, act, study) == "study 'study' has not been started: start() it first"
    assert study.status == "created"
    assert study.best is None
    assert not home.exists()


def test_trials_before_the_start():
    sentence = "trial=0 is not a trial of study 'study': there are none so far"
    assert raised(ValueError, make().pin, 0) == sentence
    assert raised(ValueError, make().stop_trial, 0) == sentence


# --- a study after the start ---


def stored(builder, folder):
    """Write what a builder has recorded as a study's journal."""
    (folder / files.LOGS).mkdir(parents=True)
    journal = Journal.create(folder / files.JOURNAL)
    journal.append([(at_s, record) for _, at_s, record in builder.records])
    journal.close()
    return seer.attach(folder.name)


@pytest.fixture
def study(home):
    """Four trials, 11 study seconds of 600, and two machines at 1000 micro-dollars a second with a lease of 30 s."""
    return stored(small_study(), home / "digits")


def commands(study):
    return [command for _, command in study._view.journal.inbox()]


def test_a_study_is_started_once(study):
    sentence = "study 'digits' was started already; resume() goes on after a pause"
    assert raised(seer.SeerError, study.start) == sentence
    assert raised(seer.SeerError, study.run) == sentence


def test_a_budget_below_what_is_spent_and_committed(study):
    state = study._state()
    floor = state.ledger.floor(state.now_s)
    assert floor == 79_000  # 11 and 8 seconds lived, and 30 to come for each
    sentence = "budget='$0.0789' is less than what is spent and committed, $0.079: that cannot be taken back"
    assert raised(ValueError, study.adjust, budget="$0.0789") == sentence
    assert raised(ValueError, study.adjust, budget=0) == f"budget=0 is not more than 0: {MONEY}"
    assert raised(TypeError, study.adjust, budget=[1]) == f"budget=[1] is not an amount of money: {MONEY}"
    assert commands(study) == []
    study.adjust(budget="$0.079")
    assert commands(study) == [m.SetBudget(budget=79_000)]


def test_a_deadline_that_has_passed(study):
    assert raised(ValueError, study.adjust, deadline="11s") == (
        "deadline='11s' has passed: the study has used 11 s of its time already"
    )
    assert raised(ValueError, study.adjust, deadline=PAST) == f"deadline={PAST!r} has passed already: {DEADLINE}"
    assert raised(ValueError, study.adjust, deadline=-1) == f"deadline=-1 is not more than 0 seconds: {DEADLINE}"
    assert raised(ValueError, study.adjust, deadline="later") == f"deadline='later' is not a length of time: {DEADLINE}"
    assert commands(study) == []
    study.adjust(deadline="11.5s")
    assert commands(study) == [m.SetDeadline(deadline_s=11.5)]


def test_an_adjustment_is_made_whole_or_not_at_all(study):
    assert raised(ValueError, study.adjust, budget="$2", deadline="11s").startswith("deadline='11s' has passed")
    assert commands(study) == []


@pytest.mark.parametrize("trial", [4, -1, 1.0, True, "1", None, [1]], ids=repr)
def test_trials_that_are_none(study, trial):
    sentence = f"trial={trial!r} is not a trial of study 'digits': there are 0 to 3"
    assert raised(ValueError, study.pin, trial) == sentence
    assert raised(ValueError, study.stop_trial, trial) == sentence
    assert commands(study) == []


def test_trials_as_a_frame_gives_them(study):
    for trial in study.results().trial[1:3]:
        study.stop_trial(trial)
    study.pin(np.int64(1), pinned=False)
    assert commands(study) == [m.StopTrial(trial=1), m.StopTrial(trial=2), m.Pin(trial=1, pinned=False)]


@pytest.mark.parametrize("timeout", [0, -1, "ages"], ids=repr)
def test_waiting_for_no_time(study, timeout):
    problem = "is not a length of time" if timeout == "ages" else "is not more than 0 seconds"
    assert raised(ValueError, study.wait, timeout) == f"timeout={timeout!r} {problem}: {TIME}"


def test_tables_and_files(study, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    suffixes = ".csv, .parquet, .json, .md, .tex, .html, .xlsx"
    refused = [
        ("results.doc", f"path='results.doc' has the suffix '.doc': use one of {suffixes}"),
        ("results", f"path='results' has the suffix '': use one of {suffixes}"),
        (".csv", f"path='.csv' has the suffix '': use one of {suffixes}"),
        ("no/where.csv", "path='no/where.csv' is in a folder that does not exist: make 'no' first"),
        ("folder.csv", "path='folder.csv' is a folder: give the name of a file"),
    ]
    for path, sentence in refused:
        assert raised(ValueError, study.export, path) == sentence
    assert raised(TypeError, study.export, None) == 'path=None is not a path: give one such as "results.csv"'
    tables = "'results', 'curves', 'spending', 'events'"
    assert raised(ValueError, study.export, "r.csv", "trials") == f"table='trials' is unknown: give one of {tables}"
    assert raised(ValueError, study.results, "first") == 'view=\'first\' is unknown: give "best" or "last"'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "studies"]
