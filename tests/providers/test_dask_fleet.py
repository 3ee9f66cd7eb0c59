"""How workers are matched to machines, on a cluster that the test controls; and the creation of clusters."""

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import pytest

from seer_nb.errors import SeerError
from seer_nb.providers import DaskCluster
from seer_nb.providers.dask import rpc
from seer_nb.providers.dask.controller import ClusterInfo, WorkerInfo
from seer_nb.providers.dask.fleet import SILENCE_TIMEOUT_S, DaskFleet
from seer_nb.providers.dask.rpc import InProcessChannel, SocketChannel, get_server
from tests.providers import clusters
from tests.support.recorded_fleet import RecordedFleet
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class FakeChannel:
    """A channel to a cluster without keys whose workers the test controls."""

    def __init__(self):
        self.found, self.calls, self.error, self.closed, self.opened = {}, [], None, False, asyncio.Event()
        self.opened.set()

    async def open(self, lease_s, lost):
        self.lost = lost
        await self.opened.wait()
        return ClusterInfo("tcp://nowhere:1", None, can_scale=True, existing={})

    async def call(self, method, *args, **named):
        assert not self.closed
        self.calls.append((method, *args))
        if self.error and method in self.error:
            raise self.error[method]
        if method == "end_worker":
            del self.found[args[1]]
        return dict(self.found) if method == "workers" else None

    async def close(self):
        self.closed = True

    def add_worker(self, address):
        self.found[address] = WorkerInfo(address, 1, None)

    def calls_of(self, method):
        return [call for call in self.calls if call[0] == method]


@pytest.fixture
def channels():
    return []


@pytest.fixture
async def recorded(tmp_path, channels, monkeypatch):
    monkeypatch.setattr("seer_nb.providers.dask.fleet.FAST_POLL_S", 0.01)
    monkeypatch.setattr("seer_nb.providers.dask.fleet.SLOW_POLL_S", 0.01)
    monkeypatch.setattr(DaskCluster, "channel", lambda _: channels.append(FakeChannel()) or channels[-1])
    async with RecordedFleet(tmp_path / "f", DaskCluster(clusters.local, 0.05, **clusters.OPTIONS)) as opened:
        await opened.fleet.boot_scheduler(0, opened.provider.scheduler_offer)
        yield opened


async def test_worker_retired_before_it_joins_is_reported_when_it_has_ended(recorded, channels):
    (channel,) = channels
    await recorded.rent(1)
    await recorded.fleet.retire(1, force=True)
    await asyncio.sleep(0.1)
    assert not recorded.ended, "the worker is starting, and is billed when it joins"
    channel.add_worker("late")
    assert (await recorded.has_ended(1)).expected
    assert channel.calls_of("end_worker") == [("end_worker", None, "late")]
    assert not channel.found


async def test_new_worker_is_assigned_to_a_wanted_machine_first(recorded, channels):
    (channel,) = channels
    await recorded.rent(1)
    await recorded.fleet.retire(1, force=False)
    await recorded.rent(2)
    channel.add_worker("first")
    await until_async(lambda: recorded.fleet.worker_name("first", "first") == "2.0")
    assert not recorded.ended
    channel.add_worker("second")
    assert (await recorded.has_ended(1)).expected
    assert list(channel.found) == ["first"]


async def test_retired_worker_that_never_joins_is_reported_after_the_boot_timeout(recorded, channels):
    await recorded.rent(1)
    await recorded.fleet.retire(1, force=False)
    recorded.fleet.rented[1].rented_at_s -= 100.0
    assert (await recorded.has_ended(1)).lived_s is None


async def test_worker_that_failed_to_start_does_not_claim_another_worker(recorded, channels):
    (channel,) = channels
    channel.error = {"start_worker": TypeError("an error of the cluster")}
    await recorded.rent(1)
    ended = await recorded.has_ended(1)
    assert (ended.expected, ended.reason, ended.lived_s) == (False, "an error of the cluster", 0.0)
    channel.error = None
    await recorded.rent(2)
    channel.add_worker("one")
    await until_async(lambda: recorded.fleet.worker_name("one", "one") == "2.0")


async def test_watcher_continues_after_any_exception(recorded, channels):
    (channel,) = channels
    await recorded.rent(1)
    channel.add_worker("one")
    await until_async(lambda: recorded.fleet.worker_name("one", "one") == "1.0")
    channel.error = {"workers": RuntimeError("unexpected"), "end_worker": RuntimeError("unexpected too")}
    await asyncio.sleep(0.1)
    channel.error = None
    del channel.found["one"]
    assert (await recorded.has_ended(1)).reason == "its worker left the scheduler"


async def test_cluster_that_does_not_answer_is_lost(recorded, channels, monkeypatch):
    assert SILENCE_TIMEOUT_S > 1
    monkeypatch.setattr("seer_nb.providers.dask.fleet.SILENCE_TIMEOUT_S", 0.1)
    channels[0].error = {"workers": OSError("no answer")}
    ended = await recorded.has_ended(0)
    assert not ended.expected
    assert ended.reason.startswith("the Dask cluster, or the process that it lived in, has exited")


async def test_second_cluster_replaces_the_first(recorded, channels):
    await recorded.rent(1)
    await recorded.fleet.boot_scheduler(2, recorded.provider.scheduler_offer)
    assert channels[0].closed, "its lease would be renewed without end"
    assert "another Dask cluster" in recorded.ended[0].reason
    assert 1 in recorded.ended
    assert await recorded.fleet.boot_scheduler(2, recorded.provider.scheduler_offer) is not None


class SlowFactory:
    """Creates a cluster when ``go`` is set."""

    def __init__(self):
        self.started, self.go, self.made = threading.Event(), threading.Event(), []

    def __call__(self):
        self.started.set()
        assert self.go.wait(30)
        self.made.append(clusters.local())
        return self.made[0]

    @property
    def closed(self):
        return [cluster.status.name for cluster in self.made] == ["closed"]


@pytest.mark.parametrize("how", ["retire", "give_up", "close"])
async def test_cluster_can_be_ended_while_it_is_created(how, tmp_path, monkeypatch):
    slow = SlowFactory()
    provider = DaskCluster(slow, 0.05, **clusters.OPTIONS)
    monkeypatch.setattr(provider, "make_cluster", slow)
    recorded = RecordedFleet(tmp_path / "f", provider)
    hosting = asyncio.ensure_future(recorded.fleet.boot_scheduler(0, provider.scheduler_offer))
    await asyncio.to_thread(slow.started.wait, 10)
    acts = {
        "retire": lambda: recorded.fleet.retire(0, force=True),
        "give_up": lambda: recorded.fleet.discard(0, "it is too slow"),
        "close": recorded.fleet.close,
    }
    acting = asyncio.ensure_future(acts[how]())
    await asyncio.sleep(0.2)
    assert not recorded.ended, "it cannot have ended before it was created"
    slow.go.set()
    await acting
    assert await hosting is None
    assert (await recorded.has_ended(0)).expected == (how != "give_up")
    assert slow.closed
    assert await recorded.fleet.close() == ()


async def test_cluster_created_after_the_fleet_closed_is_closed(tmp_path, monkeypatch):
    slow = SlowFactory()
    monkeypatch.setattr(DaskFleet, "end_timeout_s", 0.1)
    recorded = RecordedFleet(tmp_path / "f", DaskCluster(slow, 0.05, **clusters.OPTIONS))
    recorded.provider.make_cluster = slow
    hosting = asyncio.ensure_future(recorded.fleet.boot_scheduler(0, recorded.provider.scheduler_offer))
    await asyncio.to_thread(slow.started.wait, 10)
    assert await recorded.fleet.close() == (0,)
    hosting.cancel()
    slow.go.set()
    await until_async(lambda: slow.closed)


async def test_channel_closed_before_it_opens_closes_the_cluster():
    slow = SlowFactory()
    slow.go.set()
    channel = InProcessChannel(slow)
    await channel.close()
    with pytest.raises(SeerError, match="no longer needed"):
        await channel.open(30.0, lambda: None)
    assert slow.closed


@pytest.mark.slow
async def test_workers_of_a_dead_runner_end_on_a_cluster_without_keys():
    cluster = clusters.Plain(workers=1)
    try:
        channel = SocketChannel(get_server(cluster).endpoint)
        connection, info = await asyncio.to_thread(channel.acquire, 30.0)
        (kept,) = info.existing
        await asyncio.to_thread(channel.request, "start_worker")
        joined = lambda: {str(w["name"]) for w in cluster.scheduler_info["workers"].values()}  # noqa: E731
        await until_async(lambda: len(joined()) == 2)
        await asyncio.to_thread(channel.request, "start_worker")
        connection.close()
        await until_async(lambda: len(cluster.plan) == 1)
        await until_async(lambda: joined() == {kept})
        await asyncio.sleep(2.0)
        assert joined() == {kept}
    finally:
        await asyncio.to_thread(cluster.close)


async def test_closed_cluster_is_not_kept_alive(monkeypatch):
    monkeypatch.setattr(rpc, "POLL_S", 0.05)
    cluster = await asyncio.to_thread(clusters.local)
    reference = weakref.ref(cluster)
    socket = Path(get_server(cluster).endpoint.address)
    await asyncio.to_thread(cluster.close)
    await until_async(lambda: not socket.exists())
    del cluster
    await until_async(lambda: gc.collect() is not None and reference() is None)
