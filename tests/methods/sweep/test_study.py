"""Sweeps as studies on real workers."""

import time

import pytest
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

import seer_nb as seer
from seer_nb.methods.sweep import Sweep, sweep
from seer_nb.policies.random_search import Grid
from tests.methods.sweep.small import RIDGES, FailsForLargeAlpha, samples, sweep_ridges, train, without_times
from tests.support.studies import assert_no_processes_left, kill, runner_pid
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
    """Give each test its own folder."""


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_result_of_this_process(workers, home):
    x, y = samples()
    here = sweep(MLPRegressor(), MLPS, x, y, **GIVEN)
    there = sweep(MLPRegressor(), MLPS, x, y, **GIVEN, provider=seer.Local(workers), **LIMITS)
    assert without_times(there.frame).equals(without_times(here.frame))
    assert without_times(there.curves()).equals(without_times(here.curves()))
    assert there.best.value == here.best.value == there.study.best.value
    assert (there.frame.ct_s > 0).all()
    # All cells exist from the start: times that included waiting would exceed the durations of the trials.
    trials = there.study.results()
    assert there.curves().ct_s.sum() < (trials.ended_s - trials.started_s).sum()
    assert 0 < there.spent_usd <= 0.05
    assert there.seed == here.seed == 0
    assert 0 < there.wall_s == there.study.state.now_s
    assert there.reason == "every configuration is trained"
    assert isinstance(there.study.read_policy(), Grid)
    assert_no_processes_left(home)


def test_training_function_gives_the_same_result_on_workers():
    grid = {"lr": [1e-3, 3e-2]}
    x, y = samples()
    given = {**GIVEN, "max_epochs": 5}
    there = sweep(train, grid, x, y, **given, provider=seer.Local(2), **LIMITS)
    assert without_times(there.frame).equals(without_times(sweep_ridges(grid, estimator=train, **given).frame))


def test_failing_cells_are_rows_also_when_all_fail():
    x, y = samples()
    grid = {"alpha": [60.0, 70.0, 80.0, 90.0]}
    there = sweep(FailsForLargeAlpha(), grid, x, y, **GIVEN, provider=seer.Local(2), **LIMITS)
    assert without_times(there.frame).equals(without_times(sweep_ridges(grid, estimator=FailsForLargeAlpha()).frame))
    assert set(there.frame.state) == {"failed"}
    assert there.frame.error[0] == "RuntimeError: alpha=60.0 is too large"
    assert "Traceback" in there.study.trial(0).error
    assert there.best is None
    assert there.study.status == "ended"


def test_sweep_resumes_after_its_runner_was_killed():
    x, y = samples()
    started = Sweep(Slow(), RIDGES, x, y, **GIVEN, provider=seer.Local(2), **LIMITS, name="mine").start()
    until(lambda: started.result().frame.state.eq("completed").sum() >= 2, "two completed cells")
    kill(runner_pid(started.study.folder))
    until(lambda: started.study.status == "interrupted")
    assert started.result().reason == "the study is interrupted"

    found = Sweep.attach("mine")
    kept = found.result().frame.dropna(subset="ct_s")
    found.study.resume()
    done = found.wait()
    assert set(done.frame.state) == {"completed"}, done.study.results()[["state", "reason", "error"]].to_dict("records")
    assert without_times(done.frame).equals(without_times(sweep_ridges(estimator=Slow()).frame))
    # Completed cells are not fitted again.
    assert done.frame.ct_s[kept.index].equals(kept.ct_s)


def test_stopped_sweep_has_waiting_cells_and_the_best_so_far():
    x, y = samples()
    grid = {"alpha": [float(alpha) for alpha in range(1, 200)]}
    started = Sweep(Slow(), grid, x, y, **GIVEN, provider=seer.Local(2), **LIMITS).start()
    until(lambda: started.result().best, "a completed cell")
    started.study.stop()
    found = started.wait()
    states = found.frame.state.value_counts()
    assert (len(found.frame), found.reason) == (398, "stopped by hand")
    assert 0 < states["completed"] < 398
    assert states["waiting"] > 0
    assert found.best.value == found.frame.value.min()


def test_attach_refuses_a_study_that_is_not_a_sweep():
    study = seer.Study(
        lambda config, run: run.report(a=1.0),
        {"x": 1},
        metric="a",
        mode="max",
        max_epochs=1,
        name="other",
        **LIMITS,
    ).run()
    with pytest.raises(seer.SeerError, match=r"^name='other': study of another type than 'sweep'"):
        Sweep.attach(study.name)


def test_sweep_shows_the_live_view_of_its_study(monkeypatch):
    shown = []
    monkeypatch.setattr(seer.Study, "_ipython_display_", lambda study: shown.append(study.status))
    x, y = samples()
    found = sweep(Ridge(), {}, x, y, **GIVEN, provider=seer.Local(1), **LIMITS, name="seen", show=True)
    assert len(shown) == 1
    assert repr(Sweep.attach("seen")) == "<Sweep 'seen': 2 cells>"
    with pytest.raises(ValueError, match="name='seen' is already in use"):
        Sweep(Ridge(), {}, x, y, provider=seer.Local(1), **LIMITS, name=found.study.name)
