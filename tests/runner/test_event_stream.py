"""What the runner hears of its study, over connections that break: a real Dask scheduler and real clients."""

import contextlib

import dask
import msgspec
import pytest
from distributed import Client, Scheduler

from seer_nb import core
from seer_nb.providers.base import SchedulerAddress
from seer_nb.runner.dask_client import EventStream
from seer_nb.runner.gangs import DaskGangs, GangTracker
from seer_nb.worker.messages import TOPIC, MemberEnded
from tests.support.records import settings
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Counting:
    """Hears numbers, of which none may be missing."""

    def __init__(self):
        self.heard, self.missed = [], 0
        self.hearing = EventStream(self._take, self._missing)

    def _take(self, text, *, anyway):
        if not anyway and self.heard and int(text) > self.heard[-1] + 1:
            return False
        self.heard.append(int(text))
        return True

    def _missing(self):
        self.missed += 1


@pytest.fixture
async def scheduler():
    with dask.config.set({"distributed.admin.low-level-log-length": 20}):
        async with Scheduler(port=0, dashboard=False, host="127.0.0.1") as found:
            yield found


@pytest.fixture
async def client(scheduler):
    async with Client(scheduler.address, asynchronous=True, set_as_default=False) as found:
        yield found


async def listening(scheduler, client):
    """On the topic, from now on."""
    counting = Counting()
    client.subscribe_topic(TOPIC, counting.hearing.hear)
    await counting.hearing.begin(client)
    await until_async(lambda: scheduler._broker._topics[TOPIC].subscribers)
    return counting


def cut(client):
    connection = client.scheduler_comm
    connection.comm.abort()
    return connection


def back(client, old):
    return client.status == "running" and client.scheduler_comm not in {None, old}


def say(scheduler, *numbers):
    for number in numbers:
        scheduler.log_event(TOPIC, str(number))


async def test_what_was_said_before_is_not_heard_and_the_rest_once(scheduler, client):
    say(scheduler, 1, 2)
    counting = await listening(scheduler, client)
    say(scheduler, 3, 4)
    await until_async(lambda: len(counting.heard) == 2)
    for _ in range(2):
        await counting.hearing.catch_up(client)
    assert counting.heard == [3, 4]


async def test_what_was_said_while_the_connection_was_cut_is_heard_in_order(scheduler, client):
    counting = await listening(scheduler, client)
    say(scheduler, 1)
    await until_async(lambda: counting.heard == [1])
    old = cut(client)
    say(scheduler, 2, 3)
    await until_async(lambda: back(client, old))
    say(scheduler, 4, 5)
    await until_async(lambda: counting.missed)
    assert counting.heard == [1], "4 waits for 2 and 3"
    await counting.hearing.catch_up(client)
    say(scheduler, 6)
    await until_async(lambda: counting.heard[-1] == 6)
    assert counting.heard == [1, 2, 3, 4, 5, 6]
    assert counting.missed == 1


async def test_the_last_words_are_heard_without_any_that_follow(scheduler, client):
    counting = await listening(scheduler, client)
    old = cut(client)
    say(scheduler, 1, 2)
    await until_async(lambda: back(client, old))
    await counting.hearing.catch_up(client)
    assert counting.heard == [1, 2]


async def test_what_the_scheduler_has_forgotten_does_not_keep_the_rest_waiting(scheduler, client):
    counting = await listening(scheduler, client)
    say(scheduler, 0)
    await until_async(lambda: counting.heard == [0])
    old = cut(client)
    say(scheduler, *range(1, 50))
    await until_async(lambda: back(client, old))
    await counting.hearing.catch_up(client)
    assert counting.heard == [0, *range(30, 50)]
    say(scheduler, 50)
    await until_async(lambda: counting.heard[-1] == 50)


async def test_a_client_that_has_given_up_comes_back_and_hears_the_end_of_its_gangs(scheduler, tmp_path):
    events = []
    gangs = DaskGangs(settings(store=str(tmp_path)), events.append, print, print, tmp_path)
    await gangs.connect(SchedulerAddress(scheduler.address), b"")
    start = core.StartGang(gang=7, trial=0, workers=("0.0",), from_epoch=0, checkpoint=None, until=2, reason="")
    gangs._gangs[7] = GangTracker(start)
    await gangs._connection.client.close()
    told = [core.Reported(gang=7, epoch=epoch, value=0.5, seconds=1.0) for epoch in (1, 2)]
    told.append(MemberEnded(gang=7, rank=0, outcome="target"))
    for record in told:
        scheduler.log_event(TOPIC, msgspec.json.encode(record).decode())
    gangs.start(core.StartGang(gang=8, trial=1, workers=("0.0",), from_epoch=0, checkpoint=None, until=2), None)
    assert events.pop().outcome == "lost", "nothing can be asked for by then"
    for _ in range(2):
        gangs.renew()
    await until_async(lambda: len(events) == 3)
    assert [getattr(event, "epoch", None) for event in events] == [1, 2, None]
    assert events[-1].outcome == "target"
    with contextlib.suppress(TimeoutError):
        await gangs.close()
