"""Training functions are pickled by value, or refused with the name of the object that prevents it."""

import functools
import importlib
import inspect
import socket
import subprocess
import sys
import threading

import cloudpickle
import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from seer_nb.storage import layout
from seer_nb.study import serialization
from seer_nb.worker import function
from tests.support import refusals
from tests.support.refusals import Rents, make, raised, train


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Bad input leaves nothing behind."""
    return refusals.home(tmp_path, monkeypatch)


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
        (max, "train=max has no readable signature: give a Python function of (config, run)"),
        (dict, "train=dict is a class: give a function, or an instance with __call__(config, run)"),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_invalid_training_functions_are_refused(given, sentence):
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
INSIDE = "inside the function, or in a .py file that it imports"


@pytest.fixture
def as_in_a_notebook():
    """Have the functions of this file pickled as a notebook's are: by value."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


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
def test_a_function_that_cannot_be_pickled_names_the_offending_object(home, as_in_a_notebook, given, name, where):
    sentence = raised(ValueError, make, given)
    if name is None:
        assert sentence.startswith("train=functools.partial(<function ")
    else:
        assert sentence.startswith(f"train={name} cannot be sent to the workers: ")
    variable = where.partition(" of ")[0] if where.startswith(("the global", "the closure")) else "it"
    assert sentence.endswith(f"cannot be sent to the workers: it uses {where}, {LOCKED}; create {variable} {INSIDE}")
    assert not home.exists()


def test_sockets_generators_and_open_files_are_named(tmp_path):
    with socket.socket() as connection, (tmp_path / "log").open("w") as file:
        kinds = (
            (connection, "socket.socket"),
            ((n for n in range(3)), "generator"),
            (file, "_io.TextIOWrapper"),
            (inspect.currentframe(), "frame"),
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


def test_a_users_module_may_hold_what_cannot_be_pickled(users_module, tmp_path):
    """Workers import it, so its lock is created there."""
    call = "print(found({}, None))"
    assert load_elsewhere(serialization.ship(users_module.locked).pickled, call, tmp_path) == "0.5\n"

    def whole_module(config, run):
        return users_module.fit()

    assert load_elsewhere(serialization.ship(whole_module).pickled, call, tmp_path) == "0.5\n"


def load_elsewhere(pickled, code, folder):
    """Return the output of a new process that can import neither this module nor the user's."""
    (folder / "pickled").write_bytes(pickled)
    load = "import cloudpickle, pathlib; found = cloudpickle.loads(pathlib.Path('pickled').read_bytes())\n"
    command = [sys.executable, "-c", load + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_a_users_module_is_sent_with_its_source(users_module, tmp_path):
    users_module.rate = None  # workers import the module afresh
    code = "print(found({}, None), found.__code__.co_filename.rpartition('/')[2], found.__module__)\n"
    code += "import linecache; print(linecache.getline(found.__code__.co_filename, 11).strip())"
    pickled = serialization.ship(users_module.clean).pickled
    away = tmp_path / "away"
    away.mkdir()
    (tmp_path / "users_module.py").unlink()
    assert load_elsewhere(pickled, code, away).splitlines() == ["0.5 users_module.py users_module", "return rate"]


def test_packages_installed_in_any_folder_are_not_the_users(users_module, tmp_path):
    """As by ``pip install --target``, which clusters of many a firm and university use."""
    assert b"def locked" in serialization.ship(users_module.locked).pickled
    (tmp_path / "users_package-1.0.dist-info").mkdir()
    assert b"def locked" not in serialization.ship(users_module.locked).pickled


def test_a_large_object_is_named_and_shared_by_all_processes_of_a_machine(home, tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "LARGE_BYTES", 2_000_000)
    array = np.arange(2**18, dtype=np.float64)
    tensor = torch.arange(2**19, dtype=torch.float32)
    half, small = tensor[: 2**18], torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    flags, frame = torch.ones(2**20, dtype=torch.bool), pd.DataFrame({"a": array})

    def held(config, run):
        tensor[0] += 7
        array[0] += 1
        return (
            float(tensor.sum() + small.detach().sum()),
            float(half[0]),
            int(flags.sum()),
            float(frame.a.sum() + array[0]),
        )

    where = "the closure variable 'array', of type numpy.ndarray, of 2 MiB; load such data inside the function"
    with pytest.warns(UserWarning, match=f"train=held sends 7 MiB to the workers: it uses {where}"):
        shipped = serialization.ship(held)
    assert len(shipped.pickled) < 2**20 * 3
    expected = held({}, None)
    tensor[0] -= 7
    array[0] -= 1
    folder = home / "study"
    layout.make_folder(folder)
    shipped.write(folder)
    layout.sign(folder)
    size = (folder / layout.OBJECTS).stat().st_size
    assert size == array.nbytes * 2 + tensor.nbytes + flags.nbytes  # the memory of half is sent once
    code = "print(found({}, None), 'objects.bin' in pathlib.Path('/proc/self/maps').read_text())"
    for shared in (True, False):
        # Each process changes its own copy.
        assert load_elsewhere(function.read(folder, shared=shared), code, tmp_path) == f"{expected} {shared}\n"


def test_modules_that_the_user_registered_stay_registered(users_module):
    cloudpickle.register_pickle_by_value(users_module)
    try:
        serialization.ship(users_module.clean)
        assert "users_module" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(users_module)
    serialization.ship(users_module.clean)
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


def test_a_function_in_main_is_pickled(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=True)
    sentence = f"train=train cannot be sent to the workers: it uses the global 'lock', {LOCKED}; "
    assert done.stdout == f"{sentence}create the global 'lock' {INSIDE}\n"


@pytest.mark.parametrize("argument", ["policy", "sampler", "provider"])
def test_other_arguments_that_cannot_be_pickled_are_named(home, argument):
    made = {"policy": Decides, "sampler": Sampler, "provider": lambda held: Rents(held=held)}[argument](LOCK)
    where = "cannot be sent to the runner: it holds the attribute 'held'"
    assert raised(ValueError, make, **{argument: made}) == f"{argument}={made!r} {where}, {LOCKED}"
    assert not home.exists()
