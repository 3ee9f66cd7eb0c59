"""Forecasts of a study, before its start and while it runs."""

import math
import re
import time

import pandas as pd
import pytest

import seer_nb as seer
from seer_nb import core, simulate
from seer_nb._utils.units import format_duration, format_usd
from seer_nb.policies import SEER, RandomSearch
from seer_nb.simulate.extrapolation import ExtrapolatedWorld, StudyFit
from seer_nb.storage.journal import Journal
from seer_nb.study.forecast import ENOUGH_SIMULATIONS, TIME_COLUMNS, forecast, frontier, plot_frontier
from seer_nb.study.stage_table import COLUMNS
from tests.support.curve_tables import table
from tests.support.fake_cloud import FakeCloud, World
from tests.support.records import Builder
from tests.support.refusals import stored


def train(config, run):
    run.report(accuracy=1)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """However slow the machine is; fewer futures take less time."""
    monkeypatch.setattr("seer_nb.study.forecast.LIMIT_S", 100.0)
    monkeypatch.setattr("seer_nb.study.forecast.MAX_SIMULATIONS", 4)


@pytest.fixture
def one_future(monkeypatch):
    """Skip the simulations, for tests of the plan only."""
    monkeypatch.setattr("seer_nb.study.forecast.MAX_SIMULATIONS", 1)


def make(**changes):
    given = {"metric": "accuracy", "mode": "max", "max_epochs": 27, "deadline": "10min", "budget": "$1"}
    return seer.Study(train, {"x": seer.uniform(0, 1)}, **{**given, **changes}, provider=seer.Local(max_workers=4))


def halfway(at_s=150.0, policy=None):
    """State of a study on a fake cloud, stopped before its end."""
    return (
        FakeCloud(
            policy or SEER(), World(spread=0.3), max_epochs=9, deadline_s=400.0, budget_micro=2_000_000, max_workers=8
        )
        .run(until_s=at_s)
        .state
    )


# --- stages ---


@pytest.mark.usefixtures("one_future")
def test_stages_before_the_start():
    study = make()
    frame = study.forecast(epoch_seconds=2.0).stages
    assert list(frame.columns) == list(COLUMNS)
    # The first row are configurations drawn at random, the second those proposed.
    assert frame.until_epoch.tolist() == [1, 1, 3, 9, 27]
    assert frame.survivors.iloc[1:].is_monotonic_decreasing
    assert frame.survivors.iloc[0] <= frame.survivors.iloc[1]
    assert frame.survivors.iloc[1] > 3 * frame.survivors.iloc[-1]
    # It fills the time, and keeps both limits.
    assert 400 < frame.ends_s.iloc[-1] <= 600
    assert frame.cost_usd.iloc[-1] <= 1
    assert (frame.workers <= 4).all()
    # Nothing was started.
    assert study.status == "created"


@pytest.mark.slow
@pytest.mark.usefixtures("one_future")
def test_a_preview_with_more_time_tries_more_trials_and_changes_nothing():
    study = make()
    few = study.forecast(epoch_seconds=6.0).stages
    many = study.preview(deadline="30min", epoch_seconds=6.0).stages
    assert many.survivors.iloc[0] > 2 * few.survivors.iloc[0]
    pd.testing.assert_frame_equal(study.forecast(epoch_seconds=6.0).stages, few)
    assert study.preview(deadline="7s", epoch_seconds=6.0).stages.empty


@pytest.mark.usefixtures("one_future")
def test_a_preview_with_less_money_tries_fewer_trials():
    study = make()
    few = study.preview(budget="$0.01", epoch_seconds=6.0).stages
    assert few.survivors.iloc[0] < study.forecast(epoch_seconds=6.0).stages.survivors.iloc[0]


@pytest.mark.usefixtures("one_future")
def test_stages_of_a_running_study_use_measured_times(home):
    study = Builder(name="halfway", max_epochs=9, policy="seer", deadline_s=300.0, budget_micro=2_000_000)
    study.machine(0, 0.0, 2.0)
    study.draw({"x": 0.1}, {"x": 0.2}).start(0, 0, "0.0", until=1).report(0, 0.5, seconds=4.0)
    study.apply(core.GangEnded(gang=0, outcome="target"))
    (home / "halfway").mkdir()
    Journal.create(home / "halfway/journal.sqlite", [(at_s, record) for _, at_s, record in study.records])
    attached = seer.attach("halfway")
    found = attached.forecast()
    assert found.stages.ends_s.iloc[-1] <= 300
    assert found.stages.trials_left.iloc[0] == found.stages.survivors.iloc[0] - 1
    assert attached.forecast(epoch_seconds=1.5).stages.survivors.iloc[1] > found.stages.survivors.iloc[1]
    assert 0 < found.finish_s.value <= 300
    assert attached.status == "interrupted", "only the journal was there"


# --- by simulation ---


def test_a_forecast_before_the_start():
    found = make(deadline="3min").forecast(epoch_seconds=2.0)
    plan = found.over_time
    assert list(plan.columns) == list(TIME_COLUMNS)
    assert plan.elapsed_s.is_monotonic_increasing
    assert plan.cost_usd.is_monotonic_increasing
    assert (plan.cost_low <= plan.cost_usd + 1e-9).all()
    assert (plan.cost_usd <= plan.cost_high + 1e-9).all()
    assert plan.cost_high.max() <= 1.0
    assert plan.workers.max() == 4
    assert 90 < found.finish_s.value <= 180
    assert plan.cost_usd.iloc[-1] == pytest.approx(found.cost_usd.value, rel=0.01)
    # Nothing is known of the metric.
    assert found.best_value is None
    assert found.n_simulations == 4
    assert repr(found).startswith("Forecast(finish after ")


def test_a_forecast_of_a_running_study_has_a_best_value_and_changes_nothing():
    state = halfway()
    before = (state.now_s, len(state.trials), state.ledger.spent_micro(state.now_s), len(state.gangs))
    found = forecast(state, SEER())
    assert (state.now_s, len(state.trials), state.ledger.spent_micro(state.now_s), len(state.gangs)) == before
    assert found.best_value.low <= found.best_value.value <= found.best_value.high
    assert found.best_value.value >= state.best.best.value
    assert found.over_time.elapsed_s.iloc[0] == state.now_s
    assert found.over_time.cost_usd.iloc[0] == pytest.approx(state.ledger.spent_micro(state.now_s) / 1e6, rel=0.05)
    assert found.finish_s.high <= 400
    assert found.cost_usd.high <= 2


@pytest.mark.slow
@pytest.mark.parametrize(("at_s", "least"), [(80.0, 0), (200.0, 6)])
def test_the_forecast_agrees_with_what_happens(at_s, least):
    """On many simulated studies: cost and finish lie near what was foretold, and the best value in its band.

    As long as only first epochs are known, nobody can tell how far curves will rise; then it must not promise too much.
    """
    hits = 0
    for seed in range(8):
        cloud = FakeCloud(
            SEER(), World(seed=seed, spread=0.3), max_epochs=9, deadline_s=400.0, budget_micro=2_000_000, max_workers=8
        )
        found = forecast(cloud.run(until_s=at_s).state, SEER())
        end = cloud.run().state
        assert found.cost_usd.value == pytest.approx(end.ledger.spent_micro(end.now_s) / 1e6, rel=0.25)
        assert found.finish_s.value == pytest.approx(end.now_s, rel=0.25)
        slack = 0.1
        hits += found.best_value.low - slack <= end.best.best.value <= found.best_value.high + slack
        assert end.best.best.value > found.best_value.low - slack
    assert hits >= least


def test_every_policy_can_be_forecast():
    found = forecast(halfway(policy=RandomSearch()), RandomSearch())
    assert found.stages is None
    assert found.n_simulations == 4
    assert found.best_value is not None


def test_a_forecast_respects_its_time_limit():
    """The answer names the plan, and how to wait longer."""
    state = halfway()
    begun_s = time.monotonic()
    found = forecast(state, SEER(), limit_s=0.0)
    assert time.monotonic() - begun_s < 10.0
    assert (found.n_simulations, found.finish_s, found.cost_usd, found.best_value) == (0, None, None, None)
    assert found.over_time.empty
    assert not found.stages.empty
    last = found.stages.iloc[-1]
    assert repr(found) == (
        f"Forecast(too long to simulate; by the plan finish after {format_duration(last.ends_s)}, "
        f"{format_usd(last.cost_usd)}: see .stages; give a longer patience=)"
    )
    unplanned = forecast(halfway(policy=RandomSearch()), RandomSearch(), limit_s=0.0)
    assert repr(unplanned) == "Forecast(too long to simulate; give a longer patience=)"


class Sleepy(RandomSearch):
    """Waits for others, as everything does on a busy machine."""

    slept_s = 0.0

    def decide(self, view):
        if self.slept_s < 1.0:
            time.sleep(0.1)
            self.slept_s += 0.1
        return super().decide(view)


def test_a_busy_machine_gives_the_same_forecast():
    """Guards against the wall's clock: README's own example was too long to simulate where others used the cores."""
    policy = Sleepy()
    assert forecast(halfway(policy=RandomSearch()), policy, limit_s=0.9).n_simulations >= 1
    assert policy.slept_s >= 1.0


def test_the_example_of_the_readme_can_be_forecast(monkeypatch, tmp_path):
    """Uses the real limits: a band needs several simulations, which take five seconds of processor time."""
    monkeypatch.undo()
    monkeypatch.setenv("SEER_HOME", str(tmp_path))
    study = seer.Study(
        train,
        space={"lr": seer.loguniform(1e-4, 1e-1), "batch": seer.choice([32, 64]), "depth": 3},
        metric="accuracy",
        mode="max",
        max_epochs=27,
        deadline="10min",
        budget="$0.50",
        provider=seer.Local(max_workers=2),
        name="digits",
    )
    found = study.forecast(epoch_seconds=2.0)
    assert found.n_simulations >= ENOUGH_SIMULATIONS
    assert found.cost_usd.low < found.cost_usd.high
    assert 400 < found.finish_s.value <= 600


def test_patience_sets_the_time_limit():
    study = make()
    assert study.forecast(2.0, patience=0.001).finish_s is None
    assert study.preview(deadline="9min", epoch_seconds=2.0, patience="1ms").finish_s is None
    with pytest.raises(ValueError, match=r"^patience='long': not a length of time; expected "):
        study.forecast(2.0, patience="long")


def test_the_forecast_of_an_ended_study_is_its_result():
    state = halfway(math.inf)
    found = forecast(state, SEER())
    assert found.finish_s == (state.now_s,) * 3
    assert found.best_value.value == state.best.best.value


def test_a_preview_of_an_ended_study_resumes_it_under_the_new_limits():
    """Guards against an answer that ignores the budget and the deadline that were asked for."""
    state = halfway(math.inf)
    found = forecast(state, SEER(), budget=2 * state.budget_micro, deadline_s=2 * state.deadline_s)
    assert state.deadline_s < found.finish_s.value <= 2 * state.deadline_s
    assert state.phase == "ended"


# --- worlds that fit ---


def fitted(seed=0, epoch_seconds=None):
    state = halfway()
    return state, ExtrapolatedWorld(StudyFit(state, epoch_seconds), seed)


def test_extrapolated_curves_keep_known_reports_and_continue_from_them():
    state, world = fitted()
    for trial in state.trials.values():
        known = [report.value for report in trial.curve]
        assert [world.report(trial.id, epoch)[0] for epoch in range(1, len(known) + 1)] == pytest.approx(known)
        if known:
            more = [world.report(trial.id, epoch)[0] for epoch in range(len(known), 30)]
            assert more == sorted(more), "it gets better"
            assert more[-1] - more[-2] < 0.05, "and levels out"
    best = max(report.value for trial in state.trials.values() for report in trial.curve)
    assert max(world.report(trial, 30)[0] for trial in state.trials if state.trials[trial].curve) < best + 0.5


def test_futures_differ_by_seed_and_are_reproducible():
    ones = [[fitted(seed)[1].report(10_000, epoch)[0] for epoch in range(1, 9)] for seed in (1, 1, 2)]
    assert ones[0] == ones[1] != ones[2]


def test_extrapolated_epochs_take_the_measured_time_and_proposals_are_better():
    state, world = fitted()
    seen = [report.seconds for trial in state.trials.values() for report in trial.curve if report.parallelism == 1]
    drawn = [world.epoch_seconds(number, 1, 1) for number in range(1000, 1100)]
    assert min(seen) * 0.99 <= min(drawn) <= max(drawn) <= max(seen) * 1.01
    assert world.epoch_seconds(1000, 4, 1) < world.epoch_seconds(1000, 1, 1)
    _, quick = fitted(epoch_seconds=0.5)
    assert sum(quick.epoch_seconds(number, 1, 1) for number in range(1000, 1100)) / 100 == pytest.approx(0.5, rel=0.2)
    for number in range(2000, 2100):
        world.draw(number, {}, proposed=number % 2 == 0)
    proposed, others = ([world.report(number, 1)[0] for number in range(first, 2100, 2)] for first in (2000, 2001))
    assert sum(proposed) > sum(others)


# --- figures ---


def test_forecast_and_actual_spending_are_in_one_figure():
    state = halfway()
    found = forecast(state, SEER())
    names = [trace.name for trace in found.plot(state).data]
    assert names == ["band", "expected", "workers", "spent", "budget"]
    assert [trace.name for trace in found.plot().data] == names[:3]


@pytest.mark.slow
def test_the_frontier():
    state = halfway()
    found = frontier(state, SEER(), [1_500_000, 3_000_000], [300.0, 600.0])
    assert found[["deadline_s", "budget_usd"]].to_numpy().tolist() == [[300, 1.5], [300, 3], [600, 1.5], [600, 3]]
    assert (found.best_low <= found.best_value).all()
    figure = plot_frontier(found, "accuracy")
    assert [trace.name for trace in figure.data] == ["deadline 5 min", "deadline 10 min"]
    assert figure.layout.yaxis.title.text == "accuracy"
    unknown = frontier(state, SEER(), [1_500_000], [300.0], limit_s=0.0)
    assert plot_frontier(unknown, "accuracy").layout.title.text == "Too long to simulate: give a longer patience="


def test_forecasts_work_in_both_modes():
    of = table(mode="min")
    found = simulate.run(of, deadline=400, budget=1.0, epoch_seconds=10.0, offer=simulate.Offer(price_per_hour=3.6))
    world = ExtrapolatedWorld(StudyFit(found.state), 0)
    trial = min(found.state.trials)
    last = len(found.state.trials[trial].curve)
    assert world.report(trial, last + 3)[0] <= world.report(trial, last)[0]


# --- impossible forecasts ---


GUESS = "give the estimated seconds of one epoch on one worker, as in study.forecast(epoch_seconds=2.0)"


def test_a_forecast_before_the_start_needs_epoch_seconds():
    for ask in (make().forecast, make(name="preview").preview, make(name="plotted").plot_forecast):
        with pytest.raises(ValueError, match=f"^nothing was measured before the start: {re.escape(GUESS)}$"):
            ask()
    with pytest.raises(ValueError, match=r"^epoch_seconds=-1: not more than 0 seconds; expected a time "):
        make(name="negative").forecast(-1)
    with pytest.raises(TypeError, match=r"^epoch_seconds=\[\]: not a length of time; expected a time "):
        make(name="none").preview(epoch_seconds=[])
    with pytest.raises(ValueError, match=r"^budget='-\$1': not more than 0"):
        make(name="budget").preview(budget="-$1")
    with pytest.raises(ValueError, match=r"^nothing was reported yet, so the metric is unknown"):
        make(name="frontier").plot_frontier()


def test_a_forecast_before_the_first_report_says_that_it_is_too_early(home):
    """Guards against blaming an argument that was not given."""
    begun = Builder(name="begun").machine(0, 0.0, 2.0).draw({"x": 0.1}).start(0, 0, "0.0")
    study = stored(begun, home / "begun")
    early = "nothing was measured yet, because the first epoch has not ended: try again later, or "
    for ask in (study.forecast, study.preview):
        with pytest.raises(ValueError, match=f"^{re.escape(early + GUESS)}$"):
            ask()
    assert study.forecast(epoch_seconds=2.0).finish_s is not None
    assert study.preview(deadline="9min", epoch_seconds=2.0).finish_s is not None
    over = Builder(name="over").machine(0, 0.0, 2.0).apply(core.BeginEnd(reason="x")).apply(core.Finish())
    with pytest.raises(ValueError, match=f"^nothing was measured, because no epoch has ended: {re.escape(GUESS)}$"):
        stored(over, home / "over").forecast()
