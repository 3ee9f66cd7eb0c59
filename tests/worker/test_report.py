"""run.report and run.epochs: what is sent, when training ends, and every error message."""

import contextlib
import math

import numpy as np
import pytest
import torch

from seer_nb.worker.agent import GangSignals


def last_line(sent):
    return sent.end.error.strip().splitlines()[-1]


def reporting(**metrics):
    """Make a function without state that reports the same values each epoch."""

    def train(config, run):
        for _ in run.epochs():
            run.report(**metrics)

    return train


def test_a_function_without_state_reports_each_epoch(gangs):
    reports, end = gangs.alone(reporting(accuracy=0.5, loss=2))
    assert [(r.epoch, r.value, r.metrics, r.checkpoint) for r in reports] == [
        (epoch, 0.5, {"loss": 2.0}, "") for epoch in (1, 2, 3)
    ]
    assert reports[0].setup_s > 0
    assert [r.setup_s for r in reports[1:]] == [None, None]
    assert all(r.seconds >= 0 and r.save_s == 0 and r.batch_size is None for r in reports)
    assert (end.outcome, end.error, end.collective) == ("target", "", False)


@pytest.mark.parametrize(
    "value",
    [1, 0.5, True, np.float32(0.5), np.int64(3), np.array(0.5), np.array([0.5]), torch.tensor(0.5), torch.tensor([2])],
    ids=repr,
)
def test_a_metric_is_one_number_of_any_type(gangs, value):
    reports, _ = gangs.alone(reporting(accuracy=value), until=1)
    assert reports[0].value == float(np.asarray(value).item())
    assert type(reports[0].value) is float


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, torch.tensor(math.nan), 10**400], ids=str)
def test_a_value_that_is_not_finite_is_sent_as_none(gangs, value):
    reports, end = gangs.alone(reporting(accuracy=value, loss=value), until=1)
    assert (reports[0].value, reports[0].metrics) == (None, {"loss": None})
    assert end.outcome == "target"


ALLOWED = "expected one number (a float, an int, or a tensor or array with one element)"


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"loss": 1}, "ValueError: run.report() got 'loss', but the study's metric is 'accuracy'"),
        ({"loss": 1, "f1": 2}, "ValueError: run.report() got 'loss', 'f1', but the study's metric is 'accuracy'"),
        ({}, "ValueError: run.report() got no metric, but the study's metric is 'accuracy'"),
        ({"accuracy": "0.9"}, f"TypeError: run.report() got accuracy='0.9', of type str; {ALLOWED}"),
        ({"accuracy": None}, f"TypeError: run.report() got accuracy=None, of type NoneType; {ALLOWED}"),
        ({"accuracy": 1, "x": [1]}, f"TypeError: run.report() got x=[1], of type list; {ALLOWED}"),
        ({"accuracy": 1j}, f"TypeError: run.report() got accuracy=1j, of type complex; {ALLOWED}"),
        ({"accuracy": torch.ones(3)}, f"TypeError: run.report() got accuracy=<shape (3,)>, of type Tensor; {ALLOWED}"),
        (
            {"accuracy": np.ones((2, 2))},
            f"TypeError: run.report() got accuracy=<shape (2, 2)>, of type ndarray; {ALLOWED}",
        ),
    ],
)
def test_wrong_metrics_fail_with_a_message_that_names_them(gangs, metrics, message):
    reports, end = gangs.alone(reporting(**metrics))
    assert not reports
    assert end.outcome == "failed"
    assert end.error.strip().splitlines()[-1] == message
    # The user's frame without seer_nb's frames.
    assert "in train" in end.error
    assert "/seer_nb/" not in end.error


def test_an_epoch_without_a_report_is_an_error(gangs):
    def train(config, run):
        for epoch in run.epochs():
            if epoch < 3:
                run.report(accuracy=1)

    sent = gangs.alone(train, until=9)
    assert [r.epoch for r in sent.reports] == [1, 2]
    assert last_line(sent) == "RuntimeError: epoch 3 ended without run.report(...)"


def test_two_reports_in_an_epoch_are_an_error(gangs):
    def train(config, run):
        for _ in run.epochs():
            run.report(accuracy=1)
            run.report(accuracy=1)

    assert last_line(gangs.alone(train)) == "RuntimeError: run.report() was called twice in epoch 1"


def test_a_plain_loop_ends_at_the_target(gangs):
    def train(config, run):
        for epoch in range(1, 100):
            assert run.epoch == epoch
            with contextlib.suppress(Exception):  # which must not catch StopTraining
                run.report(accuracy=epoch)
        raise AssertionError

    reports, end = gangs.alone(train)
    assert [r.value for r in reports] == [1, 2, 3]
    assert (end.outcome, end.error) == ("target", "")


def test_a_report_after_the_last_epoch_ends_the_function(gangs):
    def train(config, run):
        for _ in run.epochs():
            run.report(accuracy=1)
        run.report(accuracy=2)
        raise AssertionError

    reports, end = gangs.alone(train)
    assert len(reports) == 3
    assert end.outcome == "target"


def test_the_function_may_go_on_after_the_last_epoch(gangs):
    def train(config, run):
        for _ in run.epochs():
            run.report(accuracy=1)
        assert run.epoch == 3
        config["went on"] = True

    config = {}
    assert gangs.alone(train, config=config).end.outcome == "target"
    assert config == {"went on": True}


def test_a_function_may_return_early(gangs):
    def train(config, run):
        for epoch in run.epochs():
            run.report(accuracy=1)
            if epoch == 2:
                break

    reports, end = gangs.alone(train, until=9)
    assert len(reports) == 2
    assert end.outcome == "returned"
    assert gangs.alone(lambda config, run: None) == ([], end.__class__(gang=2, rank=0, outcome="returned"))


def test_training_never_exceeds_max_epochs(gangs):
    reports, end = gangs.alone(reporting(accuracy=1), until=9, max_epochs=2)
    assert len(reports) == 2
    assert end.outcome == "target"


def test_a_gang_can_be_extended_and_stopped(gangs):
    def hook(record, signals):
        if getattr(record, "epoch", 0) == 2:
            signals.extend(1, 6)
        if getattr(record, "epoch", 0) == 4:
            signals.stop(1)

    reports, end = gangs.alone(reporting(accuracy=1), hook=hook)
    assert [r.epoch for r in reports] == [1, 2, 3, 4, 5]
    assert end.outcome == "stopped"


def test_a_member_that_is_stopped_before_it_starts_does_not_train(gangs):
    signals = GangSignals()
    signals.stop(1)
    reports, end = gangs.alone(reporting(accuracy=1), signals=signals)
    assert not reports
    assert end.outcome == "stopped"


def test_signals_of_an_ended_gang_are_forgotten():
    signals = GangSignals()
    signals.stop(1)
    signals.extend(1, 5)
    signals.extend(1, 4)
    assert signals.read(1) == (True, 4)
    signals.forget(1)
    signals.forget(2)
    assert signals.read(1) == (False, None)


def test_without_state_training_restarts_and_repeats_no_report(gangs):
    seen = []

    def train(config, run):
        for epoch in run.epochs():
            seen.append(epoch)
            run.report(accuracy=epoch)

    reports, end = gangs.alone(train, from_epoch=2, checkpoint="", until=4)
    assert seen == [1, 2, 3, 4]
    assert [r.epoch for r in reports] == [3, 4]
    assert reports[0].setup_s >= 0
    assert reports[1].setup_s is None
    assert end.outcome == "target"


def test_mean_rejects_wrong_arguments(gangs):
    def train(config, run):
        assert run.mean(torch.tensor(2.0), 3) == 2.0
        assert run.mean(2) == 2.0
        run.mean(*config["arguments"])

    def message(*arguments):
        return last_line(gangs.alone(train, config={"arguments": arguments}))

    assert message(1, -1) == "ValueError: run.mean() got n=-1; expected a number of samples, at least 0"
    assert message(None, 0) == "ValueError: run.mean() got n=0 on every rank: there is nothing to average"
    assert message("x", 1) == f"TypeError: run.mean() got value='x', of type str; {ALLOWED}"


def test_a_run_shows_its_trial_and_settings(gangs):
    def train(config, run):
        assert repr(run) == "Run(trial=7, epoch=1, rank=0, world_size=1)"
        assert (run.config, run.seed, run.max_epochs, run.device.type) == ({"lr": 1}, 5, 27, "cpu")
        assert run.config is config

    assert gangs.alone(train, config={"lr": 1}, seed=5).end.outcome == "returned"


def wraps(run):
    try:
        run.report(accuracy=1)
    except BaseException as error:
        raise RuntimeError("callback failed") from error


def replaces(run):
    try:
        run.report(accuracy=1)
    finally:
        if run.should_stop:
            raise SystemExit(1)


def swallows(run):
    with contextlib.suppress(BaseException):
        run.report(accuracy=1)


@pytest.mark.parametrize("framework", [wraps, replaces, swallows])
@pytest.mark.parametrize(("outcome", "reported"), [("target", 3), ("stopped", 2)])
def test_training_ends_normally_whatever_a_framework_makes_of_stop_training(gangs, framework, outcome, reported):
    def train(config, run):
        for _ in range(reported):
            framework(run)

    def hook(record, signals):
        if outcome == "stopped" and getattr(record, "epoch", 0) == 1:
            signals.stop(1)

    reports, end = gangs.alone(train, hook=hook)
    assert len(reports) == reported
    assert (end.outcome, end.error) == (outcome, "")


def test_an_exception_of_a_framework_before_the_end_is_a_failure(gangs):
    def train(config, run):
        wraps(run)
        raise RuntimeError("mine")

    assert last_line(gangs.alone(train)) == "RuntimeError: mine"


@pytest.mark.parametrize("size", [1, 2])
def test_training_can_end_without_an_exception(gangs, size):
    def train(config, run):
        assert not run.should_stop
        while not run.should_stop:
            run.report(accuracy=run.epoch, stop="return")
        assert run.epoch == 3

    for reports, end in [gangs.alone(train)] if size == 1 else gangs.pair(train):
        assert [report.value for report in reports] == ([1, 2, 3] if end.rank == 0 else [])
        assert (end.outcome, end.error) == ("target", "")


@pytest.mark.parametrize("stop", ["raise", "return"])
@pytest.mark.parametrize("looping", [False, True])
def test_a_report_after_an_end_without_an_exception_is_refused(gangs, stop, looping):
    def train(config, run):
        for _ in run.epochs() if looping else range(3):
            run.report(accuracy=1, stop="return")
        run.report(accuracy=1, stop=stop)

    sent = gangs.alone(train)
    assert len(sent.reports) == 3
    assert last_line(sent) == (
        "RuntimeError: run.report() was called after training had ended at epoch 3; expected the function to return "
        "once run.should_stop is True"
    )


def test_another_way_to_stop_is_refused(gangs):
    def train(config, run):
        run.report(accuracy=1, stop=True)

    assert last_line(gangs.alone(train)) == (
        "ValueError: stop=True: unknown way to end training; expected 'raise' or 'return'"
    )
