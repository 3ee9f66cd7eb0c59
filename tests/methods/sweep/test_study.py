"""Sweeps as studies, on real workers."""

import time

import pytest
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

import seer_nb as seer
from seer_nb.methods.sweep import Sweep, sweep
from seer_nb.policies.random_search import Grid
from tests.methods.sweep.small import RIDGES, Picky, ridges, samples, train, untimed
from tests.support.studies import check_nothing_is_left, kill, runner_pid
from tests.support.waiting import until

pytestmark = pytest.mark.slow

GIVEN = {"train_ratios": (0.5, 0.8), "repeats": 2}
LIMITS = {"deadline": "10min", "budget": "$0.05"}
MLPS = {"hidden_layer_sizes": [(4,), (8, 8)], "learning_rate_init": [1e-2, 1e-3], "max_iter": [60]}


class Slow(Ridge):
    def fit(self, x, y):
        time.sleep(0.2)
        return super().fit(x, y)


@pytest.fixture(autouse=True)
def _folder(home):
    """Each has one."""


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_find_what_this_process_finds_however_many_they_are(workers, home):
    x, y = samples()
    here = sweep(MLPRegressor(), MLPS, x, y, **GIVEN)
    there = sweep(MLPRegressor(), MLPS, x, y, **GIVEN, provider=seer.Local(workers), **LIMITS)
    assert untimed(there.frame).equals(untimed(here.frame))
    assert untimed(there.curves()).equals(untimed(here.curves()))
    assert there.best.value == here.best.value == there.study.best.value
    assert (there.frame.ct_s > 0).all()
    # All cells were there from the start: had they waited within their time, it would be more than their trials took.
    trials = there.study.results()
    assert there.curves().ct_s.sum() < (trials.ended_s - trials.started_s).sum()
    assert 0 < there.spent_usd <= 0.05
    assert there.seed == here.seed == 0
    assert 0 < there.wall_s == there.study.state.now_s
    assert there.reason == "every configuration is trained"
    assert isinstance(there.study._chosen, Grid)
    check_nothing_is_left(home)


def test_a_training_function_finds_the_same_on_workers():
    grid = {"lr": [1e-3, 3e-2]}
    x, y = samples()
    given = {**GIVEN, "max_epochs": 5}
    there = sweep(train, grid, x, y, **given, provider=seer.Local(2), **LIMITS)
    assert untimed(there.frame).equals(untimed(ridges(grid, estimator=train, **given).frame))


def test_cells_that_fail_are_rows_also_when_they_are_the_first_and_when_all_do():
    x, y = samples()
    grid = {"alpha": [60.0, 70.0, 80.0, 90.0]}
    there = sweep(Picky(), grid, x, y, **GIVEN, provider=seer.Local(2), **LIMITS)
    assert untimed(there.frame).equals(untimed(ridges(grid, estimator=Picky()).frame))
    assert set(there.frame.state) == {"failed"}
    assert there.frame.error[0] == "RuntimeError: alpha of 60.0 is more than I bear"
    assert "Traceback" in there.study.results().error[0]
    assert there.best is None
    assert there.study.status == "ended"


def test_a_sweep_goes_on_after_its_runner_has_died():
    x, y = samples()
    begun = Sweep(Slow(), RIDGES, x, y, **GIVEN, provider=seer.Local(2), **LIMITS, name="mine").start()
    until(lambda: begun.result().frame.state.eq("completed").sum() >= 2, "two cells")
    kill(runner_pid(begun.study.folder))
    until(lambda: begun.study.status == "interrupted")
    assert begun.result().reason == "it is interrupted"

    found = Sweep.attach("mine")
    kept = found.result().frame.dropna(subset="ct_s")
    found.study.resume()
    done = found.wait()
    assert set(done.frame.state) == {"completed"}, done.study.results()[["state", "reason", "error"]].to_dict("records")
    assert untimed(done.frame).equals(untimed(ridges(estimator=Slow()).frame))
    # What had been done was not done again.
    assert done.frame.ct_s[kept.index].equals(kept.ct_s)


def test_what_was_stopped_has_cells_waiting_and_the_best_so_far():
    x, y = samples()
    grid = {"alpha": [float(alpha) for alpha in range(1, 200)]}
    begun = Sweep(Slow(), grid, x, y, **GIVEN, provider=seer.Local(2), **LIMITS).start()
    until(lambda: begun.result().best, "a cell")
    begun.study.stop()
    found = begun.wait()
    states = found.frame.state.value_counts()
    assert (len(found.frame), found.reason) == (398, "stopped by hand")
    assert 0 < states["completed"] < 398
    assert states["waiting"] > 0
    assert found.best.value == found.frame.value.min()


def test_what_is_no_sweep_is_not_opened_as_one():
    study = seer.Study(
        lambda config, run: run.report(a=1.0),
        {"x": 1},
        metric="a",
        mode="max",
        max_epochs=1,
        name="other",
        **LIMITS,
    ).run()
    with pytest.raises(seer.SeerError, match="name='other' is a study that is no sweep"):
        Sweep.attach(study.name)


def test_a_sweep_shows_its_study(monkeypatch):
    shown = []
    monkeypatch.setattr(seer.Study, "_ipython_display_", lambda study: shown.append(study.status))
    x, y = samples()
    found = sweep(Ridge(), {}, x, y, **GIVEN, provider=seer.Local(1), **LIMITS, name="seen", show=True)
    assert len(shown) == 1
    assert repr(Sweep.attach("seen")) == "<Sweep 'seen': 2 cells>"
    with pytest.raises(ValueError, match="name='seen' is already in use"):
        Sweep(Ridge(), {}, x, y, provider=seer.Local(1), **LIMITS, name=found.study.name)
