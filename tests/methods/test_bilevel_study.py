"""Bilevel methods in a study's training function: resumption, reports, and refused runs."""

import time

import cloudpickle
import pytest
import torch
from torch import nn

import seer_nb as seer
from seer_nb._utils.units import format_duration
from seer_nb.methods import bilevel
from seer_nb.storage import checkpoints
from seer_nb.worker.agent import GangSignals
from seer_nb.worker.checkpointing import CheckpointManager
from seer_nb.worker.run import Run
from tests.methods.problems import Saddle, start
from tests.support.studies import assert_no_processes_left, kill, training, worker_pids
from tests.worker.conftest import Gangs

STEPS, EPOCHS = 12, 6
SECONDS = -1
"""Index of the seconds in a row of the trace."""


@pytest.fixture
def gangs(tmp_path, request):
    made = Gangs(tmp_path / "store", request)
    yield made
    cloudpickle.unregister_pickle_by_value(request.module)


class Shifted(Saddle):
    """A problem with minibatches, and with draws from the global generator, as dropout makes."""

    def lower(self, u, v, batch):
        return super().lower(u, v) + 0.1 * (batch * v[0]).square().sum() + 0.01 * torch.rand(()) * v[0].sum()

    def upper(self, u, v, batch):
        return super().upper(u, v) + batch * u[0].sum()


def solve(config, run, **changes):
    problem, (u, v) = Shifted(), start()
    given = {"method": "penalty", "outer_steps": STEPS, "inner_steps": 2, "lr_u": 0.1, "lr_v": 0.1, **config, **changes}
    if given["method"] == "penalty":
        # Frequent stages change the schedule, both multipliers and the learning rates.
        schedule = bilevel.PenaltySchedule(eps=30.0, patience=2, multiplier=0.1)
        given |= {"schedule": schedule, "inequality": lambda u, v: u[0] - 1}
    batches = [(torch.tensor(0.01 * k), torch.tensor(0.1 * k)) for k in range(5)]
    box = bilevel.Box(-6.0, 6.0, "change")
    return bilevel.minimize(
        problem.upper,
        problem.lower,
        u,
        v,
        batches=batches,
        u_box=box,
        monitor=lambda u, v: (u[0].square().sum() + v[0].square().sum()).item(),
        monitor_every=5,
        run=run,
        **given,
    )


def stored_state(gangs, done):
    """Return the method's state in the last checkpoint, without times."""
    return untimed(checkpoints.load(str(gangs.store), done.reports[-1].checkpoint)["state"]["bilevel"])


def untimed(state):
    if "loops" in state:
        return {**state, "loops": [untimed(loop) for loop in state["loops"]], "seconds": 0.0}
    return {**state, "rows": [row[:SECONDS] for row in state["rows"]], "seconds": 0.0}


def reported(done):
    return [(report.epoch, report.value, report.metrics) for report in done.reports]


def train_epochs(gangs, train=solve, since=None, **changes):
    given = {"metric": "value", "max_epochs": EPOCHS, "until": EPOCHS, **changes}
    if since is not None:
        given |= {"from_epoch": since.epoch, "checkpoint": since.checkpoint}
    done = gangs.alone(train, **given)
    assert done.end.error == ""
    return done


def is_identical(one, other):
    """Return whether two states are equal bit for bit, in any container; NaN equals NaN."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_identical(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(is_identical(a, b) for a, b in zip(one, other, strict=True))
    return one == other or (one != one and other != other)  # noqa: PLR0124 - NaN


# --- one run in pieces ---


@pytest.mark.parametrize("method", ["penalty", "rmd", "approx", "gd"])
def test_run_resumed_at_any_epoch_gives_the_same_result_bit_for_bit(gangs, method):
    # Here ApproxGrad restarts v at each step, so the checkpoint must hold the start too.
    config = {"method": method, "warm_start": method != "approx"}
    whole = train_epochs(gangs, config=config)
    for cut in range(1, EPOCHS):
        first = train_epochs(gangs, config=config, until=cut)
        second = train_epochs(gangs, config=config, since=first.reports[-1])
        assert reported(first) + reported(second) == reported(whole)
        assert is_identical(stored_state(gangs, second), stored_state(gangs, whole))


def test_epochs_divide_the_steps_and_the_trace_equals_that_without_a_study(gangs):
    found = []

    def train(config, run):
        found.append(bilevel.minimize(Saddle().upper, Saddle().lower, *start(), outer_steps=10, run=run))

    done = train_epochs(gangs, train, metric="upper", max_epochs=4, until=4)
    alone = bilevel.minimize(Saddle().upper, Saddle().lower, *start(), outer_steps=10)
    assert found[0].frame.drop(columns="seconds").equals(alone.frame.drop(columns="seconds"))
    assert found[0].reason == alone.reason == "all 10 outer steps were done"
    ends = [alone.rows[step - 1] for step in (2, 5, 7, 10)]
    assert reported(done) == [
        (epoch, row.upper, {"lower": row.lower, "residual": row.residual}) for epoch, row in enumerate(ends, 1)
    ]
    # A batch of one cannot be divided: no policy gives the trial a second worker.
    assert {report.batch_size for report in done.reports} == {1}


def test_every_epoch_takes_at_least_one_step(gangs):
    done = train_epochs(gangs, config={"outer_steps": 3})
    assert [report.epoch for report in done.reports] == list(range(1, EPOCHS + 1))
    assert len(stored_state(gangs, done)["rows"]) == EPOCHS
    # The worker is killed between the last report and the return.
    again = train_epochs(gangs, config={"outer_steps": 3}, since=done.reports[-1])
    assert (again.reports, again.end.outcome) == ([], "target")


def test_diverging_trial_reports_nan_and_ends(gangs):
    config = {"method": "gd", "lr_u": 1e30, "lr_v": 1e30, "outer_steps": EPOCHS}

    def train(config, run):
        bilevel.minimize(lambda u, v: u[0].exp().sum() * v[0].sum(), Saddle().lower, *start(), run=run, **config)

    done = train_epochs(gangs, train, config=config, metric="upper")
    last = done.reports[-1]
    assert len(done.reports) < EPOCHS
    assert (last.value, last.metrics) == (None, {"lower": None, "residual": None})
    assert done.end.outcome == "returned"


# --- the applications ---


def small_data(seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(24, 4, generator=drawn), torch.randint(2, (24,), generator=drawn)


def tune(config, run):
    # Each piece creates the model again: the global generators are seeded alike.
    return bilevel.tune(
        nn.Linear(4, 2), small_data(), small_data(1), outer_steps=12, batch_size=8, train_steps=5, run=run, **config
    )


def denoise(config, run):
    return bilevel.denoise(
        nn.Linear(4, 2), small_data(), small_data(1), outer_steps=12, batch_size=8, start_steps=5, run=run
    )


def small_tasks():
    return bilevel.make_tasks(bilevel.Labelled(*small_data()), (0, 1), count=2, ways=2, shots=2, queries=2)


def represent(config, run):
    return bilevel.represent(nn.Linear(4, 3), small_tasks(), outer_steps=12, run=run)


def robustness(config, run, **changes):
    return bilevel.robustness(
        small_data(), small_data(1), small_data(2), **{"shares": (0.1, 0.3), "outer_steps": 12, **changes}, run=run
    )


@pytest.mark.parametrize("train", [tune, denoise, represent, robustness])
def test_every_application_resumes_where_it_stopped(gangs, train):
    whole = train_epochs(gangs, train, metric="upper")
    first = train_epochs(gangs, train, metric="upper", until=2)
    second = train_epochs(gangs, train, metric="upper", since=first.reports[-1])
    assert is_identical(stored_state(gangs, second), stored_state(gangs, whole))
    assert ("value" in whole.reports[0].metrics) is (train is tune)


def test_robustness_in_a_study_equals_that_without_one_and_epochs_divide_every_share(gangs):
    found = []

    def train(config, run):
        found.append(robustness(config, run))

    done = train_epochs(gangs, train, metric="upper")
    alone = robustness({}, None)
    assert (found[0].harms, found[0].seed) == (alone.harms, alone.seed)
    assert found[0].curves().drop(columns="seconds").equals(alone.curves().drop(columns="seconds"))
    assert reported(done)[0][1] == pytest.approx(sum(minimum.rows[1].upper for minimum in alone.minima) / 2)


def test_robustness_refuses_a_checkpoint_with_other_shares(gangs):
    first = train_epochs(gangs, robustness, metric="upper", until=1).reports[0]
    since = {"from_epoch": 1, "checkpoint": first.checkpoint}
    for shares in ((0.1,), (0.1, 0.5)):
        message = error_message(
            gangs, lambda config, run, shares=shares: robustness(config, run, shares=shares), **since
        )
        assert message.startswith("seer_nb.errors.CheckpointError: the checkpoint does not fit this bilevel problem (")
    message = error_message(gangs, represent, **since)
    assert "CheckpointError: the checkpoint does not fit" in message


def test_result_holds_the_seed_and_the_duration_of_all_pieces(gangs):
    found = []

    def train(config, run):
        found.append(
            bilevel.denoise(
                nn.Linear(4, 2), small_data(), small_data(1), outer_steps=12, start_steps=5, seed=3, run=run
            )
        )

    first = train_epochs(gangs, train, metric="upper", until=2).reports[-1]
    train_epochs(gangs, train, metric="upper", since=first)
    _, last = found
    assert (last.seed, last.minimum.seed) == (3, 3)
    assert last.wall_s >= last.minimum.wall_s == last.curves().seconds.iloc[-1] > last.curves().seconds.iloc[3]
    assert repr(last).endswith(f"seed 3, {format_duration(last.wall_s)}>")
    drawn = bilevel.represent(nn.Linear(4, 3), small_tasks(), outer_steps=2, seed=5)
    assert (drawn.seed, drawn.minimum.seed) == (5, 5)
    assert drawn.wall_s > 0


# --- models that draw, and models with buffers ---


def drawing_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


def by_denoise(run=None, seed=3):
    given = {"outer_steps": 12, "batch_size": 8, "start_steps": 5}
    return bilevel.denoise(drawing_model(), small_data(), small_data(1), **given, seed=seed, run=run).model


def by_tune(run=None, seed=3):
    given = {"outer_steps": 12, "batch_size": 8, "train_steps": 5}
    return bilevel.tune(drawing_model(), small_data(), small_data(1), **given, seed=seed, run=run).model


def by_represent(run=None, seed=3):
    return bilevel.represent(drawing_model(), small_tasks(), outer_steps=12, seed=seed, run=run).body


APPLIED = pytest.mark.parametrize("apply", [by_denoise, by_tune, by_represent])


@APPLIED
def test_seed_decides_all_draws_and_the_global_generator_keeps_its_state(apply):
    first = apply().state_dict()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert is_identical(apply().state_dict(), first)
    torch.manual_seed(0)
    drawing_model()
    drawn = torch.get_rng_state()
    torch.set_rng_state(before)
    apply()
    assert torch.equal(torch.get_rng_state(), drawn), "only the model's initialisation draws from the global generator"
    assert not is_identical(apply(seed=4).state_dict(), first)


@APPLIED
def test_model_with_dropout_and_batch_norm_is_the_same_after_a_resumption(gangs, apply):
    found = []

    def train(config, run):
        found.append(apply(run).state_dict())

    for cut in (1, 3, 5):
        first = train_epochs(gangs, train, metric="upper", until=cut, trial=7)
        train_epochs(gangs, train, metric="upper", since=first.reports[-1], trial=7)
        assert is_identical(found[-1], apply().state_dict()), f"resumed after epoch {cut}"


def test_no_call_of_the_model_exceeds_the_batch_size():
    seen = []

    class Recording(nn.Linear):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    given = {"outer_steps": 2, "batch_size": 5}
    bilevel.denoise(Recording(4, 2), small_data(), small_data(1), **given, start_steps=2)
    bilevel.tune(Recording(4, 2), small_data(), small_data(1), **given, train_steps=2)
    assert max(seen) == 5
    seen.clear()
    bilevel.adapted(Recording(4, 3), small_tasks())
    assert max(seen) == 4


# --- refused runs ---


def error_message(gangs, train, **changes):
    return gangs.alone(train, metric="upper", **changes).end.error.strip().splitlines()[-1]


def test_gang_of_several_workers_is_refused(gangs):
    order = gangs.order(rank=1, size=2)
    run = Run(order, CheckpointManager(order, None), None, lambda _: None, GangSignals(), time.monotonic())
    for train in (solve, tune):
        with pytest.raises(
            ValueError, match=r"world_size=2\): 2 workers, but a bilevel method uses one; expected a policy"
        ):
            train({}, run)


def test_checkpoint_of_another_method_or_problem_is_refused(gangs):
    first = train_epochs(gangs, config={"method": "gd"}, until=1).reports[0]
    since = {"from_epoch": 1, "checkpoint": first.checkpoint}
    other = error_message(gangs, solve, config={"method": "rmd"}, **since)
    assert other.startswith(
        "seer_nb.errors.CheckpointError: the checkpoint holds a run of method='gd', but this one uses method='rmd'; "
    )

    def train(config, run):
        bilevel.minimize(Saddle().upper, Saddle().lower, [torch.ones(3)], [torch.ones(3)], method="gd", run=run)

    fits = error_message(gangs, train, **since)
    assert fits.startswith("seer_nb.errors.CheckpointError: the checkpoint does not fit this bilevel problem (")


def test_argument_that_is_not_a_run_is_refused():
    with pytest.raises(
        TypeError, match=r"^run=3: not a run; expected the one that a study passes to its training function$"
    ):
        bilevel.minimize(Saddle().upper, Saddle().lower, *start(), run=3)
    with pytest.raises(TypeError, match=r"^run='x': not a run"):
        tune({}, "x")


# --- a study ---


PAUSE_S = 0.01


class Slow(nn.Linear):
    """A layer slow enough that the test can kill its worker during training."""

    def forward(self, x):
        time.sleep(PAUSE_S)
        return super().forward(x)


def tune_slowly(config, run):
    schedule = bilevel.PenaltySchedule(gamma=config["gamma"], patience=5)
    given = {"outer_steps": 20, "inner_steps": 3, "batch_size": 8, "train_steps": 5, "schedule": schedule}
    # The masks of dropout and the statistics of batch normalisation must survive the death of a worker, too.
    model = nn.Sequential(Slow(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    return bilevel.tune(model, small_data(), small_data(1), **given, run=run)


def test_best_trial_is_replayed_after_a_worker_was_killed(home, gangs, monkeypatch):
    study = seer.Study(
        tune_slowly,
        {"gamma": seer.choice([1.0, 100.0])},
        metric="value",
        mode="min",
        max_epochs=10,
        deadline="100s",
        budget="$1",
        provider=seer.Local(2),
        policy="grid",
        name="study",
    ).start()
    gang = training(study, epochs=1)
    kill(worker_pids(study)[gang.workers[0]])
    study.wait(100)
    assert (study.results().state == "completed").all()
    assert len(study.results()) == 2
    assert study.events().details.str.contains('"exit_code":-9').any()
    monkeypatch.setitem(globals(), "PAUSE_S", 0.0)
    # The trial that lost its worker has the curve of an uninterrupted trial.
    given = {"trial": gang.trial, "config": study.state.trials[gang.trial].config, "until": 10, "max_epochs": 10}
    whole = gangs.alone(tune_slowly, metric="value", **given)
    curves = study.curves()
    assert curves[curves.trial == gang.trial].value.tolist() == [report.value for report in whole.reports]
    tuned = study.best.replay(tune_slowly)
    assert isinstance(tuned, bilevel.Tuned)
    assert tuned.best.value == study.best.value == tuned.curves().value.min()
    assert len(tuned.curves()) == 2 * study.best.epoch
    assert study.best.state["bilevel"]["name"] == "penalty"
    assert_no_processes_left(home)
