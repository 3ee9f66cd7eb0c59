"""The view model and the data of the learning curves."""

from seer_nb import core
from seer_nb.views.figure_data import MAX_COLOURED_CURVES, curves_info
from seer_nb.views.view_model import build_view, format_value
from tests.support.records import Builder, big_study, small_study


def test_view_agrees_with_the_state():
    study = small_study()
    view = build_view(study.state)
    assert [trial.trial for trial in view.trials] == [1, 0, 2, 3]
    assert view.best.trial == study.state.best.id == 1
    assert (view.n_survivors, view.workers, view.busy, view.booting) == (2, 2, 2, 0)
    assert (view.spent_micro, view.committed_micro, view.free_micro) == (19_000, 60_000, 421_000)
    assert view.config_names == ("lr", "act")
    assert view.trials[0].points == ((1, 0.7), (2, 0.9), (3, 0.8))


def test_trials_are_sorted_ascending_in_mode_min():
    view = build_view(small_study(mode="min").state)
    assert [trial.trial for trial in view.trials] == [2, 0, 1, 3]


def test_view_shows_booting_workers_and_failure():
    study = Builder().machine(0, 0.0).machine(1, 0.0, 2.0)
    assert (build_view(study.state).booting, build_view(study.state).workers) == (1, 1)
    study.apply(core.BeginEnd(failed=True, reason="all trials failed alike")).apply(core.Finish())
    view = build_view(study.state)
    assert (view.status, view.reason) == ("failed", "all trials failed alike")


def test_reason_is_the_plan_until_the_study_ends():
    study = Builder().apply(core.Note(reason="4 survivors"))
    assert build_view(study.state).reason == "4 survivors"
    study.apply(core.BeginEnd(reason="deadline"))
    assert build_view(study.state).reason == "deadline"


def test_coloured_curves_are_survivors_and_the_best_trial():
    info = curves_info(build_view(small_study().state))
    assert [trial.trial for trial in info.coloured] == [1]
    assert [trial.trial for trial in info.others] == [0, 2]
    study = small_study()
    study.end(2, "stopped")
    assert [trial.trial for trial in curves_info(build_view(study.state)).coloured] == [1]


def test_number_of_coloured_curves_is_bounded():
    study = Builder(max_epochs=3).machine(0, 0.0, 1.0).draw(*({"k": k} for k in range(20)))
    for k in range(20):
        study.start(k, k, "0.0").report(k, k / 10).end(k, "completed")
    info = curves_info(build_view(study.state))
    assert [trial.trial for trial in info.coloured] == [*range(19, 19 - MAX_COLOURED_CURVES, -1)]
    assert len(info.others) == 20 - MAX_COLOURED_CURVES


def test_outliers_do_not_extend_the_value_range():
    study = big_study()
    study.draw({"lr": 1.0, "width": 1}).start(60, 60, "0.0").report(60, -1e9).end(60, "stopped")
    info = curves_info(build_view(study.state))
    assert -1 < info.low < 0.2
    assert 0.9896 < info.high < 2


def test_many_weak_trials_do_not_extend_the_value_range():
    study = Builder().machine(0, 0.0, 1.0).draw(*({"k": k} for k in range(500)))
    study.start(0, 0, "0.0").report(0, 0.8, 0.9, 0.95).end(0, "completed")
    for k in range(1, 500):
        study.start(k, k, "0.0").report(k, 0.8 * (500 - k) / 500).end(k, "stopped")
    assert curves_info(build_view(study.state)).low > 0.6


def test_extreme_value_range_stays_finite():
    study = Builder().machine(0, 0.0, 1.0).draw({"k": 1}).start(0, 0, "0.0").report(0, -1.7e308, 1.7e308)
    info = curves_info(build_view(study.state))
    assert info.low < info.high


def test_values_are_formatted_with_four_digits():
    assert [format_value(v) for v in (None, 0.123456, 3, "relu", True)] == ["–", "0.1235", "3", "relu", "True"]  # noqa: RUF001
