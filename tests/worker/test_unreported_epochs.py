"""Epochs that were stored, but whose reports the runner never received."""

import pytest
import torch

from seer_nb.core import Reported
from seer_nb.storage import checkpoints
from seer_nb.worker.checkpointing import CheckpointInterval


@pytest.fixture(autouse=True)
def _each_epoch(monkeypatch):
    """Store a checkpoint after each epoch, however short it is."""
    monkeypatch.setattr(CheckpointInterval, "due", lambda interval, seconds: True)


def train(config, run):
    for epoch in run.epochs():
        assert run.state.get("sum", 0) == sum(range(epoch)), "training continues from the checkpoint"
        run.state["sum"] = run.state.get("sum", 0) + epoch
        run.report(accuracy=epoch / 10, loss=float("inf") if epoch == 3 else 1 / epoch)


@pytest.mark.parametrize("size", [1, 2])
def test_unreported_epochs_are_reported_by_the_next_gang_and_not_trained_again(gangs, size):
    received = gangs.train(train, size, until=2).reports
    unreported = gangs.train(train, size, from_epoch=2, checkpoint=received[-1].checkpoint, until=5).reports
    sent = gangs.train(train, size, from_epoch=2, checkpoint=received[-1].checkpoint, until=6, is_restart=True)
    assert sent.end.outcome == "target"
    assert [report.epoch for report in sent.reports] == [3, 4, 5, 6]
    for report, before in zip(sent.reports, unreported, strict=False):
        assert (report.value, report.metrics, report.seconds) == (before.value, before.metrics, before.seconds)
        assert report.parallelism == size, "the times are those of the earlier gang"
    assert sent.reports[-1].parallelism is None
    gang = sent.reports[0].gang
    assert {report.gang for report in sent.reports} == {gang} != {unreported[0].gang}
    stored = [report.checkpoint for report in unreported]
    assert [report.checkpoint for report in sent.reports] == [*stored, checkpoints.file_path(7, 6, gang)]


def test_all_epochs_of_a_gang_may_be_unreported(gangs):
    gangs.alone(train, until=3)
    sent = gangs.alone(train, until=4, is_restart=True)
    assert [report.epoch for report in sent.reports] == [1, 2, 3, 4]


def test_two_gangs_in_a_row_may_be_unreported(gangs):
    gangs.alone(train, until=2)
    gangs.alone(train, until=4, is_restart=True)
    sent = gangs.alone(train, until=5, is_restart=True)
    assert [report.epoch for report in sent.reports] == [1, 2, 3, 4, 5]
    assert sent.reports[-1].checkpoint == "7/000005-g3.pt"


@pytest.mark.parametrize("size", [1, 2])
def test_nothing_is_trained_if_no_epoch_is_left(gangs, size):
    def function(config, run):
        for epoch in run.epochs():
            run.state["epoch"] = epoch
            value = epoch
            run.report(accuracy=value)
        run.state["last"] = value  # undefined without an epoch

    gangs.train(function, size, until=3)
    sent = gangs.train(function, size, until=3, is_restart=True)
    assert [report.epoch for report in sent.reports] == [1, 2, 3]
    assert (sent.end.outcome, sent.end.error) == ("target", "")


def test_epochs_after_the_target_are_not_recovered(gangs):
    gangs.alone(train, until=5)
    sent = gangs.alone(train, until=4, is_restart=True)
    assert [report.epoch for report in sent.reports] == [1, 2, 3, 4]
    assert sent.end.outcome == "target"
    assert sent.reports[-1].checkpoint == "7/000004-g1.pt"


def change(gangs, path, **changes):
    payload = checkpoints.load(str(gangs.store), path)
    checkpoints.save(str(gangs.store), path, payload | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"trial": 8},
        {"reports": []},
        {"reports": [{"epoch": 3, "value": "high", "metrics": {}, "seconds": 1.0, "parallelism": 1}]},
        {"reports": [{"epoch": 3, "value": 0.3, "metrics": {}, "seconds": 1.0, "parallelism": 1}]},
        {"reports": torch.zeros(1)},
    ],
)
def test_checkpoints_that_do_not_fit_are_skipped(gangs, changes):
    stored = gangs.alone(train, until=4).reports
    change(gangs, stored[3].checkpoint, **changes)
    sent = gangs.alone(train, until=4, from_epoch=1, checkpoint=stored[0].checkpoint, is_restart=True)
    assert [report.epoch for report in sent.reports] == [2, 3, 4]
    assert sent.reports[1].checkpoint == stored[2].checkpoint
    assert sent.reports[2].checkpoint != stored[3].checkpoint


def test_damaged_checkpoints_are_skipped(gangs):
    stored = gangs.alone(train, until=3).reports
    path = gangs.store / stored[2].checkpoint
    path.write_bytes(path.read_bytes()[:-50])
    sent = gangs.alone(train, until=3, is_restart=True)
    assert [report.checkpoint for report in sent.reports] == [
        *(stored[0].checkpoint, stored[1].checkpoint),
        "7/000003-g2.pt",
    ]


def test_a_trial_without_an_earlier_gang_recovers_nothing(gangs):
    stored = gangs.alone(train, until=3).reports
    sent = gangs.alone(train, until=3, from_epoch=1, checkpoint=stored[0].checkpoint)
    assert all(isinstance(report, Reported) and report.checkpoint.endswith("-g2.pt") for report in sent.reports)


def test_epochs_are_trained_again_if_the_store_cannot_be_listed(gangs, monkeypatch):
    stored = gangs.alone(train, until=3).reports

    def broken(*_):
        raise PermissionError("no listing")

    monkeypatch.setattr(checkpoints, "list_stored", broken)
    sent = gangs.alone(train, until=3, from_epoch=1, checkpoint=stored[0].checkpoint, is_restart=True)
    assert [report.epoch for report in sent.reports] == [2, 3]


def test_checkpoints_are_listed_in_any_kind_of_store(gangs):
    store = "memory://seer-recovering"
    assert checkpoints.list_stored(store, 3) == []
    for name in ("3/000004-g1.pt", "3/000012-g20.pt", "33/000001-g1.pt", "3/note.txt"):
        checkpoints.save(store, name, {"format": 1})
    assert sorted(checkpoints.list_stored(store, 3)) == [(4, 1), (12, 20)]
