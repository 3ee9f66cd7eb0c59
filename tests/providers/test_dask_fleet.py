"""Which worker is which machine, on a cluster that does as the test says, and what becomes of one in the making."""

import asyncio
import gc
import threading
import weakref

import pytest

from seer_nb.errors import SeerError
from seer_nb.providers import DaskCluster
from seer_nb.providers.dask import rpc
from seer_nb.providers.dask.controller import Facts, Seen
from seer_nb.providers.dask.fleet import DEAF_S, DaskFleet
from seer_nb.providers.dask.rpc import InProcessChannel, SocketChannel, desk_of
from tests.providers import clusters
from tests.providers.cloud_kinds import Books
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Line:
    """To a cluster that knows no keys."""

    def __init__(self):
        self.found, self.calls, self.error, self.closed, self.opened = {}, [], None, False, asyncio.Event()
        self.opened.set()

    async def open(self, lease_s, lost):
        self.lost = lost
        await self.opened.wait()
        return Facts("tcp://nowhere:1", None, grows=True, kept={})

    async def call(self, method, *args, **named):
        assert not self.closed
        self.calls.append((method, *args))
        if self.error and method in self.error:
            raise self.error[method]
        if method == "end":
            del self.found[args[1]]
        return dict(self.found) if method == "workers" else None

    async def close(self):
        self.closed = True

    def comes(self, address):
        self.found[address] = Seen(address, 1, None)

    def asked(self, method):
        return [call for call in self.calls if call[0] == method]


@pytest.fixture
def lines():
    return []


@pytest.fixture
async def books(tmp_path, lines, monkeypatch):
    monkeypatch.setattr("seer_nb.providers.dask.fleet.SOON_S", 0.01)
    monkeypatch.setattr("seer_nb.providers.dask.fleet.LATER_S", 0.01)
    monkeypatch.setattr(DaskCluster, "line", lambda _: lines.append(Line()) or lines[-1])
    async with Books(tmp_path / "f", DaskCluster(clusters.local, 0.05, **clusters.GIVEN)) as opened:
        await opened.fleet.host(0, opened.provider.host)
        yield opened


async def test_one_without_a_key_that_is_to_go_before_it_has_come_is_reported_when_it_has_gone(books, lines):
    (line,) = lines
    await books.rent(1)
    await books.fleet.retire(1, force=True)
    await asyncio.sleep(0.1)
    assert not books.ended, "it is on its way, and costs money when it comes"
    line.comes("late")
    assert (await books.has_ended(1)).expected
    assert line.asked("end") == [("end", None, "late")]
    assert not line.found


async def test_a_worker_that_comes_is_rather_one_that_is_wanted_than_one_that_is_to_go(books, lines):
    (line,) = lines
    await books.rent(1)
    await books.fleet.retire(1, force=False)
    await books.rent(2)
    line.comes("first")
    await until_async(lambda: books.fleet.name_of("first", "first") == "2.0")
    assert not books.ended
    line.comes("second")
    assert (await books.has_ended(1)).expected
    assert list(line.found) == ["first"]


async def test_one_that_never_comes_is_forgotten_when_its_boot_has_taken_too_long(books, lines):
    await books.rent(1)
    await books.fleet.retire(1, force=False)
    books.fleet._rented[1].begun_s -= 100.0
    assert (await books.has_ended(1)).lived_s is None


async def test_a_worker_that_could_not_be_started_takes_no_others_place(books, lines):
    (line,) = lines
    line.error = {"grow": TypeError("whatever the cluster's own code raises")}
    await books.rent(1)
    ended = await books.has_ended(1)
    assert (ended.expected, ended.reason, ended.lived_s) == (False, "whatever the cluster's own code raises", 0.0)
    line.error = None
    await books.rent(2)
    line.comes("one")
    await until_async(lambda: books.fleet.name_of("one", "one") == "2.0")


async def test_the_watcher_goes_on_whatever_a_look_has_raised(books, lines):
    (line,) = lines
    await books.rent(1)
    line.comes("one")
    await until_async(lambda: books.fleet.name_of("one", "one") == "1.0")
    line.error = {"workers": RuntimeError("odd"), "end": RuntimeError("odd too")}
    await asyncio.sleep(0.1)
    line.error = None
    del line.found["one"]
    assert (await books.has_ended(1)).reason == "its worker left the scheduler"


async def test_a_cluster_that_is_not_heard_is_lost(books, lines, monkeypatch):
    assert DEAF_S > 1
    monkeypatch.setattr("seer_nb.providers.dask.fleet.DEAF_S", 0.1)
    lines[0].error = {"workers": OSError("no answer")}
    ended = await books.has_ended(0)
    assert not ended.expected
    assert ended.reason.startswith("the Dask cluster has gone")


async def test_another_cluster_is_not_had_beside_the_first(books, lines):
    await books.rent(1)
    await books.fleet.host(2, books.provider.host)
    assert lines[0].closed, "it would be renewed for ever"
    assert "another Dask cluster" in books.ended[0].reason
    assert 1 in books.ended
    assert await books.fleet.host(2, books.provider.host) is not None


class Slow:
    """Makes a cluster when it is told to."""

    def __init__(self):
        self.begun, self.go, self.made = threading.Event(), threading.Event(), []

    def __call__(self):
        self.begun.set()
        assert self.go.wait(30)
        self.made.append(clusters.local())
        return self.made[0]

    @property
    def closed(self):
        return [cluster.status.name for cluster in self.made] == ["closed"]


@pytest.mark.parametrize("how", ["retire", "give_up", "close"])
async def test_a_cluster_that_is_told_to_go_while_it_is_made_ends(how, tmp_path, monkeypatch):
    slow = Slow()
    provider = DaskCluster(slow, 0.05, **clusters.GIVEN)
    monkeypatch.setattr(provider, "_make", slow)
    books = Books(tmp_path / "f", provider)
    hosting = asyncio.ensure_future(books.fleet.host(0, provider.host))
    await asyncio.to_thread(slow.begun.wait, 10)
    acts = {
        "retire": lambda: books.fleet.retire(0, force=True),
        "give_up": lambda: books.fleet.give_up(0, "it is too slow"),
        "close": books.fleet.close,
    }
    acting = asyncio.ensure_future(acts[how]())
    await asyncio.sleep(0.2)
    assert not books.ended, "it is not gone before it was made"
    slow.go.set()
    await acting
    assert await hosting is None
    assert (await books.has_ended(0)).expected == (how != "give_up")
    assert slow.closed
    assert await books.fleet.close() == ()


async def test_a_cluster_that_nobody_waits_for_any_more_is_closed_by_who_has_made_it(tmp_path, monkeypatch):
    slow = Slow()
    monkeypatch.setattr(DaskFleet, "end_timeout_s", 0.1)
    books = Books(tmp_path / "f", DaskCluster(slow, 0.05, **clusters.GIVEN))
    books.provider._make = slow
    hosting = asyncio.ensure_future(books.fleet.host(0, books.provider.host))
    await asyncio.to_thread(slow.begun.wait, 10)
    assert await books.fleet.close() == (0,)
    hosting.cancel()
    slow.go.set()
    await until_async(lambda: slow.closed)


async def test_a_line_that_was_closed_first_gives_no_cluster():
    slow = Slow()
    slow.go.set()
    line = InProcessChannel(slow)
    await line.close()
    with pytest.raises(SeerError, match="not wanted any more"):
        await line.open(30.0, lambda: None)
    assert slow.closed


async def test_what_a_dead_runner_has_started_ends_on_a_cluster_that_knows_names_only():
    cluster = clusters.Plain(workers=1)
    try:
        line = SocketChannel(desk_of(cluster).door)
        facts = await line.open(30.0, lambda: None)
        (kept,) = facts.kept
        await line.call("grow")
        here = lambda: {str(w["name"]) for w in cluster.scheduler_info["workers"].values()}  # noqa: E731
        await until_async(lambda: len(here()) == 2)
        await line.call("grow")
        line._unwatch()
        line._held.close()
        await until_async(lambda: len(cluster.plan) == 1)
        await until_async(lambda: here() == {kept})
        await asyncio.sleep(2.0)
        assert here() == {kept}
    finally:
        await asyncio.to_thread(cluster.close)


async def test_a_cluster_that_has_closed_is_not_held_any_more(monkeypatch):
    monkeypatch.setattr(rpc, "LOOK_S", 0.05)
    cluster = await asyncio.to_thread(clusters.local)
    held = weakref.ref(cluster)
    desk_of(cluster)
    await asyncio.to_thread(cluster.close)
    await until_async(lambda: held() not in rpc._DESKS)
    del cluster
    await until_async(lambda: gc.collect() is not None and held() is None)
