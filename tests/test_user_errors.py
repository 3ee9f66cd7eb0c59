"""An error in a training function fails only its trial; the results show the traceback.

Real studies on real workers. One study mixes all that may go wrong, for each one costs seconds to boot.
"""

import importlib
import linecache
import math
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import seer_nb as seer
from seer_nb.storage import layout
from seer_nb.worker import output
from tests.support.studies import processes
from tests.support.waiting import until

HUNG = "hung: it did not report in time; the lines above show where it was"
NUMBER = "expected one number (a float, an int, or a tensor or array with one element)"


@pytest.fixture(autouse=True)
def home(home):
    """Each has one."""
    return home


def make(train, space, **changes):
    given = {
        "metric": "score",
        "mode": "max",
        "max_epochs": 2,
        "deadline": "4min",
        "budget": "$1",
        "provider": seer.Local(max_workers=2),
        "policy": "random_search",
        "name": "study",
    }
    return seer.Study(train, space, **{**given, **changes})


def check_all_is_handed_back(study, tmp_path):
    until(lambda: not processes(tmp_path), "the end of all processes")
    state = study.state
    assert all(machine.state == "ended" for machine in state.machines.values())
    assert state.ledger.committed_micro(state.now_s) == 0
    assert not state.gangs


# --- one study of everything ---


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("not even its text")


def raise_error(run):
    raise ValueError("the rate is too high")


def raise_late(run):
    if run.epoch == 2:
        raise ValueError("in the second epoch")
    run.report(score=0.3)


def raise_lines(run):
    raise ValueError("first line\nsecond line")


def raise_group(run):
    raise ExceptionGroup("two", [ValueError("one"), TypeError("other")])


def raise_huge(run):
    raise RuntimeError("y" * 20_000_000)


def raise_unprintable(run):
    raise UnprintableError


def raise_half_a_character(run):
    raise OSError("no file \udc80.txt")  # as Python gives file names that are not UTF-8


def deep_recursion(run):
    deep_recursion(run)


def sys_exit(run):
    sys.exit("enough")


def os_exit(run):
    os._exit(1)


def os_exit_0(run):
    os._exit(0)


def ask(run):
    input("go on? ")


def return_early(run):
    raise StopIteration  # out of the loop, in train below


def no_report(run):
    pass


def two_reports(run):
    run.report(score=0.1)
    run.report(score=0.1)


def unnamed(run):
    run.report(0.9)


def wrong_metric(run):
    run.report(accuracy=0.9)


def report_string(run):
    run.report(score="0.9")


def report_none(run):
    run.report(score=None)


def report_tensor(run):
    run.report(score=torch.ones(2))


def report_nan(run):
    run.report(score=math.nan)


def report_inf(run):
    run.report(score=math.inf)


def nan_late(run):
    run.report(score=0.2 if run.epoch == 1 else math.nan)


def hang(run):
    time.sleep(1000)


def swallow(run):
    while True:
        with suppress(BaseException):
            run.report(score=0.1)
        time.sleep(0.01)


def one_element(run):
    run.report(score=torch.tensor([0.6]), loss=np.float32(1.5), steps=np.array(3))


def print_much(run):
    line = "x" * 999
    for _ in range(50_000):
        print(line)
    run.report(score=0.4)


def good(run):
    run.report(score=0.8 + run.epoch / 20)


BEHAVIOURS = {
    each.__name__: each
    for each in (
        *(raise_error, raise_late, raise_lines, raise_group, raise_huge, raise_unprintable, raise_half_a_character),
        *(deep_recursion, sys_exit, os_exit, os_exit_0, ask, return_early, no_report, two_reports, unnamed),
        *(wrong_metric, report_string, report_none, report_tensor, report_nan, report_inf, nan_late, hang, swallow),
        *(one_element, print_much, good),
    )
}
COMPLETED = {"one_element": (1, 0.6), "print_much": (1, 0.4), "good": (2, 0.9)}
DIVERGED = {"report_nan": 1, "report_inf": 1, "nan_late": 2}
"""At which epoch."""
FAILED = {
    "raise_error": "ValueError: the rate is too high",
    "raise_late": "ValueError: in the second epoch",
    "deep_recursion": "RecursionError: maximum recursion depth exceeded",
    "sys_exit": "SystemExit: enough",
    "ask": "EOFError: EOF when reading a line",
    "raise_half_a_character": r"OSError: no file \udc80.txt",
    "no_report": "RuntimeError: epoch 1 ended without run.report(...)",
    "two_reports": "RuntimeError: run.report() was called twice in epoch 1",
    "unnamed": "TypeError: run.report() got 0.9 without a name; expected run.report(score=...)",
    "wrong_metric": "ValueError: run.report() got 'accuracy', but the study's metric is 'score'",
    "report_string": f"TypeError: run.report() got score='0.9', of type str; {NUMBER}",
    "report_none": f"TypeError: run.report() got score=None, of type NoneType; {NUMBER}",
    "report_tensor": f"TypeError: run.report() got score=<shape (2,)>, of type Tensor; {NUMBER}",
    "hang": HUNG,
    "swallow": HUNG,
}
"""The last line of the traceback, which is the reason too."""
WITHOUT_TRACEBACK = {
    "return_early": "the training function returned without a report",
    "os_exit": "the training function ended its worker's process: its process exited with code 1",
    "os_exit_0": "the training function ended its worker's process: its process exited with code 0",
}
HARD_TO_SAY = {
    "raise_lines": "ValueError: first line\nsecond line",
    "raise_group": "ExceptionGroup: two (2 sub-exceptions)",
    "raise_huge": "RuntimeError: yyyy",
    "raise_unprintable": "UnprintableError: <exception str() failed>",
}


def train(config, run):
    behave = BEHAVIOURS[config["behaviour"]]
    for _ in run.epochs():
        try:
            behave(run)
        except StopIteration:
            return


def test_each_user_error_fails_only_its_own_trial(tmp_path):
    assert BEHAVIOURS.keys() == {*COMPLETED, *DIVERGED, *FAILED, *WITHOUT_TRACEBACK, *HARD_TO_SAY}
    study = make(train, {"behaviour": seer.choice(list(BEHAVIOURS))}, report_timeout="6s").start().wait("4min")
    assert (study.status, study.reason) == ("ended", "every configuration is trained")
    check_all_is_handed_back(study, tmp_path)

    results = study.results().set_index("config_behaviour")
    results["traceback"] = [study.trial(trial).error for trial in results.trial]
    assert sorted(results.index) == sorted(BEHAVIOURS)
    for name, (epoch, value) in COMPLETED.items():
        row = results.loc[name]
        assert (row.state, row.reason, row.error, row.best_epoch) == ("completed", "trained all 2 epochs", "", epoch)
        assert row.value == pytest.approx(value)
    for name, epoch in DIVERGED.items():
        row = results.loc[name]
        assert (row.state, row.error) == ("stopped", "")
        assert row.reason == f"diverged: its value was not finite at epoch {epoch}"
    for name, last in FAILED.items():
        row = results.loc[name]
        assert (row.state, row.reason, row.error, row.traceback.splitlines()[-1]) == ("failed", last, last, last)
        check_traceback(row.traceback, name)
    for name, reason in WITHOUT_TRACEBACK.items():
        row = results.loc[name]
        assert (row.state, row.reason, row.error) == ("failed", reason, reason)
    for name, text in HARD_TO_SAY.items():
        row = results.loc[name]
        assert row.state == "failed"
        assert text in row.traceback
        assert len(row.traceback) < 20_000
        check_traceback(row.traceback, name)
    valued = results.value.dropna().drop(COMPLETED).to_dict()
    assert valued == {"raise_late": 0.3, "two_reports": 0.1, "nan_late": 0.2, "swallow": 0.1}
    assert study.best.config == {"behaviour": "good"}

    check_what_was_told(study, results)


def check_what_was_told(study, results):
    """Additional metrics and printed output are shown and stored."""
    curves = study.curves().set_index("trial").loc[results.trial["one_element"]]
    assert curves[["loss", "steps"]].to_numpy().tolist() == [[1.5, 3.0], [1.5, 3.0]]
    log = (study.folder / layout.LOGS / f"trial-{results.trial['print_much']}.log").read_bytes()
    assert log.startswith(b"x" * 999 + b"\n")
    assert log.endswith(output.NOTE)
    assert len(log) <= output.LIMIT + len(output.NOTE)
    for suffix in ("csv", "json", "md", "tex", "html"):
        assert "the rate is too high" in study.export(f"results.{suffix}").read_text()
    for suffix, read in (("parquet", pd.read_parquet), ("xlsx", pd.read_excel)):
        errors = read(study.export(f"results.{suffix}")).set_index("config_behaviour").error
        assert errors["raise_error"] == results.error["raise_error"]
    assert "✖ failed</td>" in study._repr_mimebundle_()["text/html"]


def check_traceback(error, name):
    """The traceback shows the user's file, function and line."""
    # An epoch that ends without a report is noticed in the loop.
    name = "train" if name == "no_report" else name
    frame = re.search(rf'File "{re.escape(__file__)}", line (\d+), in {name}\n +(?:\| +)?(.+)\n', error)
    assert frame, error
    assert frame[2] == linecache.getline(__file__, int(frame[1])).strip()


# --- studies that fail as a whole ---

MODULE = """\
import seer_nb as seer


class MyPolicy(seer.RandomSearch):
    pass


def divide(a, b):
    return a / b


def train(config, run):
    for _ in run.epochs():
        divide(1, config["zero"])  # always
        run.report(score=1.0)
"""
FAILS = "import multiprocessing\nif multiprocessing.parent_process():\n    divide(1, 0)  # on workers only\n"


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    """A file in a folder of the notebook's sys.path."""
    folder = tmp_path / "beside"
    folder.mkdir()
    (folder / "users_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("users_module")
    del sys.modules["users_module"]


def test_identical_failures_of_the_first_trials_end_the_study(users_module, tmp_path):
    space = {"lr": seer.uniform(0, 1), "zero": 0}
    study = make(users_module.train, space, policy=users_module.MyPolicy()).start()
    why = "the first 3 trials all failed with the same error: ZeroDivisionError: division by zero"
    with pytest.raises(seer.StudyFailedError) as caught:
        study.wait("4min")
    assert str(caught.value) == f"study 'study' failed: {why}"
    assert (study.status, study.reason, study.best) == ("failed", why, None)
    check_all_is_handed_back(study, tmp_path)
    state = study.state
    assert state.now_s < 120  # half of the time it had
    results = study.results()
    assert 3 <= len(results) <= 4  # the fourth had started
    for error in (study.trial(trial).error for trial in results.trial[results.state == "failed"]):
        assert 'users_module.py", line 14, in train\n    divide(1, config["zero"])  # always\n' in error
        assert error.endswith("ZeroDivisionError: division by zero\n")
    # An attached study shows the same.
    with pytest.raises(seer.StudyFailedError, match="the first 3 trials all failed with the same error"):
        seer.attach("study").wait(10)


@pytest.mark.slow
def test_a_function_that_workers_cannot_load_ends_the_study(users_module, tmp_path):
    Path(users_module.__file__).write_text(MODULE + FAILS)
    study = make(importlib.reload(users_module).train, {"lr": seer.uniform(0, 1)}).start()
    with pytest.raises(seer.StudyFailedError) as caught:
        study.wait("4min")
    assert str(caught.value).startswith("study 'study' failed: a worker could not load the training function: ")
    why = "cannot be imported on a worker: ZeroDivisionError: division by zero"
    assert f"{users_module.__file__} {why}" in study.reason
    assert study.status == "failed"
    check_all_is_handed_back(study, tmp_path)
    assert study.results().empty
