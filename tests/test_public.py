"""The public face: what is promised by name is there, and importing it stays cheap."""

import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import seer_nb as seer
from seer_nb.study.best import Best
from seer_nb.views.tables import curves_frame, results_frame
from tests.support.records import small_study

HEAVY = ("torch", "dask", "distributed", "optuna", "pandas", "plotly", "sklearn", "ipywidgets", "rich")
RESULTS = ("trial", "state", "value", "best_epoch", "epochs", "config_lr", "config_act", "cost_usd", "worker_seconds")
RESULTS += ("max_parallelism", "started_s", "ended_s", "reason", "error")
CURVES = ("trial", "epoch", "value", "elapsed_s", "parallelism", "cost_usd", "loss")


@pytest.mark.parametrize("name", seer.__all__)
def test_every_public_name_exists(name):
    assert getattr(seer, name).__name__.rpartition(".")[2] == name
    assert name in dir(seer)


def test_every_submodule_is_reachable_in_a_fresh_interpreter():
    code = """
import os, pkgutil, sys
import seer_nb as seer
names = [f"seer.{m.name}" for m in pkgutil.iter_modules(seer.__path__) if not m.name.startswith("_")]
names += ["seer.policies.Hyperband(eta=2)", "seer.methods.bilevel.minimize", "seer.methods.sweep.sweep"]
names += ["seer.testing.loopback.loopback_cloud", "seer.errors.StoreError", "seer.providers.prices"]
for name in names:
    if (child := os.fork()) == 0:  # has imported only seer_nb, as a fresh interpreter
        eval(name)
        sys.exit()
    if os.waitpid(child, 0)[1]:
        print(name)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert (run.stdout, run.stderr) == ("", "")


def test_an_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="module 'seer_nb' has no attribute 'Stduy'"):
        _ = seer.Stduy


def test_import_seer_nb_imports_no_heavy_library():
    code = "import json, sys, seer_nb; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not set(json.loads(run.stdout)) & set(HEAVY)


def test_the_signature_of_study():
    parameters = inspect.signature(seer.Study).parameters
    assert list(parameters)[:2] == ["train", "space"]
    named = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert {name for name, default in named.items() if default is inspect.Parameter.empty} == {
        *("metric", "mode", "max_epochs", "deadline", "budget"),
    }
    assert {name: named[name] for name in ("provider", "policy", "sampler", "seed", "name")} == {
        "provider": None,
        "policy": "seer",
        "sampler": None,
        "seed": 0,
        "name": None,
    }


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            seer.Study,
            "start wait run adjust pause resume stop pin stop_trial trial best results curves spending events export",
        ),
        (seer.Study, "status reason plot_curves __await__ _repr_mimebundle_"),
        (seer.Run, "prepare loader epochs report mean save saved state config trial seed rank world_size device"),
        (Best, "load"),
    ],
)
def test_every_public_method_exists_and_is_documented(owner, names):
    for name in names.split():
        found = getattr(owner, name)
        assert name.startswith("_") or inspect.getdoc(found), f"{owner.__name__}.{name} has no docstring"


def test_the_fields_of_best():
    public = [name for name in Best.__dataclass_fields__ if not name.startswith("_")]
    assert public == ["trial", "config", "value", "epoch", "checkpoint"]


def test_the_columns_of_the_tables():
    state = small_study().state
    assert tuple(results_frame(state).columns) == RESULTS
    assert tuple(curves_frame(state).columns) == CURVES


def test_no_newer_release_of_a_dependency_is_excluded():
    """A user's newer torch must not be downgraded: a cap needs a test that shows what breaks."""
    project = tomllib.loads((Path(seer.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert [line for line in project["dependencies"] if "<" in line or "==" in line] == []
