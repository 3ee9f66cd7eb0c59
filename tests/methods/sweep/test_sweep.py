"""Cells in this process: all are there, each is a plain fit, and what chooses is not what is reported."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import seer_nb as seer
from seer_nb.methods.sweep import SweepResult, cell, split, sweep
from seer_nb.methods.sweep.data import Split
from tests.methods.sweep.small import RIDGES, Noisy, Picky, ridges, samples, train, untimed


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=3, unique=True),
    st.sampled_from([[True], [False, True]]),
    st.lists(st.sampled_from([0.4, 0.5, 0.6, 0.8]), min_size=1, max_size=3, unique=True),
    st.integers(1, 2),
)
def test_every_cell_is_there(alphas, intercepts, ratios, repeats):
    found = ridges({"alpha": alphas, "fit_intercept": intercepts}, train_ratios=ratios, repeats=repeats)
    frame = found.frame
    assert list(frame.cell) == list(range(len(alphas) * len(intercepts) * len(ratios)))
    assert not frame.duplicated(["train_ratio", "config_alpha", "config_fit_intercept"]).any()
    assert (frame.ct_s > 0).all()
    assert (frame.state == "completed").all()
    assert len(found.curves()) == repeats * len(frame)


def test_one_cell_reproduces_a_plain_fit():
    x, y = samples()
    found = sweep(MLPRegressor(max_iter=50, random_state=3), {}, x, y, train_ratios=(0.7,), repeats=1, seed=5)
    places = split(len(x), 0.7, seed=5)
    plain = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), MLPRegressor(max_iter=50, random_state=3)), transformer=StandardScaler()
    )
    with warnings.catch_warnings(action="ignore"):
        plain.fit(x.iloc[places.train], y.iloc[places.train])
    errors = root_mean_squared_error(y.iloc[places.test], plain.predict(x.iloc[places.test]), multioutput="raw_values")
    assert list(found.best.rmse_of.values()) == pytest.approx(errors)
    assert list(found.best.rmse_of) == list(y.columns)
    standard = errors / y.iloc[places.train].std(ddof=0)
    assert found.best.rmse == pytest.approx(np.sqrt((standard**2).mean()))
    assert found.best.config == {}


def test_a_default_network_is_beaten_by_the_grids_best_and_both_by_far_the_mean():
    x, y = seer.datasets.make_fff()
    given = {"train_ratios": (0.6, 0.8), "repeats": 1}
    grid = {"hidden_layer_sizes": [(2,), (32, 32)], "solver": ["adam", "lbfgs"], "max_iter": [200]}
    best = sweep(MLPRegressor(activation="tanh"), grid, x, y, **given)
    default, mean = (sweep(estimator, {}, x, y, **given).frame.rmse for estimator in (MLPRegressor(), DummyRegressor()))
    for place, chosen in enumerate(best.best_table().rmse):
        assert chosen <= default[place]
        assert chosen < 0.4 * mean[place]
    worst = best.frame.groupby("train_ratio").rmse.max()
    assert (best.best_table().rmse.to_numpy() < 0.6 * worst.to_numpy()).all()
    assert best.frame.converged.isin([0.0, 1.0]).all()


def test_what_judges_chooses_nothing():
    x, y = samples()
    before = ridges()
    changed = y.copy()
    # Samples that only judge, in both repeats and at both ratios.
    judging = set.intersection(*(set(split(len(x), 0.8, repeat=repeat).test) for repeat in (1, 2)))
    assert judging
    changed.iloc[sorted(judging)] += 1000.0
    after = sweep(Ridge(), RIDGES, x, changed, train_ratios=(0.5, 0.8), repeats=2)
    assert after.frame.value.equals(before.frame.value)
    assert after.best.cell == before.best.cell
    assert (after.frame.rmse > 10 * before.frame.rmse).all()


def test_units_do_not_matter_to_what_is_chosen():
    x, y = samples()
    before = ridges()
    after = sweep(Ridge(), RIDGES, x * 1000 - 5, y * [1, 100, 0.01] + 7, train_ratios=(0.5, 0.8), repeats=2)
    assert after.frame.value.to_numpy() == pytest.approx(before.frame.value.to_numpy())
    own = [name for name in before.frame if name.startswith("rmse_") and "standard" not in name and name != "rmse_sd"]
    assert (after.frame[own] / before.frame[own]).to_numpy() == pytest.approx(np.tile([1, 100, 0.01], (12, 1)))


def test_the_same_seed_gives_the_same_and_another_gives_another():
    first = ridges(seed=1)
    assert untimed(first.frame).equals(untimed(ridges(seed=1).frame))
    assert not untimed(first.frame).equals(untimed(ridges(seed=2).frame))


@pytest.mark.parametrize("own", [True, False])
def test_what_draws_is_seeded_alike_for_each_configuration_and_otherwise_for_each_repeat(own):
    np.random.seed(0)  # noqa: NPY002 - what others have done to the global generator
    one = ridges({"own": [own]}, estimator=Noisy())
    np.random.seed(1)  # noqa: NPY002
    again = ridges({"own": [own]}, estimator=Noisy())
    assert untimed(one.frame).equals(untimed(again.frame))
    assert one.curves().value.nunique() == 4


def test_a_cell_that_fails_is_a_row_with_its_error():
    found = ridges(estimator=Picky())
    failed = found.frame[found.frame.config_alpha == 100]
    assert list(failed.state) == ["failed"] * 4
    assert set(failed.error) == {"RuntimeError: alpha of 100.0 is more than I bear"}
    assert failed.rmse.isna().all()
    assert (found.frame.state == "completed").sum() == 8
    assert found.best.config["alpha"] < 50
    everything = ridges({"alpha": [100.0]}, estimator=Picky())
    assert everything.best is None
    assert everything.best_table().empty
    assert "nothing found" in repr(everything)
    assert list(everything.figures) == ["rmse", "ct", "best"]


def test_ties_are_broken_by_computational_time(monkeypatch):
    seconds = iter([0, 9, 0, 9, 0, 2, 0, 2, 0, 5, 0, 5])
    monkeypatch.setattr(cell.time, "perf_counter", lambda: next(seconds))
    # The seed of ridge's solver makes no difference.
    found = ridges({"random_state": [1, 2, 3]}, train_ratios=(0.5,), repeats=1)
    assert len(set(found.frame.value)) == 1
    assert list(found.frame.ct_s) == [9, 2, 5]
    assert found.best.config == {"random_state": 2}
    assert found.best_table("ct").cell.tolist() == [1]


def test_the_time_of_a_cell_is_the_median_of_its_fits_alone(monkeypatch):
    clock = {"now": 0.0}

    class Slow(Ridge):
        def fit(self, x, y):
            clock["now"] += len(x)
            return super().fit(x, y)

        def predict(self, x):
            clock["now"] += 1000.0
            return super().predict(x)

    monkeypatch.setattr(cell.time, "perf_counter", lambda: clock["now"])
    found = ridges({"alpha": [1.0]}, estimator=Slow(), train_ratios=(0.5,), repeats=3)
    assert found.curves().ct_s.tolist() == [20.0] * 3
    assert found.best.ct_s == 20.0


def test_fits_have_one_thread():
    from threadpoolctl import threadpool_info, threadpool_limits

    seen = []

    class Looking(Ridge):
        def fit(self, x, y):
            seen.extend(pool["num_threads"] for pool in threadpool_info())
            return super().fit(x, y)

    with threadpool_limits(limits=2):
        assert {pool["num_threads"] for pool in threadpool_info()} == {2}, "else nothing is shown"
        ridges({}, estimator=Looking(), repeats=1)
    assert set(seen) == {1}


def test_the_deadline_leaves_cells_waiting(monkeypatch):
    found = ridges(deadline=1e-9)
    assert list(found.frame.state) == ["waiting"] * 12
    assert found.reason == "the deadline was reached"
    assert found.best is None


def test_a_training_function_is_swept_like_an_estimator():
    found = ridges({"lr": [1e-4, 3e-2]}, estimator=train, max_epochs=20, repeats=1)
    assert found.best.config == {"lr": 3e-2}
    assert found.best.rmse < 0.8
    assert untimed(found.frame).equals(
        untimed(ridges({"lr": [1e-4, 3e-2]}, estimator=train, max_epochs=20, repeats=1).frame)
    )


def test_a_training_function_may_return_what_predicts_and_nothing_else():
    def ridge(config, run):
        return Ridge(alpha=config["alpha"]).fit(run.x, run.y)

    found = ridges({"alpha": RIDGES["alpha"]}, estimator=ridge)
    assert found.frame.rmse.tolist() == pytest.approx(ridges({"alpha": RIDGES["alpha"]}).frame.rmse.tolist())
    forgot = ridges({}, estimator=lambda config, run: None).frame
    assert forgot.error.str.contains("the training function returned None: it must return its model").all()
    short = ridges({}, estimator=lambda config, run: lambda x: x[:, :1]).frame
    assert short.error.str.contains("its predictions have the shape").all()
    diverged = ridges({}, estimator=lambda config, run: lambda x: np.full((len(x), 3), np.nan)).frame
    assert diverged.error.str.contains("its predictions are not all finite").all()


def test_one_target_may_be_flat_and_several_go_through_scikit_learns_wrapper():
    x, y = samples()
    one = sweep(GradientBoostingRegressor(n_estimators=5), {}, x, y["porosity_percent"], train_ratios=(0.8,), repeats=1)
    assert list(one.best.rmse_of) == ["porosity_percent"]
    grid = {"estimator__max_depth": [1, 2]}
    many = sweep(
        MultiOutputRegressor(GradientBoostingRegressor(n_estimators=5)), grid, x, y, train_ratios=(0.8,), repeats=1
    )
    assert (many.frame.state == "completed").all()


def test_other_warnings_are_passed_on():
    class Warns(Ridge):
        def fit(self, x, y):
            warnings.warn("look", UserWarning, stacklevel=2)
            return super().fit(x, y)

    with pytest.warns(UserWarning, match="look"):
        ridges({}, estimator=Warns(), repeats=1)


def test_a_split_is_the_same_for_all_configurations(monkeypatch):
    seen = []
    monkeypatch.setattr("seer_nb.methods.sweep.task.fit", lambda make, table, places: seen.append(places) or _fit())
    ridges(repeats=1)
    assert len(seen) == 12
    assert len({places.train.tobytes() for places in seen}) == 2
    assert all(isinstance(places, Split) for places in seen)


def _fit():
    return cell.Fit(0.1, 0.1, 0.1, 1.0, (0.1,) * 3, (0.1,) * 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"estimator": 3}, "estimator=3 is neither: give a scikit-learn regressor"),
        ({"estimator": Ridge}, "is neither: give a scikit-learn regressor"),
        ({"estimator": lambda config: None}, r"cannot be called as train\(config, run\)"),
        ({"grid": [1]}, r"grid=\[1\] is not a dict"),
        ({"grid": {"alpha": "all"}}, r"grid\['alpha'\]='all' is not a list of values"),
        ({"grid": {"alpha": []}}, r"grid\['alpha'\]=\[\] is empty"),
        ({"grid": {"alpha": [1, 1.0]}}, r"grid\['alpha'\] has the value 1.0 twice"),
        ({"grid": {"alpha": [float("nan")]}}, r"grid\['alpha'\] has the value nan"),
        ({"grid": {"beta": [1]}}, r"grid has the name 'beta', which Ridge\(\) does not know: it has 'alpha'"),
        ({"grid": {"train_ratio": [1]}}, "give train ratios as train_ratios="),
        ({"grid": {3: [1]}}, "grid has the name 3"),
        ({"X": [["a"]] * 40}, "X is not made of numbers"),
        ({"X": np.zeros((3, 2))}, r"X has the shape \(3, 2\) and y has \(40, 3\)"),
        ({"X": np.full((40, 2), np.inf)}, r"X has inf at \(0, 0\): give finite numbers"),
        ({"y": np.zeros((40, 0))}, "at least one input and one target"),
        ({"y": pd.DataFrame(np.zeros((40, 2)), columns=["a", "a"])}, "y has two columns called 'a'"),
        ({"train_ratios": 0.5}, "train_ratios=0.5 is not a list"),
        ({"train_ratios": (0.5, 0.5)}, "must hold at least one ratio, and each once"),
        ({"train_ratios": (1.5,)}, r"train_ratios\[0\]=1.5: out of range"),
        ({"train_ratios": (0.01,)}, "leave 0 to fit"),
        ({"repeats": 0}, "repeats=0: too small"),
        ({"validation": 1}, "validation=1 leaves nothing over"),
        ({"seed": -1}, "seed=-1: not a seed"),
        ({"max_epochs": 0.5}, "max_epochs=0.5: not an integer"),
        ({"budget": 1}, "budget=1 needs a provider"),
        ({"name": "mine"}, "name='mine' needs a provider"),
        ({"show": True}, "show=True needs a provider"),
        ({"deadline": "soon"}, "deadline='soon': not a length of time"),
        ({"provider": seer.Local(1)}, "provider needs both ceilings, but deadline=None"),
        ({"provider": seer.Local(1), "deadline": "1min"}, "but budget=None"),
        ({"provider": 3, "deadline": "1min", "budget": 1}, "provider=3 does not rent machines"),
    ],
)
def test_what_cannot_be_is_said(changes, sentence):
    x, y = samples()
    given = {"estimator": Ridge(), "grid": {"alpha": [1.0]}, "X": x, "y": y, **changes}
    with pytest.raises((TypeError, ValueError), match=sentence):
        sweep(given.pop("estimator"), given.pop("grid"), given.pop("X"), given.pop("y"), **given)


def test_the_result_is_one():
    assert isinstance(ridges(), SweepResult)
