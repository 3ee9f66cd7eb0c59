"""A study as an Optuna study: what Optuna's own figures and storages make of it."""

import math

import optuna
import pytest
from optuna.trial import TrialState

from seer_nb.core import model as m
from seer_nb.optuna_study import to_optuna
from seer_nb.space import Space, choice, uniform
from tests.builders import big_study, small_study

SPACE = Space({"lr": uniform(0.001, 1.0), "act": choice(["relu", "tanh"])})
BIG = Space({"lr": uniform(0.0001, 1.0), "width": choice([32, 64, 128, 256])})


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_states_values_and_costs():
    found = to_optuna(small_study().state, SPACE, began=1_000_000.0)
    assert found.direction.name == "MAXIMIZE"
    assert [trial.state for trial in found.trials] == [TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL]
    stopped, running, failed = found.trials
    assert stopped.params == {"lr": 0.1, "act": "relu"}
    assert stopped.intermediate_values == {1: 0.4, 2: 0.6}
    assert stopped.user_attrs["cost_usd"] == pytest.approx(0.002)
    assert stopped.user_attrs["reason"] == "ranked 2nd of 2 at epoch 2"
    assert running.user_attrs["max_parallelism"] == 2
    assert "boom" in failed.user_attrs["error"]
    assert (stopped.datetime_complete - stopped.datetime_start).total_seconds() == pytest.approx(2.0)


def test_the_best_is_the_same_one():
    state = big_study().state
    found = to_optuna(state, BIG, began=0.0)
    assert found.best_value == state.best.best.value
    assert found.best_trial.user_attrs["trial"] == state.best.id
    assert found.best_trial.user_attrs["best_epoch"] == state.best.best.epoch


def test_a_value_that_was_not_finite_is_nan():
    study = small_study().report(2, None)
    values = to_optuna(study.state, SPACE, began=0.0).trials[1].intermediate_values
    assert math.isnan(values[4])


def test_less_may_be_better():
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


def test_a_storage_holds_it_for_the_dashboard(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    to_optuna(big_study().state, BIG, began=0.0, storage=url)
    again = optuna.load_study(study_name="digits", storage=url)
    assert len(again.trials) == 60
    assert again.best_trial.user_attrs["trial"] == 0


def test_constants_are_attributes():
    study = small_study()
    study.draw({"lr": 0.3, "act": "relu", "depth": 3}).apply(m.Note(reason="x"))
    study.start(4, 9, "0.0").report(9, 0.5)
    found = to_optuna(study.state, SPACE, began=0.0)
    assert found.trials[-1].user_attrs["depth"] == 3
    assert "depth" not in found.trials[-1].params
