"""The contract of providers, as tests that the test module of each provider inherits.

A module defines a provider, how to kill one of its machines, and how to find what is left::

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


def train(config, run):
    """Never called: no trial is started here."""


class Rig:
    """A fleet as a runner uses it, with a client that its workers report to. Machine 0 is the scheduler machine."""

    def __init__(self, provider, folder):
        self.provider = provider
        self.ended, self.events = {}, []
        self.ready = {}
        """What each machine's worker has reported, by machine."""
        (self.folder, self.offer) = folder, provider.offers()[0]
        (folder / "logs").mkdir(parents=True)
        # Pickled, as for a runner.
        self.fleet = pickle.loads(cloudpickle.dumps(provider)).fleet(
            FleetContext(study="study", folder=folder, lease_s=LEASE_S, on_ended=self._ended)
        )
        settings = core.Settings(
            name="study",
            metric="value",
            mode="max",
            max_epochs=1,
            deadline_s=600.0,
            budget_micro=10**6,
            seed=0,
            offers=provider.offers(),
            scheduler_offer=provider.scheduler_offer,
            max_workers=provider.max_workers,
            lease_s=LEASE_S,
            store=str(folder),
            policy="seer",
        )
        logs = folder / "logs" if provider.shares_files else None
        self.gangs = DaskGangs(settings, self.fleet, self, logs)
        self._tasks = set()

    def _ended(self, event):
        assert event.machine not in self.ended, f"machine {event.machine} was reported twice"
        self.ended[event.machine] = event
        self.gangs.machine_ended(event)

    def emit(self, event):
        self.told.append(event)

    def worker_ready(self, worker):
        machine, _, slot = worker.partition(".")
        assert slot == "0"
        self.ready[int(machine)] = self.gangs.workers[worker]

    def worker_left(self, worker):
        task = asyncio.ensure_future(self.fleet.on_worker_lost(int(worker.partition(".")[0])))
        self._tasks.add(task)

    async def open(self):
        scheduler = await self.fleet.open()
        if scheduler is None:
            assert await self.fleet.adopt([]) == Adopted()
            scheduler = await self.fleet.boot_scheduler(0, self.provider.scheduler_offer)
        await self.gangs.connect(scheduler, serialization.ship(train).pickled)
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
        """Rent machines and wait until they are ready."""
        await self.rent(*machines)
        await self.until(
            lambda: self.ready.keys() >= set(machines), f"{machines} to be ready", self.offer.boot_timeout_s
        )

    async def has_ended(self, machine, within_s):
        await self.until(lambda: machine in self.ended, f"the end of machine {machine}", within_s)
        return self.ended[machine]

    async def until(self, condition, what, within_s=10.0):
        await until_async(condition, lambda: f"{what} ({self.ended})", within_s)

    async def is_same_process(self, machine):
        """Return whether a machine's worker still runs in the process that reported it as ready."""
        address = self.ready[machine].address
        found = await self.gangs.connection.client.run(os.getpid, workers=[address], on_error="ignore")
        return found.get(address) == self.ready[machine].pid


class DescribedTestCase:
    """Tests of a provider that rent nothing."""

    def provider(self, home):
        """Return a provider of at least two workers, one per machine."""
        raise NotImplementedError

    @pytest.fixture
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.fixture
    def given(self, home):
        return self.provider(home)

    def test_offers_are_consistent(self, given):
        offers = given.offers()
        assert offers
        assert len({offer.name for offer in [*offers, *filter(None, [given.scheduler_offer])]}) == len(offers) + bool(
            given.scheduler_offer
        )
        assert given.max_workers >= 1
        for offer in offers:
            assert 0 < offer.boot_s < offer.boot_timeout_s
            assert offer.release_s > 0
            assert offer.price_per_hour_micro >= 0
            assert offer.bill(3600) >= offer.price_per_hour_micro
            assert offer.workers_per_machine >= 1
            assert offer.max_machines >= 1
            assert offer.bill(1) <= offer.bill(2) <= offer.bill(3601)
            # The journal stores it.
            assert msgspec.json.decode(msgspec.json.encode(offer), type=type(offer)) == offer
        if given.scheduler_offer is not None:
            assert given.scheduler_offer.workers_per_machine == 0
        assert offers == given.offers(), "offers() must always return the same"

    def test_provider_can_be_pickled_and_has_a_repr(self, given):
        other = pickle.loads(cloudpickle.dumps(given))
        assert other.offers() == given.offers()
        assert other.scheduler_offer == given.scheduler_offer
        assert (other.max_workers, other.shares_files) == (given.max_workers, given.shares_files)
        assert repr(other) == repr(given)
        assert repr(given).startswith(type(given).__name__ + "(")
        assert " object at 0x" not in repr(given)


class ProviderTestCase(DescribedTestCase):
    """Tests of a provider's fleet."""

    pytestmark = pytest.mark.anyio
    lost_within_s = 10.0
    """Seconds within which the loss of a killed machine is reported."""

    def kill(self, rig, machine):
        """Kill a ready machine."""
        os.kill(rig.ready[machine].pid, signal.SIGKILL)

    def left(self, home):
        """Return what still runs of the study's machines, without multiprocessing's helpers of this process."""
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
            await rig.until(lambda: not self.left(home), "the end of everything that the fleet started")

    async def test_machine_joins_and_is_retired(self, rig):
        await rig.boots(1)
        assert await rig.is_same_process(1)
        assert not rig.ended
        await rig.fleet.retire(1, force=False)
        ended = await rig.has_ended(1, rig.offer.release_s + 5)
        assert (ended.expected, ended.reason) == (True, "")
        await rig.fleet.retire(1, force=True)
        await rig.fleet.on_worker_lost(1)
        await rig.boots(2)
        assert list(rig.ended) == [1]

    async def test_only_the_chosen_machine_is_retired(self, rig):
        await rig.boots(1, 2)
        await rig.fleet.retire(1, force=False)
        assert (await rig.has_ended(1, rig.offer.release_s + 5)).expected
        await asyncio.sleep(1.0)
        assert list(rig.ended) == [1]
        assert await rig.is_same_process(2)

    async def test_loss_of_a_killed_machine_is_reported_and_it_can_be_replaced(self, rig):
        await rig.boots(1, 2)
        self.kill(rig, 1)
        ended = await rig.has_ended(1, self.lost_within_s)
        assert not ended.expected
        assert ended.reason
        await rig.boots(3)
        assert await rig.is_same_process(2)
        assert await rig.is_same_process(3)
        assert list(rig.ended) == [1]

    async def test_machine_can_be_retired_while_it_boots(self, rig):
        await rig.rent(1)
        await rig.fleet.retire(1, force=False)
        assert (await rig.has_ended(1, rig.offer.boot_s + rig.offer.release_s)).expected
        assert 1 not in rig.ready
        await rig.boots(2)

    async def test_machine_can_be_retired_while_it_is_rented(self, rig):
        renting = asyncio.ensure_future(rig.fleet.rent(1, rig.offer))
        await asyncio.sleep(0)
        await rig.fleet.retire(1, force=False)
        await renting
        assert (await rig.has_ended(1, rig.offer.boot_s + rig.offer.release_s)).expected

    async def test_hung_machine_is_retired_by_force(self, rig):
        await rig.boots(1)
        task = rig.gangs.connection.client.submit(time.sleep, 1000, workers=[rig.ready[1].address], pure=False)
        await asyncio.sleep(0.5)
        assert task.status == "pending"
        await rig.fleet.retire(1, force=True)
        assert (await rig.has_ended(1, rig.offer.release_s + 5)).expected
        await rig.boots(2)

    async def test_unusable_machine_is_reported_with_its_reason(self, rig):
        await rig.boots(1)
        await rig.fleet.discard(1, "it cannot be reached")
        ended = await rig.has_ended(1, rig.offer.release_s + 5)
        assert (ended.expected, ended.reason) == (False, "it cannot be reached")
        await rig.fleet.discard(1, "again")
        await rig.boots(2)

    async def test_machine_can_be_retired_twice(self, rig):
        await rig.boots(1)
        await asyncio.gather(rig.fleet.retire(1, force=False), rig.fleet.retire(1, force=True))
        await rig.fleet.retire(1, force=True)
        assert (await rig.has_ended(1, rig.offer.release_s + 5)).expected

    async def test_unknown_machines_are_ignored(self, rig):
        await rig.fleet.retire(77, force=False)
        await rig.fleet.retire(78, force=True)
        await rig.fleet.on_worker_lost(79)
        await rig.boots(1)
        assert not rig.ended

    async def test_closing_terminates_ready_and_booting_machines(self, given, home):
        rig = Rig(given, home / "study")
        await rig.open()
        await rig.boots(1)
        await rig.rent(2)
        await rig.close()
        await rig.until(lambda: not self.left(home), "the end of everything that the fleet started")
        assert {1, 2} <= rig.ended.keys()
