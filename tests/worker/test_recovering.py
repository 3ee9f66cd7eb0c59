"""Epochs that were stored, but that nobody heard of."""

import pytest
import torch

from seer_nb.core import Reported
from seer_nb.storage import checkpoints
from seer_nb.worker.checkpointing import CheckpointInterval


@pytest.fixture(autouse=True)
def _each_epoch(monkeypatch):
    """Is stored, however short it is."""
    monkeypatch.setattr(CheckpointInterval, "due", lambda pace, seconds: True)


def train(config, run):
    for epoch in run.epochs():
        assert run.state.get("sum", 0) == sum(range(epoch)), "it goes on from where it was"
        run.state["sum"] = run.state.get("sum", 0) + epoch
        run.report(accuracy=epoch / 10, loss=float("inf") if epoch == 3 else 1 / epoch)


@pytest.mark.parametrize("size", [1, 2])
def test_what_was_stored_unheard_is_reported_by_the_next_gang_and_not_trained_again(gangs, size):
    heard = gangs.train(train, size, until=2).reports
    unheard = gangs.train(train, size, from_epoch=2, checkpoint=heard[-1].checkpoint, until=5).reports
    told = gangs.train(train, size, from_epoch=2, checkpoint=heard[-1].checkpoint, until=6, again=True)
    assert told.end.outcome == "target"
    assert [report.epoch for report in told.reports] == [3, 4, 5, 6]
    for report, before in zip(told.reports, unheard, strict=False):
        assert (report.value, report.metrics, report.seconds) == (before.value, before.metrics, before.seconds)
        assert report.parallelism == size, "it was not this gang that took so long"
    assert told.reports[-1].parallelism is None
    gang = told.reports[0].gang
    assert {report.gang for report in told.reports} == {gang} != {unheard[0].gang}
    stored = [report.checkpoint for report in unheard]
    assert [report.checkpoint for report in told.reports] == [*stored, checkpoints.name(7, 6, gang)]


def test_one_whose_first_gang_was_never_heard(gangs):
    gangs.alone(train, until=3)
    told = gangs.alone(train, until=4, again=True)
    assert [report.epoch for report in told.reports] == [1, 2, 3, 4]


def test_a_second_gang_that_was_not_heard(gangs):
    gangs.alone(train, until=2)
    gangs.alone(train, until=4, again=True)
    told = gangs.alone(train, until=5, again=True)
    assert [report.epoch for report in told.reports] == [1, 2, 3, 4, 5]
    assert told.reports[-1].checkpoint == "7/000005-g3.pt"


@pytest.mark.parametrize("size", [1, 2])
def test_nothing_is_trained_where_nothing_is_left(gangs, size):
    def function(config, run):
        for epoch in run.epochs():
            run.state["epoch"] = epoch
            value = epoch
            run.report(accuracy=value)
        run.state["last"] = value  # there is none, without an epoch

    gangs.train(function, size, until=3)
    told = gangs.train(function, size, until=3, again=True)
    assert [report.epoch for report in told.reports] == [1, 2, 3]
    assert (told.end.outcome, told.end.error) == ("target", "")


def test_no_further_than_it_was_to_be_trained(gangs):
    gangs.alone(train, until=5)
    told = gangs.alone(train, until=4, again=True)
    assert [report.epoch for report in told.reports] == [1, 2, 3, 4]
    assert told.end.outcome == "target"
    assert told.reports[-1].checkpoint == "7/000004-g1.pt"


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
def test_what_is_of_no_use_is_passed_over(gangs, changes):
    stored = gangs.alone(train, until=4).reports
    change(gangs, stored[3].checkpoint, **changes)
    told = gangs.alone(train, until=4, from_epoch=1, checkpoint=stored[0].checkpoint, again=True)
    assert [report.epoch for report in told.reports] == [2, 3, 4]
    assert told.reports[1].checkpoint == stored[2].checkpoint
    assert told.reports[2].checkpoint != stored[3].checkpoint


def test_a_damaged_one_is_passed_over(gangs):
    stored = gangs.alone(train, until=3).reports
    path = gangs.store / stored[2].checkpoint
    path.write_bytes(path.read_bytes()[:-50])
    told = gangs.alone(train, until=3, again=True)
    assert [report.checkpoint for report in told.reports] == [
        *(stored[0].checkpoint, stored[1].checkpoint),
        "7/000003-g2.pt",
    ]


def test_others_are_not_looked_for(gangs):
    stored = gangs.alone(train, until=3).reports
    told = gangs.alone(train, until=3, from_epoch=1, checkpoint=stored[0].checkpoint)
    assert all(isinstance(report, Reported) and report.checkpoint.endswith("-g2.pt") for report in told.reports)


def test_a_store_that_cannot_be_listed(gangs, monkeypatch):
    stored = gangs.alone(train, until=3).reports

    def broken(*_):
        raise PermissionError("no listing")

    monkeypatch.setattr(checkpoints, "stored", broken)
    told = gangs.alone(train, until=3, from_epoch=1, checkpoint=stored[0].checkpoint, again=True)
    assert [report.epoch for report in told.reports] == [2, 3]


def test_listing_another_kind_of_store(gangs):
    store = "memory://seer-recovering"
    assert checkpoints.stored(store, 3) == []
    for name in ("3/000004-g1.pt", "3/000012-g20.pt", "33/000001-g1.pt", "3/note.txt"):
        checkpoints.save(store, name, {"format": 1})
    assert sorted(checkpoints.stored(store, 3)) == [(4, 1), (12, 20)]
