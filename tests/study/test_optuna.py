"""A study as an Optuna study: what Optuna's own figures and storages make of it."""

import math

import optuna
import pytest
from optuna.trial import TrialState

from seer_nb import core
from seer_nb.search_space import Space, choice, uniform
from seer_nb.study.optuna import to_optuna
from tests.support.records import big_study, small_study

SPACE = Space({"lr": uniform(0.001, 1.0), "act": choice(["relu", "tanh"])})
BIG = Space({"lr": uniform(0.0001, 1.0), "width": choice([32, 64, 128, 256])})


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_states_values_and_costs():
    found = to_optuna(small_study().state, SPACE, began=1_000_000.0)
    assert found.direction.name == "MAXIMIZE"
    # The best one is that even while it trains.
    assert [trial.state for trial in found.trials] == [TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL]
    stopped, best, failed = found.trials
    assert [trial.user_attrs["state"] for trial in found.trials] == ["stopped", "running", "failed"]
    assert [trial.user_attrs["epochs"] for trial in found.trials] == [2, 3, 1]
    assert [trial.value for trial in found.trials] == [0.6, 0.9, None]
    assert stopped.params == {"lr": 0.1, "act": "relu"}
    assert stopped.intermediate_values == {1: 0.4, 2: 0.6}
    assert stopped.user_attrs["cost_usd"] == pytest.approx(0.002)
    assert stopped.user_attrs["reason"] == "ranked 2nd of 2 at epoch 2"
    assert best.user_attrs["max_parallelism"] == 2
    assert "boom" in failed.user_attrs["error"]
    assert (stopped.datetime_complete - stopped.datetime_start).total_seconds() == pytest.approx(2.0)


def test_the_best_trial_is_the_same():
    state = big_study().state
    found = to_optuna(state, BIG, began=0.0)
    assert found.best_value == state.best.best.value
    assert found.best_trial.user_attrs["trial"] == state.best.id
    assert found.best_trial.user_attrs["best_epoch"] == state.best.best.epoch


def ended(study):
    """The study, at its end; what trained is paused."""
    for gang in list(study.state.gangs):
        study.apply(core.GangEnded(gang=gang, outcome="stopped"))
    return study.apply(core.BeginEnd(reason="the deadline was reached")).apply(core.Finish())


def test_candidates_at_the_end_are_complete():
    """Guards against a copy without a best trial, where no trial was fully trained."""
    study = small_study()
    study.start(3, 3, "0.0").report(3, 0.3)
    training = to_optuna(study.state, SPACE, began=0.0)
    assert [trial.state.name for trial in training.trials] == ["PRUNED", "COMPLETE", "FAIL", "RUNNING"]
    study.apply(core.GangEnded(gang=3, outcome="stopped"))
    assert study.state.trials[3].state == "paused"
    paused = to_optuna(study.state, SPACE, began=0.0)
    assert [trial.state.name for trial in paused.trials] == ["PRUNED", "COMPLETE", "FAIL", "PRUNED"]
    found = to_optuna(ended(study).state, SPACE, began=0.0)
    assert [trial.state.name for trial in found.trials] == ["PRUNED", "COMPLETE", "FAIL", "COMPLETE"]
    assert found.best_params == study.state.best.config == {"lr": 0.01, "act": "tanh"}
    assert found.best_trial.user_attrs["state"] == "paused"


@pytest.mark.parametrize("becomes", ["stopped", "failed"])
def test_the_best_trial_is_complete_whatever_its_state(becomes):
    study = small_study().end(2, becomes, "by hand")
    found = to_optuna(study.state, SPACE, began=0.0)
    assert found.best_value == study.state.best.best.value == 0.9
    assert found.best_trial.user_attrs["state"] == becomes


def test_a_value_that_is_not_finite_becomes_nan():
    study = small_study().report(2, None)
    values = to_optuna(study.state, SPACE, began=0.0).trials[1].intermediate_values
    assert math.isnan(values[4])


def test_mode_min_becomes_minimize():
    assert to_optuna(small_study(mode="min").state, SPACE, began=0.0).direction.name == "MINIMIZE"


@pytest.mark.parametrize(
    "name",
    [
        "plot_optimization_history",
        "plot_intermediate_values",
        "plot_parallel_coordinate",
        "plot_slice",
        "plot_param_importances",
        "plot_timeline",
        "plot_edf",
    ],
)
def test_optunas_figures_can_be_drawn(name):
    found = to_optuna(big_study().state, BIG, began=0.0)
    figure = getattr(optuna.visualization, name)(found)
    assert len(figure.data) >= 1


def test_a_storage_holds_the_study_for_optunas_dashboard(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    to_optuna(big_study().state, BIG, began=0.0, storage=url)
    again = optuna.load_study(study_name="digits", storage=url)
    assert len(again.trials) == 60
    assert again.best_trial.user_attrs["trial"] == 0


def test_a_second_export_replaces_the_first(tmp_path):
    url, study = f"sqlite:///{tmp_path}/optuna.db", small_study()
    optuna.create_study(study_name="letters", storage=url)
    for storage in (url, optuna.storages.InMemoryStorage()):
        to_optuna(study.state, SPACE, began=1.5, storage=storage)
        study.start(3, len(study.records), "0.0").report(len(study.records) - 1, 0.95)
        assert to_optuna(study.state, SPACE, began=1.5, storage=storage).best_value == 0.95
        assert len(optuna.load_study(study_name="digits", storage=storage).trials) == 4
        study = small_study()
    assert optuna.get_all_study_names(url) == ["letters", "digits"]


@pytest.mark.parametrize("theirs", ["made by hand", "of another study"])
def test_another_study_of_the_same_name_is_not_overwritten(tmp_path, theirs):
    url = f"sqlite:///{tmp_path}/optuna.db"
    if theirs == "made by hand":
        optuna.create_study(study_name="digits", storage=url).optimize(lambda trial: trial.suggest_float("x", 0, 1), 2)
    else:
        to_optuna(small_study().state, SPACE, began=1.0, storage=url)
    before = optuna.load_study(study_name="digits", storage=url).trials
    with pytest.raises(
        ValueError, match=r"^storage='sqlite.* has another study called 'digits', which is not a copy of "
    ):
        to_optuna(big_study().state, BIG, began=2.0, storage=url)
    assert optuna.load_study(study_name="digits", storage=url).trials == before


def test_constants_become_user_attributes():
    study = small_study()
    study.draw({"lr": 0.3, "act": "relu", "depth": 3, "layers": [8, 4]}).apply(core.Note(reason="x"))
    study.start(4, 9, "0.0").report(9, 0.5)
    found = to_optuna(study.state, SPACE, began=0.0)
    assert found.trials[-1].user_attrs["depth"] == 3
    assert found.trials[-1].user_attrs["layers"] == [8, 4]
    assert "depth" not in found.trials[-1].params
