"""Records arrive once and in order over connections that break: a real Dask scheduler and real clients."""

import contextlib
import functools
import io
import logging
import pickle
import zipfile

import msgspec
import pytest
from distributed import Scheduler, Worker

from seer_nb import core
from seer_nb.bench.faults import training
from seer_nb.providers.base import SchedulerAddress
from seer_nb.runner import dask_client
from seer_nb.runner.dask_client import SchedulerConnection
from seer_nb.runner.gangs import DaskGangs, GangTracker
from seer_nb.worker import remote
from seer_nb.worker.messages import TOPIC, MemberEnded
from tests.support.fake_gangs import RecordingObserver
from tests.support.records import settings
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio
QUIET = {"dashboard": False, "host": "127.0.0.1", "dashboard_address": ":0"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Receiver:
    """Receives numbers over a connection."""

    def __init__(self):
        self.received = []
        self.connection = SchedulerConnection(self._receive)

    def _receive(self, text):
        self.received.append(int(text))


@pytest.fixture
async def scheduler():
    async with Scheduler(port=0, **QUIET) as found:
        yield found


async def connected(scheduler):
    """Connect a receiver; returns it once messages on the topic reach its client."""
    receiver = Receiver()
    await receiver.connection.open(SchedulerAddress(scheduler.address))

    def is_subscribed():
        scheduler.log_event(TOPIC, "-1")
        return receiver.received

    await until_async(is_subscribed)
    await receiver.connection.fetch_records()
    receiver.received.clear()
    return receiver


@pytest.fixture
async def receiver(scheduler):
    made = await connected(scheduler)
    yield made
    await made.connection.close()


def cut(client):
    """Cut the client's connection; returns what shows that it is back."""
    old = client.scheduler_comm
    old.comm.abort()
    return lambda: client.status == "running" and client.scheduler_comm not in {None, old}


def send(scheduler, *numbers):
    for number in numbers:
        scheduler.log_event(TOPIC, str(number))


async def test_records_sent_before_are_skipped_and_later_ones_arrive_once(scheduler, receiver):
    send(scheduler, 1, 2)
    await until_async(lambda: receiver.received == [1, 2])
    later = await connected(scheduler)
    send(scheduler, 3, 4)
    await until_async(lambda: len(later.received) == 2)
    for _ in range(2):
        await later.connection.fetch_records()
    assert later.received == [3, 4]
    await later.connection.close()


async def test_records_sent_while_the_connection_was_cut_arrive_in_order(scheduler, receiver):
    send(scheduler, 1)
    await until_async(lambda: receiver.received == [1])
    is_back = cut(receiver.connection.client)
    send(scheduler, 2, 3)
    await until_async(is_back)
    send(scheduler, 4, 5)
    await until_async(lambda: len(receiver.received) == 5)
    send(scheduler, 6)
    await until_async(lambda: receiver.received[-1] == 6)
    assert receiver.received == [1, 2, 3, 4, 5, 6]


async def test_the_last_records_arrive_although_none_follows(scheduler, receiver):
    """The next renewal of leases fetches records whose message was lost."""
    is_back = cut(receiver.connection.client)
    send(scheduler, 1, 2)
    await until_async(is_back)
    receiver.connection.request_records()
    await until_async(lambda: receiver.received == [1, 2])


async def test_an_answer_that_is_lost_is_fetched_again(scheduler, receiver, monkeypatch):
    """Guards against records that are dropped when they are sent instead of when they were received."""
    monkeypatch.setattr(dask_client, "RETRY_S", 0.05)
    client, lost = receiver.connection.client, []
    answer = client.run_on_scheduler

    async def lose_first(*args):
        found = await answer(*args)
        if not lost:
            lost.append(found)
            raise TimeoutError
        return found

    monkeypatch.setattr(client, "run_on_scheduler", lose_first)
    send(scheduler, 1, 2)
    await until_async(lambda: receiver.received == [1, 2])
    assert lost[0][1], "the first answer held records"


async def test_a_record_that_cannot_be_decoded_does_not_block_the_others(scheduler, receiver):
    scheduler.log_event(TOPIC, "no number")
    send(scheduler, 1)
    await until_async(lambda: receiver.received == [1])


async def test_records_that_the_scheduler_dropped_do_not_block_the_others(monkeypatch, caplog):
    monkeypatch.setattr(remote, "EventLogPlugin", functools.partial(remote.EventLogPlugin, kept=20))
    async with Scheduler(port=0, **QUIET) as scheduler:
        receiver = await connected(scheduler)
        send(scheduler, 0)
        await until_async(lambda: receiver.received == [0])
        is_back = cut(receiver.connection.client)
        send(scheduler, *range(1, 50))
        await until_async(is_back)
        with caplog.at_level(logging.WARNING):
            receiver.connection.request_records()
            await until_async(lambda: receiver.received[-1] == 49)
        assert receiver.received == [0, *range(30, 50)]
        assert "the scheduler dropped 29 records before the runner fetched them" in caplog.messages
        send(scheduler, 50)
        await until_async(lambda: receiver.received[-1] == 50)
        await receiver.connection.close()


async def test_the_scheduler_keeps_only_records_that_were_not_received(scheduler, receiver):
    send(scheduler, *range(5))
    await until_async(lambda: len(receiver.received) == 5)
    await receiver.connection.fetch_records()
    (plugin,) = [found for name, found in scheduler.plugins.items() if name == remote.EVENT_LOG]
    assert plugin.records_since(0)[1] == ()


async def test_the_records_of_a_worker_outlive_it(scheduler, tmp_path):
    """Guards against records that only their worker keeps: it may die right after it has sent a report."""
    texts = []
    connection = SchedulerConnection(texts.append)
    await connection.open(SchedulerAddress(scheduler.address))
    is_back = cut(connection.client)
    async with Worker(scheduler.address, nthreads=1, local_directory=tmp_path, **QUIET) as worker:
        worker.log_event(TOPIC, "a report")
        await until_async(lambda: scheduler.get_events(TOPIC))
        address = worker.address
    await until_async(is_back)
    connection.request_records()
    await until_async(lambda: len(texts) == 2)
    assert texts[0] == "a report"
    assert msgspec.json.decode(texts[1]) == {"type": "WorkerLeft", "address": address}
    await connection.close()


async def test_a_client_closed_by_dask_is_reopened_and_receives_the_end_of_its_gangs(scheduler, tmp_path):
    observer = RecordingObserver()
    gangs = DaskGangs(settings(store=str(tmp_path)), None, observer, tmp_path)
    await gangs.connect(SchedulerAddress(scheduler.address), b"")
    start = core.StartGang(gang=7, trial=0, workers=("0.0",), from_epoch=0, checkpoint=None, until=2, reason="")
    gangs.trackers[7] = GangTracker(start)
    await gangs.connection.client.close()
    sent = [core.Reported(gang=7, epoch=epoch, value=0.5, seconds=1.0) for epoch in (1, 2)]
    sent.append(MemberEnded(gang=7, rank=0, outcome="target"))
    for record in sent:
        scheduler.log_event(TOPIC, msgspec.json.encode(record).decode())
    gangs.start(core.StartGang(gang=8, trial=1, workers=("0.0",), from_epoch=0, checkpoint=None, until=2), None)
    assert observer.events.pop().outcome == "lost", "no task can be submitted by then"
    for _ in range(2):
        gangs.renew_leases()
    await until_async(lambda: len(observer.events) == 3)
    assert [getattr(event, "epoch", None) for event in observer.events] == [1, 2, None]
    assert observer.events[-1].outcome == "target"
    with contextlib.suppress(TimeoutError):
        await gangs.close()


def test_the_archive_for_workers_has_the_optional_subpackages_that_a_function_uses():
    def rooms(function):
        with zipfile.ZipFile(io.BytesIO(remote.archive(function))) as archive:
            return {name.split("/")[1] for name in archive.namelist()}

    assert rooms(b"").isdisjoint(remote.OPTIONAL)
    assert rooms(pickle.dumps(training.train)) & remote.OPTIONAL == {"bench"}
