"""What every provider of machines owes, as tests that each provider's module inherits.

A module gives a provider, and says how one of its machines is killed and how to find what is left::

    class TestMine(ProviderTestCase):
        def provider(self, home):
            return Mine()
"""

import asyncio
import contextlib
import os
import pickle
import signal
import time

import cloudpickle
import msgspec
import psutil
import pytest

from seer_nb import core
from seer_nb.providers.base import Adopted, FleetContext
from seer_nb.runner.gangs import DaskGangs
from seer_nb.study import serialization
from tests.support.studies import processes
from tests.support.waiting import until_async

LEASE_S = 30.0


def nothing(config, run):
    """A training function; none is called here."""


class Rig:
    """A fleet as a runner uses it: with a client that gets to know its workers. Machine 0 hosts the scheduler."""

    def __init__(self, provider, folder):
        self.provider = provider
        self.ended, self.told = {}, []
        self.ready = {}
        """By machine, what its worker has said of itself."""
        (self.folder, self.offer) = folder, provider.offers()[0]
        (folder / "logs").mkdir(parents=True)
        # As a runner gets it.
        self.fleet = pickle.loads(cloudpickle.dumps(provider)).fleet(
            FleetContext(study="study", folder=folder, lease_s=LEASE_S, ended=self._ended)
        )
        settings = core.Settings(
            name="study",
            metric="value",
            mode="max",
            max_epochs=1,
            deadline_s=600.0,
            budget=10**6,
            seed=0,
            offers=provider.offers(),
            host=provider.host,
            max_workers=provider.max_workers,
            lease_s=LEASE_S,
            store=str(folder),
            policy="seer",
        )
        logs = folder / "logs" if provider.shares_files else None
        self.gangs = DaskGangs(settings, self.fleet, self, logs)
        self._tasks = set()

    def _ended(self, event):
        assert event.machine not in self.ended, f"machine {event.machine} has ended twice"
        self.ended[event.machine] = event
        self.gangs.machine_ended(event)

    def emit(self, event):
        self.told.append(event)

    def worker_ready(self, worker):
        machine, _, slot = worker.partition(".")
        assert slot == "0"
        self.ready[int(machine)] = self.gangs._workers[worker]

    def worker_left(self, worker):
        task = asyncio.ensure_future(self.fleet.lost(int(worker.partition(".")[0])))
        self._tasks.add(task)

    async def open(self):
        scheduler = await self.fleet.open()
        if scheduler is None:
            assert await self.fleet.adopt([]) == Adopted()
            scheduler = await self.fleet.host(0, self.provider.host)
        await self.gangs.connect(scheduler, serialization.dumps(nothing))
        self._tasks.add(asyncio.ensure_future(self._renew()))

    async def close(self):
        await self.gangs.close()
        await self.fleet.close()
        for task in self._tasks:
            task.cancel()

    async def _renew(self):
        while True:
            self.gangs.renew_leases()
            await asyncio.sleep(LEASE_S / 6)

    async def rent(self, *machines):
        await asyncio.gather(*(self.fleet.rent(machine, self.offer) for machine in machines))

    async def boots(self, *machines):
        """Rent machines, and wait until they can train."""
        await self.rent(*machines)
        await self.until(
            lambda: self.ready.keys() >= set(machines), f"{machines} to be ready", self.offer.boot_timeout_s
        )

    async def has_ended(self, machine, within_s):
        await self.until(lambda: machine in self.ended, f"the end of machine {machine}", within_s)
        return self.ended[machine]

    async def until(self, condition, what, within_s=10.0):
        await until_async(condition, lambda: f"{what} ({self.ended})", within_s)

    async def answers(self, machine):
        """Whether a machine's worker is there and is the one that it was."""
        address = self.ready[machine].address
        found = await self.gangs._connection.client.run(os.getpid, workers=[address], on_error="ignore")
        return found.get(address) == self.ready[machine].pid


class DescribedTestCase:
    """What can be said of a provider without renting anything."""

    def provider(self, home):
        """A provider of at least two workers, one a machine."""
        raise NotImplementedError

    @pytest.fixture
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.fixture
    def given(self, home):
        return self.provider(home)

    def test_its_offers_are_sound(self, given):
        offers = given.offers()
        assert offers
        assert len({offer.name for offer in [*offers, *filter(None, [given.host])]}) == len(offers) + bool(given.host)
        assert given.max_workers >= 1
        for offer in offers:
            assert 0 < offer.boot_s < offer.boot_timeout_s
            assert offer.release_s > 0
            assert offer.price_per_hour >= 0
            assert offer.bill(3600) >= offer.price_per_hour
            assert offer.workers_per_machine >= 1
            assert offer.max_machines >= 1
            assert offer.bill(1) <= offer.bill(2) <= offer.bill(3601)
            # The journal holds it.
            assert msgspec.json.decode(msgspec.json.encode(offer), type=type(offer)) == offer
        if given.host is not None:
            assert given.host.workers_per_machine == 0
        assert offers == given.offers(), "they are always the same"

    def test_it_is_pickled_and_shown(self, given):
        other = pickle.loads(cloudpickle.dumps(given))
        assert other.offers() == given.offers()
        assert other.host == given.host
        assert (other.max_workers, other.shares_files) == (given.max_workers, given.shares_files)
        assert repr(other) == repr(given)
        assert repr(given).startswith(type(given).__name__ + "(")
        assert " object at 0x" not in repr(given)


class ProviderTestCase(DescribedTestCase):
    """The contract. What it takes for granted of real clouds, a module may set otherwise."""

    pytestmark = pytest.mark.anyio
    lost_within_s = 10.0
    """A machine that is killed is told of within so long."""

    def kill(self, rig, machine):
        """Kill a machine that is ready."""
        os.kill(rig.ready[machine].pid, signal.SIGKILL)

    def left(self, home):
        """What still lives of the study's machines. Helpers of multiprocessing live as long as this process."""
        found = []
        for process in processes(home):
            with contextlib.suppress(psutil.Error):
                if "resource_tracker" not in " ".join(process.cmdline()):
                    found.append(process)
        return found

    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"

    @pytest.fixture
    async def rig(self, given, home):
        rig = Rig(given, home / "study")
        await rig.open()
        try:
            yield rig
        finally:
            await rig.close()
            await rig.until(lambda: not self.left(home), "the end of all that the fleet has started")

    async def test_a_machine_joins_and_is_handed_back(self, rig):
        await rig.boots(1)
        assert await rig.answers(1)
        assert not rig.ended
        await rig.fleet.retire(1, force=False)
        ended = await rig.has_ended(1, rig.offer.release_s + 5)
        assert (ended.expected, ended.reason) == (True, "")
        await rig.fleet.retire(1, force=True)
        await rig.fleet.lost(1)
        await rig.boots(2)
        assert list(rig.ended) == [1]

    async def test_the_chosen_one_of_two_goes_and_the_other_stays(self, rig):
        await rig.boots(1, 2)
        await rig.fleet.retire(1, force=False)
        assert (await rig.has_ended(1, rig.offer.release_s + 5)).expected
        await asyncio.sleep(1.0)
        assert list(rig.ended) == [1]
        assert await rig.answers(2)

    async def test_one_that_is_killed_is_told_of_and_can_be_replaced(self, rig):
        await rig.boots(1, 2)
        self.kill(rig, 1)
        ended = await rig.has_ended(1, self.lost_within_s)
        assert not ended.expected
        assert ended.reason
        await rig.boots(3)
        assert await rig.answers(2)
        assert await rig.answers(3)
        assert list(rig.ended) == [1]

    async def test_one_is_handed_back_while_it_boots(self, rig):
        await rig.rent(1)
        await rig.fleet.retire(1, force=False)
        assert (await rig.has_ended(1, rig.offer.boot_s + rig.offer.release_s)).expected
        assert 1 not in rig.ready
        await rig.boots(2)

    async def test_one_is_handed_back_while_it_is_asked_for(self, rig):
        renting = asyncio.ensure_future(rig.fleet.rent(1, rig.offer))
        await asyncio.sleep(0)
        await rig.fleet.retire(1, force=False)
        await renting
        assert (await rig.has_ended(1, rig.offer.boot_s + rig.offer.release_s)).expected

    async def test_one_that_hangs_is_ended_by_force(self, rig):
        await rig.boots(1)
        task = rig.gangs._connection.client.submit(time.sleep, 1000, workers=[rig.ready[1].address], pure=False)
        await asyncio.sleep(0.5)
        assert task.status == "pending"
        await rig.fleet.retire(1, force=True)
        assert (await rig.has_ended(1, rig.offer.release_s + 5)).expected
        await rig.boots(2)

    async def test_one_that_is_of_no_use_is_given_up(self, rig):
        await rig.boots(1)
        await rig.fleet.give_up(1, "it could not be reached")
        ended = await rig.has_ended(1, rig.offer.release_s + 5)
        assert (ended.expected, ended.reason) == (False, "it could not be reached")
        await rig.fleet.give_up(1, "once more")
        await rig.boots(2)

    async def test_one_is_handed_back_twice(self, rig):
        await rig.boots(1)
        await asyncio.gather(rig.fleet.retire(1, force=False), rig.fleet.retire(1, force=True))
        await rig.fleet.retire(1, force=True)
        assert (await rig.has_ended(1, rig.offer.release_s + 5)).expected

    async def test_one_that_is_unknown_is_passed_over(self, rig):
        await rig.fleet.retire(77, force=False)
        await rig.fleet.retire(78, force=True)
        await rig.fleet.lost(79)
        await rig.boots(1)
        assert not rig.ended

    async def test_closing_ends_what_lives_and_what_boots(self, given, home):
        rig = Rig(given, home / "study")
        await rig.open()
        await rig.boots(1)
        await rig.rent(2)
        await rig.close()
        await rig.until(lambda: not self.left(home), "the end of all that the fleet has started")
        assert {1, 2} <= rig.ended.keys()
