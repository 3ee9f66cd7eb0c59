"""Whole experiments: their results, and that no test example influences what is fitted or selected."""

import copy
import pickle
import subprocess
import sys
from functools import cache

import joblib
import numpy as np
import pandas as pd
import pytest

import seer_nb as seer
from seer_nb._utils.units import format_duration
from seer_nb.methods import fairprep
from seer_nb.methods.fairprep.lifecycle import LifecycleRecord
from seer_nb.methods.fairprep.result import FairResult
from seer_nb.methods.fairprep.splits import Selection, record_selection, split
from seer_nb.storage import layout
from tests.methods.fairprep.small import KNOWN, QUICK, experiment, make_data, value
from tests.support.studies import assert_no_processes_left
from tests.support.waiting import until

MANY = {
    "learners": [QUICK],
    "postprocessors": ["none", "reject_option", "equalized_odds", "calibrated_equalized_odds"],
}


PARTS = {"learners": ["decision_tree", QUICK], "postprocessors": ["none", "reject_option"], "seeds": [1, 2]}


@cache
def records():
    return experiment(**PARTS).run().records


@pytest.fixture
def result():
    """A result without a selection."""
    return FairResult(experiment(**PARTS).origin, records(), "all runs completed", wall_s=1.0)


def poison_test_rows(data, seed=0):
    """Give test examples huge numbers, unknown colours, and swapped labels and groups."""
    rows = split(len(data), seed).test
    bad = data.copy()
    bad.loc[rows, ["height", "width"]] = bad.loc[rows, ["height", "width"]].fillna(1.0) * 1e6
    bad.loc[rows, "colour"] = "infrared"
    bad.loc[rows, "label"] = bad.loc[rows, "label"].map({"good": "bad", "bad": "good"})
    bad.loc[rows, "group"] = bad.loc[rows, "group"].map({"a": "b", "b": "a"})
    return bad


@pytest.mark.parametrize("handler", ["complete_case", "mode", "knn", "iterative"])
@pytest.mark.parametrize(("scaler", "preprocessor"), [("standard", "reweighing"), ("minmax", "di_remover_1")])
def test_poisoned_test_examples_do_not_change_fitted_stages(handler, scaler, preprocessor):
    parts = {"handlers": [handler], "scalers": [scaler], "preprocessors": [preprocessor], **MANY}
    clean, bad = (experiment(data, **parts) for data in (make_data(), poison_test_rows(make_data())))
    for key in clean.task.keys(clean.seeds):
        stages = [each.task.fit(key, LifecycleRecord()) for each in (clean, bad)]
        posts = [
            [each.task.fit_postprocessor(key, fitted, name) for name in MANY["postprocessors"]]
            for each, fitted in zip((clean, bad), stages, strict=True)
        ]
        # The hash covers handler, scaler, encoder, pre-processor, model, hyperparameters and thresholds.
        assert joblib.hash([stages[0], posts[0]]) == joblib.hash([stages[1], posts[1]])


def test_poisoned_test_examples_change_test_metrics_only():
    parts = {"learners": ["decision_tree", QUICK], "preprocessors": ["none", "reweighing"]}
    clean, bad = (experiment(data, **parts).run() for data in (make_data(), poison_test_rows(make_data())))
    pd.testing.assert_frame_equal(clean.frame, bad.frame)
    by = ["accuracy", "disparate_impact"]
    assert clean.select(by).selected == bad.select(by).selected
    assert clean.best == bad.best
    assert value(bad.frame, "accuracy", split="test") < value(clean.frame, "accuracy", split="test")


def test_poisoned_training_examples_change_fitted_stages():
    # Shows that the tests above would detect a leak.
    rows = split(300, 0).train
    bad = make_data().assign(width=lambda data: data.width.where(~data.index.isin(rows[:20]), 50.0))
    (key,) = experiment(learners=[QUICK]).task.keys((0,))
    fitted = [experiment(data, learners=[QUICK]).task.fit(key, LifecycleRecord()) for data in (make_data(), bad)]
    assert joblib.hash(fitted[0]) != joblib.hash(fitted[1])


def test_training_function_contains_no_test_example():
    data = make_data()
    tested = split(300, 0).test
    task = pickle.dumps(experiment(data.assign(width=np.where(data.index.isin(tested), 7.25, 0.5))).task)
    assert np.float64(7.25).tobytes() not in task
    assert np.float64(0.5).tobytes() in task


def test_test_set_is_sealed_before_a_selection(result):
    sealed = result.origin.sealed
    for read in (result.test_metrics, lambda: result.summary(split="test"), lambda: result.selected):
        with pytest.raises(fairprep.SealedError, match=r"call select\(\) first"):
            read()
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(fairprep.SealedError, match="cannot be pickled or copied"):
            copier(sealed)
    with pytest.raises(fairprep.SealedError, match="sealed until"):
        sealed.measure(None, 0, 1, None, None)
    with pytest.raises(fairprep.SealedError, match="run 3 was not selected"):
        sealed.measure(Selection([1, 2]), 3, 1, None, None)
    assert not [name for name in dir(sealed) if isinstance(getattr(sealed, name), np.ndarray | pd.DataFrame)]
    assert set(result.frame.split) == {"train", "validation"}
    assert "test" not in result.figures


def test_selection_is_final_and_unseals_selected_runs_only(result):
    assert result.select(["accuracy", "disparate_impact"]) is result
    (setting,) = result.selected
    tested = result.test_metrics()
    assert set(result.frame.split) == {"train", "validation", "test"}
    assert len(set(tested.run)) == len(set(tested.seed)) == 2
    assert set(tested.learner) == {setting.learner}
    assert set(tested.postprocessor) == {setting.postprocessor}
    assert set(result.best.runs) == set(tested.run)
    assert set(result.figures) == {"tradeoff", "spread", "test"}
    # The legend shows each intervention with a symbol of its own, below its learner.
    shown = {(trace.legendgroup, trace.name): trace.marker.symbol for trace in result.figures["tradeoff"].data}
    interventions = dict.fromkeys(name for _, name in shown)
    assert len(shown) == len(interventions) * len({learner for learner, _ in shown})
    assert len({shown[learner, name] for learner, name in shown}) == len(interventions) > 1
    with pytest.raises(fairprep.SealedError, match="final"):
        result.select("auc")
    with pytest.raises(fairprep.SealedError, match="another selection"):
        result.origin.sealed.measure(Selection([0]), 0, 1, None, None)
    assert value(result.frame, "n", split="test").tolist() == [60, 60]


def test_selection_of_the_best_setting_for_each_learner(result):
    result.select("accuracy", for_each=["learner"])
    assert [setting.learner for setting in result.selected] == ["decision_tree", QUICK.name]
    assert len(result.summary(split="test")) == 2


@pytest.mark.parametrize(
    ("by", "best"),
    [
        ("accuracy", "accurate"),
        (["accuracy", "disparate_impact"], "accurate"),
        (["disparate_impact", "accuracy"], "fair"),
        ({"accuracy": 1, "disparate_impact": 2}, "fair"),
        (lambda metrics: -metrics["accuracy"], "neither"),
        (["equal_opportunity_difference"], "fair"),
    ],
)
def test_scorer_ranks_settings(by, best):
    from seer_nb.methods.fairprep import selection

    # A ratio of 2 is as far from 1 as 0.5. (The authors' code compared the metric's name with 1.)
    metrics = {
        "accurate": {"accuracy": 0.9, "disparate_impact": 2.0, "equal_opportunity_difference": -0.3},
        "fair": {"accuracy": 0.7, "disparate_impact": 1.05, "equal_opportunity_difference": 0.01},
        "neither": {"accuracy": 0.6, "disparate_impact": 0.4, "equal_opportunity_difference": 0.4},
    }
    score = selection.make_scorer(by)
    assert max(metrics, key=lambda name: score(metrics[name])) == best
    assert selection.goodness("disparate_impact", 2.0) == selection.goodness("disparate_impact", 0.5)
    assert selection.goodness("false_negative_rate", 0.1) > selection.goodness("false_negative_rate", 0.2)
    points = [(1, 0), (0, 1), (0, 0), (1, 0), (float("nan"), 2)]
    assert selection.find_undominated(points) == [True, True, False, True, True]


def test_equal_seeds_give_equal_tables(result):
    again = experiment(**PARTS).run()
    pd.testing.assert_frame_equal(result.frame, again.frame)
    pd.testing.assert_frame_equal(result.curves(), again.curves())
    result.select(), again.select()
    pd.testing.assert_frame_equal(result.test_metrics(), again.test_metrics())


def test_result_has_tables_and_files(result, tmp_path):
    assert list(result.frame.columns) == [
        *("run", "seed", "handler", "scaler", "preprocessor", "learner", "postprocessor"),
        *("split", "group", "metric", "value"),
    ]
    assert not result.frame.duplicated(["run", "split", "group", "metric"]).any()
    curves = result.curves()
    # Two seeds, two configurations and three folds; post-processors share a search.
    assert len(curves) == 2 * 2 * 3
    assert set(curves.epoch) == {1, 2, 3}
    assert len(result.runs()) == 8
    assert len(result.skyline()) >= 1
    assert pd.read_csv(result.export(tmp_path / "frame.csv")).shape == result.frame.shape
    assert pd.read_csv(result.export(tmp_path / "curves.csv", table="curves")).shape == curves.shape
    assert len(pd.read_csv(result.export(tmp_path / "runs.csv", table="runs"))) == 8


def test_tuned_learner_uses_the_best_configuration_of_its_search(result):
    curves = result.curves()
    last = curves[curves.epoch == 3]
    runs = result.runs()
    for seed, of_seed in last.groupby("seed"):
        (chosen,) = set(runs[(runs.seed == seed) & (runs.learner == QUICK.name)].config)
        assert chosen == of_seed.loc[of_seed.value.idxmax(), "config"]


def test_halving_stops_some_configurations_early():
    tuning = fairprep.Tuning({"alpha": seer.loguniform(1e-5, 1e-1)}, configurations=9, policy="halving", folds=4)
    learner = fairprep.logistic_regression(tuning=tuning)
    curves = [experiment(learners=[learner]).run().curves() for _ in range(2)]
    pd.testing.assert_frame_equal(*curves)
    assert curves[0].trial.nunique() == 9
    assert len(curves[0]) < 36
    assert curves[0].epoch.max() == 4


def test_failed_run_has_an_error_and_is_not_selected():
    # No unprivileged validation example has a good label.
    data = make_data()
    rows = split(300, 0).validation
    data.loc[rows, "label"] = np.where(data.loc[rows, "group"] == "b", "bad", data.loc[rows, "label"])
    found = experiment(data, postprocessors=["none", "equalized_odds"]).run()
    assert found.runs().set_index("postprocessor").error.to_dict() == {
        "none": "",
        "equalized_odds": "equalized_odds: all validation examples have the same label in the unprivileged group",
    }
    assert found.select(lambda _: 1.0).selected[0].postprocessor == "none"


def test_interventions_can_be_given_as_pairs():
    pairs = [("none", "none"), ("none", "reject_option"), ("reweighing", "none")]
    found = experiment(interventions=pairs, learners=["decision_tree"]).run()
    assert list(zip(found.runs().preprocessor, found.runs().postprocessor, strict=True)) == pairs


def test_deadline_ends_an_experiment_in_this_process():
    found = experiment(learners=["decision_tree"], seeds=range(5), deadline=1e-9).run()
    assert len(found.runs()) == 1
    assert found.reason == "the deadline was reached"
    with pytest.raises(seer.SeerError, match="no setting succeeded for all seeds"):
        found.select()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_study_gives_the_same_result_on_any_number_of_workers(home, workers):
    parts = {
        "learners": ["decision_tree", QUICK],
        "interventions": [("none", "none"), ("none", "reject_option"), ("reweighing", "none")],
        "seeds": [1, 2],
    }
    tuned = experiment(
        **parts, provider=seer.Local(max_workers=2), workers=workers, deadline="4min", budget="$1", name="fair"
    )
    assert tuned.start() is tuned
    with pytest.raises(seer.SeerError, match="started already"):
        tuned.start()
    found, here, study = tuned.wait(), experiment(**parts).run(), tuned.study
    assert study.status == "ended"
    assert len(study.results()) == 8
    assert study.results().max_parallelism.max() == 1
    assert set(study.results().columns) >= {"config_seed", "config_learner", "config_preprocessor"}
    pd.testing.assert_frame_equal(found.frame, here.frame)
    pd.testing.assert_frame_equal(found.curves(), here.curves())
    pd.testing.assert_frame_equal(found.select().test_metrics(), here.select().test_metrics())
    assert found.spent_usd > 0
    assert found.seed == here.seed == (1, 2)
    assert found.wall_s > 0
    assert here.wall_s > 0
    assert f"2 seeds, {format_duration(here.wall_s)})" in repr(here)
    assert "accuracy" in study._repr_mimebundle_()["text/html"]


def run_in_process(code):
    """Return the output of another Python process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_another_process_can_attach_to_an_experiment_by_name(home):
    given = {"provider": seer.Local(1), "deadline": "4min", "budget": "$1", "name": "fair"}
    data = make_data()
    # Only test examples have this number.
    data.loc[split(300, 0).test, "width"] = 7.25
    first = experiment(data, learners=["decision_tree", QUICK], **given).start()
    until(lambda: fairprep.Experiment.attach("fair").study.status == "running", "a runner that others see")
    early = fairprep.Experiment.attach("fair").result()
    with pytest.raises(fairprep.SealedError, match=r"^it is running, and a selection is final: call wait\(\) before"):
        early.select()
    code = "from seer_nb.methods import fairprep; r = fairprep.Experiment.attach('fair').wait(240); "
    code += "print(r.select().test_metrics().to_json(double_precision=15))"
    output = run_in_process(code)

    opened = fairprep.Experiment.attach("fair")
    assert repr(opened) == repr(first) == "Experiment(2 runs, 1 seeds)"
    found, expected = opened.wait(), first.wait()
    assert (found.reason, found.wall_s, found.spent_usd, found.seed) == (
        *(expected.reason, expected.wall_s, expected.spent_usd, expected.seed),
    )
    for table in ("frame", "curves", "runs"):
        one, other = (getattr(each, table) for each in (found, expected))
        pd.testing.assert_frame_equal(*((one, other) if table == "frame" else (one(), other())))
    # The other process unsealed the test set for this selection only.
    found.select()
    (other,) = set(expected.runs().run) - set(found.test_metrics().run)
    assert found.test_metrics().to_json(double_precision=15) + "\n" == output
    with pytest.raises(fairprep.SealedError, match="unsealed for another selection, which is final"):
        expected.origin.sealed.measure(Selection([other]), other, 0, None, None)
    pd.testing.assert_frame_equal(expected.select().test_metrics(), found.test_metrics())
    # The training function, which workers receive, has no test example; the pathbook's part of the folder has.
    assert np.float64(7.25).tobytes() not in layout.read_function(opened.study.folder)
    assert np.float64(7.25).tobytes() in (opened.study.folder / layout.PARTS).read_bytes()
    assert_no_processes_left(home)


@pytest.mark.slow
def test_attach_rejects_other_studies(home):
    with pytest.raises(seer.SeerError, match=r"no study: provider=None; expected a provider such as seer.Local\(\)"):
        experiment().start()
    given = {"metric": "a", "mode": "max", "max_epochs": 1, "deadline": "1min", "budget": "$1"}
    seer.Study(lambda config, run: run.report(a=1.0), {"x": 1}, name="other", **given).run()
    with pytest.raises(seer.SeerError, match="name='other': study of another type than 'experiment'"):
        fairprep.Experiment.attach("other")


def test_half_written_selection_is_replaced(tmp_path):
    path = tmp_path / "selection.json"
    path.write_bytes(b"[1, ")
    assert record_selection(path, frozenset({1, 2})) == record_selection(path, frozenset({3})) == {1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": [1]}, r"data=\[1\]: not a pandas DataFrame"),
        ({"label": "x"}, "label='x': not a column of data; expected one of 'height'"),
        ({"protected": "x"}, "protected='x': not a column"),
        ({"protected": "label"}, "protected='label': is the label"),
        ({"positive": "great"}, "positive='great': no row has it in data.'label'."),
        ({"privileged": ["a", "b"]}, "privileged=.*: all rows have it"),
        ({"drop": "colour"}, "drop='colour': one str"),
        ({"drop": ["x"]}, r"drop\[0\]='x': not a column"),
        ({"handlers": "mode"}, "handlers='mode': not a list"),
        ({"handlers": ["drop"]}, r"handlers\[0\]='drop': unknown; expected one of 'complete_case'"),
        ({"scalers": []}, r"scalers=\[\]: empty"),
        ({"learners": [3]}, r"learners\[0\]=3: neither a name nor an object"),
        ({"preprocessors": ["none", "none"]}, r"preprocessors\[1\]: duplicate name 'none'"),
        ({"interventions": [("none",)]}, r"interventions\[0\]=\('none',\): not a pair"),
        ({"interventions": [("none", "x")]}, r"interventions\[0\]\[1\]='x': unknown"),
        ({"seeds": 3}, "seeds=3: not a list"),
        ({"seeds": [-1]}, r"seeds\[0\]=-1"),
        ({"seeds": [1, 1]}, "duplicate seed"),
        ({"test": 0}, "test=0: out of range"),
        ({"test": 0.6, "validation": 0.5}, "leave nothing to train on"),
        ({"budget": "$1"}, "budget='.1': needs a provider"),
        ({"provider": 3}, "provider=3: not a provider"),
        ({"provider": seer.Local(1), "budget": 1}, "deadline=None: required with a provider"),
        ({"deadline": "soon"}, "deadline='soon': not a length of time"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fairprep.Experiment(**{"data": make_data(), **KNOWN, **arguments})


def test_invalid_criteria_are_rejected(result):
    for by, message in {
        ("speed",): "'speed' is unknown",
        ("n",): "'n' is a count",
        ("auc", "auc"): "duplicate metric",
        (): "empty",
    }.items():
        with pytest.raises(ValueError, match=message):
            result.select(list(by))
    with pytest.raises(TypeError, match="by=3"):
        result.select(3)
    with pytest.raises(ValueError, match=r"for_each\[0\]='model': unknown"):
        result.select(for_each=["model"])


def test_missing_fairlearn_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fairlearn", None)
    with pytest.raises(seer.SeerError, match=r'pip install "seer_nb\[fair\]"'):
        experiment()
