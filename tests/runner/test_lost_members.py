"""A member of a gang that is lost before the members have met, or while others are waiting for it."""

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


def test_who_waits_for_a_lost_worker_does_not_hang_by_its_own_fault():
    tracker = GangTracker(START)
    tracker.worker_lost("1.0", own_fault=False, reason="its machine is gone")
    assert tracker.left == ("0.0",)
    tracker.stack = "rank 0 stood at ..."
    ended = tracker.outcome()
    assert (ended.outcome, ended.own_fault, ended.error) == ("lost", False, "its machine is gone")


def test_a_gang_that_hangs_together_has_failed():
    tracker = GangTracker(START)
    tracker.stack = "rank 0 stood at ..."
    assert tracker.outcome().outcome == "failed"


@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_waits_for_a_member_that_was_lost_before_they_met(rank, tmp_path):
    store, port = host_store("127.0.0.1")
    flags, records = GangSignals(), []
    order = MemberTask(
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
    threading.Timer(0.2, flags.bereave, [7]).start()
    began_s = time.monotonic()
    run_member(lambda config, run: None, order, records.append, flags)
    assert time.monotonic() - began_s < order.timeout_s / 2
    assert (records[0].outcome, records[0].collective) == ("failed", True), "an echo of the other's loss"
    flags.forget(7)
    assert not flags.bereft(7)
    del store
