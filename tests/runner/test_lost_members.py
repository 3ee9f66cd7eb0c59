"""A member of a gang is lost before the members have met, or while others wait for it."""

import threading
import time

import pytest

from seer_nb.core import StartGang
from seer_nb.runner.gangs import GangTracker
from seer_nb.worker.agent import GangSignals
from seer_nb.worker.member import run_member
from seer_nb.worker.messages import MemberTask
from seer_nb.worker.rendezvous import host_store

START = StartGang(gang=7, trial=1, workers=("0.0", "1.0"), from_epoch=0, checkpoint=None, until=9)


def test_members_that_wait_for_a_lost_worker_are_not_to_blame():
    tracker = GangTracker(START)
    tracker.worker_lost("1.0", own_fault=False, reason="the machine is gone")
    assert tracker.remaining_workers == ("0.0",)
    tracker.hung_stack = "rank 0 was at ..."
    ended = tracker.outcome()
    assert (ended.outcome, ended.own_fault, ended.error) == ("lost", False, "the machine is gone")


def test_a_gang_whose_members_all_hang_has_failed():
    tracker = GangTracker(START)
    tracker.hung_stack = "rank 0 was at ..."
    assert tracker.outcome().outcome == "failed"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_member_does_not_wait_for_one_that_was_lost_before_they_met(rank, tmp_path):
    store, port = host_store("127.0.0.1")
    signals, records = GangSignals(), []
    task = MemberTask(
        gang=7,
        trial=1,
        config={},
        rank=rank,
        world_size=2,
        store_host="127.0.0.1",
        store_port=port,
        from_epoch=0,
        checkpoint=None,
        until=9,
        max_epochs=9,
        metric="accuracy",
        seed=0,
        store=str(tmp_path),
        timeout_s=20.0,
    )
    threading.Timer(0.2, signals.notify_member_lost, [7]).start()
    began_s = time.monotonic()
    run_member(lambda config, run: None, task, records.append, signals)
    assert time.monotonic() - began_s < task.timeout_s / 2
    assert (records[0].outcome, records[0].collective) == ("failed", True), "the loss of the other member caused it"
    signals.forget(7)
    assert not signals.is_member_lost(7)
    del store
