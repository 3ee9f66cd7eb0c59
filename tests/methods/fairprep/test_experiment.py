"""Whole lifecycles: what a user gets, and that nothing of the test set leaks into it."""

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
from seer_nb.methods.fairprep.lifecycle import Record
from seer_nb.methods.fairprep.splits import Selection, _noted, split
from seer_nb.storage import layout
from tests.methods.fairprep.small import KNOWN, QUICK, experiment, made, value
from tests.support.studies import check_nothing_is_left
from tests.support.waiting import until

pytestmark = pytest.mark.slow

MANY = {
    "learners": [QUICK],
    "postprocessors": ["none", "reject_option", "equalized_odds", "calibrated_equalized_odds"],
}


PARTS = {"learners": ["decision_tree", QUICK], "postprocessors": ["none", "reject_option"], "seeds": [1, 2]}


@cache
def records():
    return experiment(**PARTS).run()._records


@pytest.fixture
def result():
    """One that nobody has selected from yet."""
    return experiment(**PARTS)._result(records(), "all runs are done", wall_s=1.0)


def poisoned(data, seed=0):
    """Test examples with huge numbers, unknown colours, the other labels and the other groups."""
    rows = split(len(data), seed).test
    bad = data.copy()
    bad.loc[rows, ["height", "width"]] = bad.loc[rows, ["height", "width"]].fillna(1.0) * 1e6
    bad.loc[rows, "colour"] = "infrared"
    bad.loc[rows, "label"] = bad.loc[rows, "label"].map({"good": "bad", "bad": "good"})
    bad.loc[rows, "group"] = bad.loc[rows, "group"].map({"a": "b", "b": "a"})
    return bad


@pytest.mark.parametrize("handler", ["complete_case", "mode", "knn", "iterative"])
@pytest.mark.parametrize(("scaler", "preprocessor"), [("standard", "reweighing"), ("minmax", "di_remover_1")])
def test_poison_in_test_examples_changes_nothing_that_is_fitted(handler, scaler, preprocessor):
    parts = {"handlers": [handler], "scalers": [scaler], "preprocessors": [preprocessor], **MANY}
    clean, bad = (experiment(data, **parts) for data in (made(), poisoned(made())))
    for place in clean.work.places(clean.seeds):
        stages = [each.work.fit(place, Record()) for each in (clean, bad)]
        posts = [
            [each.work.post(place, fitted, post) for post in MANY["postprocessors"]]
            for each, fitted in zip((clean, bad), stages, strict=True)
        ]
        # Handler, scaler, encoder, pre-processor, model and hyperparameters, and all thresholds.
        assert joblib.hash([stages[0], posts[0]]) == joblib.hash([stages[1], posts[1]])


def test_poison_in_test_examples_changes_no_choice_but_the_test_metrics():
    parts = {"learners": ["decision_tree", QUICK], "preprocessors": ["none", "reweighing"]}
    clean, bad = (experiment(data, **parts).run() for data in (made(), poisoned(made())))
    pd.testing.assert_frame_equal(clean.frame, bad.frame)
    by = ["accuracy", "disparate_impact"]
    assert clean.select(by).selected == bad.select(by).selected
    assert clean.best == bad.best
    assert value(bad.frame, "accuracy", split="test") < value(clean.frame, "accuracy", split="test")


def test_the_other_examples_do_count():
    # The leak test above would see a leak: it sees what poison in training examples does.
    rows = split(300, 0).train
    bad = made().assign(width=lambda data: data.width.where(~data.index.isin(rows[:20]), 50.0))
    (place,) = experiment(learners=[QUICK]).work.places((0,))
    fitted = [experiment(data, learners=[QUICK]).work.fit(place, Record()) for data in (made(), bad)]
    assert joblib.hash(fitted[0]) != joblib.hash(fitted[1])


def test_what_is_done_elsewhere_holds_no_test_example():
    data = made()
    tested = split(300, 0).test
    work = pickle.dumps(experiment(data.assign(width=np.where(data.index.isin(tested), 7.25, 0.5))).work)
    assert np.float64(7.25).tobytes() not in work
    assert np.float64(0.5).tobytes() in work


def test_the_test_set_refuses(result):
    sealed = result._origin.sealed
    for ask in (result.test_metrics, lambda: result.summary(split="test"), lambda: result.selected):
        with pytest.raises(fairprep.SealedError, match=r"select\(\) first"):
            ask()
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(fairprep.SealedError, match="cannot be pickled or copied"):
            take(sealed)
    with pytest.raises(fairprep.SealedError, match="sealed until"):
        sealed.measure(None, 0, 1, None, None)
    with pytest.raises(fairprep.SealedError, match="run 3 was not selected"):
        sealed.measure(Selection([1, 2]), 3, 1, None, None)
    assert not [name for name in dir(sealed) if isinstance(getattr(sealed, name), np.ndarray | pd.DataFrame)]
    assert set(result.frame.split) == {"train", "validation"}
    assert "test" not in result.figures


def test_a_selection_is_final_and_shows_the_chosen_alone(result):
    assert result.select(["accuracy", "disparate_impact"]) is result
    (setting,) = result.selected
    tested = result.test_metrics()
    assert set(result.frame.split) == {"train", "validation", "test"}
    assert len(set(tested.run)) == len(set(tested.seed)) == 2
    assert set(tested.learner) == {setting.learner}
    assert set(tested.postprocessor) == {setting.postprocessor}
    assert set(result.best.runs) == set(tested.run)
    assert set(result.figures) == {"tradeoff", "spread", "test"}
    with pytest.raises(fairprep.SealedError, match="final"):
        result.select("auc")
    with pytest.raises(fairprep.SealedError, match="another selection"):
        result._origin.sealed.measure(Selection([0]), 0, 1, None, None)
    assert value(result.frame, "n", split="test").tolist() == [60, 60]


def test_a_selection_for_each(result):
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
def test_what_is_best(by, best):
    from seer_nb.methods.fairprep import selection

    # A ratio of 2 is as far from 1 as one of a half: the original compared the metric's name with 1.
    metrics = {
        "accurate": {"accuracy": 0.9, "disparate_impact": 2.0, "equal_opportunity_difference": -0.3},
        "fair": {"accuracy": 0.7, "disparate_impact": 1.05, "equal_opportunity_difference": 0.01},
        "neither": {"accuracy": 0.6, "disparate_impact": 0.4, "equal_opportunity_difference": 0.4},
    }
    score = selection.scorer(by)
    assert max(metrics, key=lambda name: score(metrics[name])) == best
    assert selection.goodness("disparate_impact", 2.0) == selection.goodness("disparate_impact", 0.5)
    assert selection.goodness("false_negative_rate", 0.1) > selection.goodness("false_negative_rate", 0.2)
    assert selection.undominated([(1, 0), (0, 1), (0, 0), (1, 0), (float("nan"), 2)]) == [True, True, False, True, True]


def test_the_same_seed_gives_the_same_tables(result):
    again = experiment(**PARTS).run()
    pd.testing.assert_frame_equal(result.frame, again.frame)
    pd.testing.assert_frame_equal(result.curves(), again.curves())
    result.select(), again.select()
    pd.testing.assert_frame_equal(result.test_metrics(), again.test_metrics())


def test_tables(result, tmp_path):
    assert list(result.frame.columns) == [
        *("run", "seed", "handler", "scaler", "preprocessor", "learner", "postprocessor"),
        *("split", "group", "metric", "value"),
    ]
    assert not result.frame.duplicated(["run", "split", "group", "metric"]).any()
    curves = result.curves()
    # Two configurations and three folds, shared by both post-processors.
    assert len(curves) == 2 * 2 * 3
    assert set(curves.epoch) == {1, 2, 3}
    assert len(result.runs()) == 8
    assert len(result.skyline()) >= 1
    assert pd.read_csv(result.export(tmp_path / "frame.csv")).shape == result.frame.shape
    assert pd.read_csv(result.export(tmp_path / "curves.csv", table="curves")).shape == curves.shape
    assert len(pd.read_csv(result.export(tmp_path / "runs.csv", table="runs"))) == 8


def test_a_tuned_learner_takes_the_best_of_its_curves(result):
    curves = result.curves()
    last = curves[curves.epoch == 3]
    runs = result.runs()
    for seed, of_seed in last.groupby("seed"):
        (chosen,) = set(runs[(runs.seed == seed) & (runs.learner == QUICK.name)].config)
        assert chosen == of_seed.loc[of_seed.value.idxmax(), "config"]


def test_policies_leave_out_what_does_not_go_on():
    tuning = fairprep.Tuning({"alpha": seer.loguniform(1e-5, 1e-1)}, configurations=9, policy="halving", folds=4)
    learner = fairprep.logistic_regression(tuning=tuning)
    curves = [experiment(learners=[learner]).run().curves() for _ in range(2)]
    pd.testing.assert_frame_equal(*curves)
    assert curves[0].trial.nunique() == 9
    assert len(curves[0]) < 36
    assert curves[0].epoch.max() == 4


def test_a_run_that_cannot_be_fitted_says_why_and_is_not_selected():
    # Of the validation examples no unprivileged one has a good label.
    data = made()
    rows = split(300, 0).validation
    data.loc[rows, "label"] = np.where(data.loc[rows, "group"] == "b", "bad", data.loc[rows, "label"])
    found = experiment(data, postprocessors=["none", "equalized_odds"]).run()
    assert found.runs().set_index("postprocessor").error.to_dict() == {
        "none": "",
        "equalized_odds": "equalized_odds: all validation examples are of one label in a group (unprivileged)",
    }
    assert found.select(lambda _: 1.0).selected[0].postprocessor == "none"


def test_pairs_of_interventions():
    pairs = [("none", "none"), ("none", "reject_option"), ("reweighing", "none")]
    found = experiment(interventions=pairs, learners=["decision_tree"]).run()
    assert list(zip(found.runs().preprocessor, found.runs().postprocessor, strict=True)) == pairs


def test_a_deadline_in_this_process_cuts_short():
    found = experiment(learners=["decision_tree"], seeds=range(5), deadline=1e-9).run()
    assert len(found.runs()) == 1
    assert found.reason == "the deadline was reached"
    with pytest.raises(seer.SeerError, match="no setting has run well for all seeds"):
        found.select()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_gives_the_same_on_any_number_of_workers(home, workers):
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


def elsewhere(code):
    """What another process says."""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_an_experiment_is_opened_again_by_who_has_nothing_but_its_name(home):
    given = {"provider": seer.Local(1), "deadline": "4min", "budget": "$1", "name": "fair"}
    data = made()
    # A number that none but test examples have.
    data.loc[split(300, 0).test, "width"] = 7.25
    first = experiment(data, learners=["decision_tree", QUICK], **given).start()
    until(lambda: fairprep.Experiment.attach("fair").study.status == "running", "a runner that others see")
    early = fairprep.Experiment.attach("fair").result()
    with pytest.raises(fairprep.SealedError, match=r"^it is running, and a selection is final: wait\(\) for all runs"):
        early.select()
    code = "from seer_nb.methods import fairprep; r = fairprep.Experiment.attach('fair').wait(240); "
    code += "print(r.select().test_metrics().to_json(double_precision=15))"
    told = elsewhere(code)

    opened = fairprep.Experiment.attach("fair")
    assert repr(opened) == repr(first) == "Experiment(2 runs, 1 seeds)"
    found, expected = opened.wait(), first.wait()
    assert (found.reason, found.wall_s, found.spent_usd, found.seed) == (
        *(expected.reason, expected.wall_s, expected.spent_usd, expected.seed),
    )
    for table in ("frame", "curves", "runs"):
        one, other = (getattr(each, table) for each in (found, expected))
        pd.testing.assert_frame_equal(*((one, other) if table == "frame" else (one(), other())))
    # The other process has unsealed the test set for this selection, and for no other.
    found.select()
    (other,) = {run.id for run in expected._runs.values() if run.setting not in found.selected}
    assert found.test_metrics().to_json(double_precision=15) + "\n" == told
    with pytest.raises(fairprep.SealedError, match="unsealed for another selection, which is final"):
        expected._origin.sealed.measure(Selection([other]), other, 0, None, None)
    pd.testing.assert_frame_equal(expected.select().test_metrics(), found.test_metrics())
    # What workers get holds no test example; the notebook's own part of the folder does.
    assert np.float64(7.25).tobytes() not in layout.read_function(opened.study.folder)
    assert np.float64(7.25).tobytes() in (opened.study.folder / layout.PARTS).read_bytes()
    check_nothing_is_left(home)


def test_what_is_no_experiment_is_not_opened_as_one(home):
    with pytest.raises(seer.SeerError, match=r"no study, for it has no provider: give provider=seer.Local\(\)"):
        experiment().start()
    given = {"metric": "a", "mode": "max", "max_epochs": 1, "deadline": "1min", "budget": "$1"}
    seer.Study(lambda config, run: run.report(a=1.0), {"x": 1}, name="other", **given).run()
    with pytest.raises(seer.SeerError, match="name='other' is a study that is no experiment"):
        fairprep.Experiment.attach("other")


def test_a_note_of_a_selection_that_was_cut_short_binds_nobody(tmp_path):
    note = tmp_path / "selection.json"
    note.write_bytes(b"[1, ")
    assert _noted(note, frozenset({1, 2})) == _noted(note, frozenset({3})) == {1, 2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"data": [1]}, r"data=\[1\] is not a pandas DataFrame"),
        ({"label": "x"}, "label='x' is not a column of data: give one of 'height'"),
        ({"protected": "x"}, "protected='x' is not a column"),
        ({"protected": "label"}, "protected='label' is the label"),
        ({"positive": "great"}, "positive='great' is what no row of data.'label'. have"),
        ({"privileged": ["a", "b"]}, "privileged=.* is what all rows"),
        ({"drop": "colour"}, "drop='colour' is one text"),
        ({"drop": ["x"]}, r"drop\[0\]='x' is not a column"),
        ({"handlers": "mode"}, "handlers='mode' is not a list"),
        ({"handlers": ["drop"]}, r"handlers\[0\]='drop' is unknown: give one of 'complete_case'"),
        ({"scalers": []}, r"scalers=\[\] is empty"),
        ({"learners": [3]}, r"learners\[0\]=3 is neither a name nor an object"),
        ({"preprocessors": ["none", "none"]}, r"preprocessors\[1\] is called 'none' like one before"),
        ({"interventions": [("none",)]}, r"interventions\[0\]=\('none',\) is not a pair"),
        ({"interventions": [("none", "x")]}, r"interventions\[0\]\[1\]='x' is unknown"),
        ({"seeds": 3}, "seeds=3 is not a list"),
        ({"seeds": [-1]}, r"seeds\[0\]=-1"),
        ({"seeds": [1, 1]}, "has one twice"),
        ({"test": 0}, "test=0: out of range"),
        ({"test": 0.6, "validation": 0.5}, "leave nothing to train on"),
        ({"budget": "$1"}, "budget='.1' is of a study: give provider="),
        ({"provider": 3}, "provider=3 is no provider"),
        ({"provider": seer.Local(1), "budget": 1}, "deadline=None goes with no provider"),
        ({"deadline": "soon"}, "deadline='soon': not a length of time"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(arguments, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        fairprep.Experiment(**{"data": made(), **KNOWN, **arguments})


def test_what_cannot_be_selected_by(result):
    for by, sentence in {
        ("speed",): "'speed', which is unknown",
        ("n",): "'n', which is a count",
        ("auc", "auc"): "twice",
        (): "empty",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            result.select(list(by))
    with pytest.raises(TypeError, match="by=3"):
        result.select(3)
    with pytest.raises(ValueError, match=r"for_each\[0\]='model' is unknown"):
        result.select(for_each=["model"])


def test_without_fairlearn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fairlearn", None)
    with pytest.raises(seer.SeerError, match=r'pip install "seer_nb\[fair\]"'):
        experiment()
