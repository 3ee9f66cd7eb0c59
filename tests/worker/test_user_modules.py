"""Plain pickle on a worker finds the classes and functions that were sent by value."""

import importlib
import pickle
import sys

import cloudpickle
import pytest

from seer_nb.worker.user_modules import load_function

MODULE = """
class Net:
    class Inner:
        pass

def double(x):
    return 2 * x

def not_sent():
    return 7

def train(config, run):
    return double, [Net(), Net.Inner()]
"""


@pytest.fixture(params=["beside", "package_beside.models"])
def sent(request, tmp_path, monkeypatch):
    """A training function of a module by value, its module, and whether the worker has the module's file."""
    path = tmp_path.joinpath(*request.param.split(".")).with_suffix(".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(request.param)
    cloudpickle.register_pickle_by_value(module)
    pickled = cloudpickle.dumps(module.train)
    cloudpickle.unregister_pickle_by_value(module)
    _forget(request.param)
    yield request.param, pickled, path
    load_function(cloudpickle.dumps(len))
    _forget(request.param)


def _forget(name):
    importlib.invalidate_caches()
    for each in (name, name.partition(".")[0]):
        sys.modules.pop(each, None)


@pytest.mark.parametrize("has_file", [True, False])
def test_classes_and_functions_by_value_are_picklable_by_reference(sent, has_file):
    name, pickled, path = sent
    if not has_file:
        path.unlink()
    for _ in range(2):  # as for each gang
        double, objects = load_function(pickled)({}, None)
        assert pickle.loads(pickle.dumps(double)) is double
        assert [type(x) for x in pickle.loads(pickle.dumps(objects))] == [type(x) for x in objects]
    assert hasattr(importlib.import_module(name), "not_sent") == has_file


def test_a_function_of_the_notebook_finds_its_classes(monkeypatch):
    main = sys.modules["__main__"]
    exec("class Own:\n    pass\n\ndef train(config, run):\n    return Own()\n", vars(main))
    pickled = cloudpickle.dumps(main.train)
    del main.Own, main.train
    made = load_function(pickled)({}, None)
    assert type(pickle.loads(pickle.dumps(made))) is type(made)
    load_function(cloudpickle.dumps(len))
    assert not hasattr(main, "Own")
