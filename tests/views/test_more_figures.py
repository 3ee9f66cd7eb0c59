"""Plotly figures over time and of the search space: their data and their traces."""

import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.core.history import step_value_at
from seer_nb.search_space.surrogate import importances
from seer_nb.views import figure_data
from seer_nb.views.plotly_curves import coordinates_info, coordinates_plot, importance_info
from seer_nb.views.plotly_time import burn_plot, parallelism_plot, timeline_info, timeline_plot
from seer_nb.views.view_model import build_view
from tests.support.records import Builder, big_study, small_study


def test_timeline_has_a_span_for_each_period_with_workers():
    study = small_study()
    info = timeline_info(study.state, study.history)
    assert [(span.trial, span.workers, span.state) for span in info.spans] == [
        (0, 1, "stopped"),
        (2, 1, "failed"),
        (1, 2, "running"),
    ]
    assert info.spans[-1].end_s == study.now_s
    names = [trace.name for trace in timeline_plot(info).data]
    assert names == ["running", "stopped", "failed"]


def workers(study, coloured):
    return figure_data.parallelism_info(study.state, study.history, build_view(study.state), coloured)


def test_bands_add_up_to_the_training_workers():
    study = big_study()
    info = workers(study, [0, 12, 24])
    for k in range(50):
        at_s = info.now_s * k / 50
        total = sum(step_value_at(band.steps, at_s) for band in info.bands)
        assert total == pytest.approx(step_value_at(study.history.training_workers, at_s), abs=1)
    figure = parallelism_plot(info)
    assert [trace.name for trace in figure.data] == [
        "trial 0",
        "trial 12",
        "trial 24",
        "other trials",
        "ready",
        "wanted",
    ]


def test_losses_and_boots_are_marked():
    study = small_study()
    study.apply(core.MachineEnded(machine=1, expected=False, reason="killed"), 20.0)
    info = workers(study, [1])
    assert info.losses == (20.0,)
    assert info.boots == ((0.0, 2.0), (3.0, 5.0))
    assert "lost" in [trace.name for trace in parallelism_plot(info).data]


def test_burn_info_follows_the_ledger_and_the_limits():
    study = small_study().apply(core.SetBudget(budget_micro=700_000), 20.0)
    info = figure_data.burn_info(study.history, build_view(study.state))
    assert info.spent[-1] == (20.0, study.state.ledger.spent_micro(20.0) / 1e6)
    assert info.budgets == [(0.0, 0.5), (20.0, 0.7)]
    plan = figure_data.SpendingForecast(((20.0, 0.1, 0.1, 0.1), (500.0, 0.4, 0.3, 0.5)), 500.0)
    names = [
        trace.name for trace in burn_plot(figure_data.burn_info(study.history, build_view(study.state), plan)).data
    ]
    assert names == ["band", "expected", "spent", "budget"]


def test_coordinates_have_linear_logarithmic_and_categorical_axes():
    study = small_study()
    info = coordinates_info(study.state)
    lr, act = info.axes
    assert act.ticks == ((0.0, "relu"), (1.0, "tanh"))
    # 0.5 is more than 30 times 0.01, so the axis is logarithmic.
    assert lr.positions == pytest.approx((-1.0, -2.0, -0.30103))
    assert lr.ticks == ((-2.0, "0.01"), (-1.0, "0.1"))
    assert len(info.values) == 3
    assert len(coordinates_plot(info).data[0].dimensions) == 3
    assert len(coordinates_plot(coordinates_info(Builder().state)).data) == 0


def test_most_important_hyperparameter_comes_first():
    study = Builder(max_epochs=1).machine(0, 0.0, 1.0)
    study.draw(*({"matters": k / 40, "noise": (k * 17) % 40} for k in range(40)))
    for k in range(40):
        study.start(k, k, "0.0").report(k, k / 40).end(k, "completed")
    shares = importances(list(study.state.trials.values()), "max")
    assert next(iter(shares)) == "matters"
    assert shares["matters"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    assert importances(list(study.state.trials.values()), "max") == shares


def test_failed_trials_without_a_report_do_not_count_for_importances():
    study = Builder(max_epochs=1).machine(0, 0.0, 1.0).draw(*({"lr": k / 20} for k in range(20)))
    for k in range(20):
        study.start(k, k, "0.0")
        if k % 2:
            study.end(k, "failed", error="ValueError")
        else:
            study.report(k, k / 20).end(k, "completed")
    assert importance_info(study.state).n_trials == 10
    failed = [trial for trial in study.state.trials.values() if not trial.curve]
    with pytest.raises(ValueError, match=r"^trials: 0 have reported; expected at least 8$"):
        importances(failed, "max")


def test_importance_of_too_few_trials_is_an_error():
    with pytest.raises(ValueError, match=r"trials: 3 have reported; expected at least 8"):
        importance_info(small_study().state)


def test_every_public_figure_can_be_drawn(journalled):
    study = journalled(big_study()).study
    for name in ("curves", "parallelism", "burn", "timeline", "parallel_coordinates", "parameter_importance"):
        assert len(getattr(seer.figures, name)(study).data) >= 1, name
