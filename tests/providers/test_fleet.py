"""The base class of fleets, on a fleet that the test controls; and the clocks and files that fleets use."""

import asyncio
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from seer_nb._utils.clock import steady_s
from seer_nb._utils.files import write_atomically
from seer_nb.core.money import Offer
from seer_nb.providers import local
from seer_nb.providers._fleet import MachineFleet, RentedMachine
from seer_nb.providers.base import FleetContext
from seer_nb.providers.local import LocalFleet, WorkerProcess
from seer_nb.providers.vm import bootstrap
from tests.support.waiting import until

OFFER = Offer(name="one", price_per_hour_micro=1)


class ControlledFleet(MachineFleet[RentedMachine]):
    """Launches wait for ``launched``; machines terminate at once unless ``stubborn`` is set."""

    end_timeout_s = 0.2

    def __init__(self, folder):
        self.ended = []
        super().__init__(
            FleetContext(study="s", folder=folder, lease_s=30.0, on_ended=self.ended.append), RentedMachine
        )
        self.launched, self.error, self.stubborn = asyncio.Event(), None, False

    async def open(self):
        """Do nothing."""

    async def _launch(self, machine, rented, offer):
        await self.launched.wait()
        if self.error:
            raise self.error

    async def _end(self, machine, rented, *, force):
        if not rented.launching and not self.stubborn:
            self.report_ended(machine, lived_s=rented.lived_s())

    async def _clean_up(self):
        """Do nothing."""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def fleet(tmp_path):
    return ControlledFleet(tmp_path)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [KeyError("unexpected"), OSError("no route")])
async def test_failed_launch_is_reported_once(fleet, error):
    fleet.launched.set()
    fleet.error = error
    await fleet.rent(1, OFFER)
    await fleet.retire(1, force=True)
    await fleet.on_worker_lost(1)
    (ended,) = fleet.ended
    assert (ended.machine, ended.expected, ended.reason) == (1, False, str(error))
    assert not fleet.rented, "it would count as a machine until the end"


@pytest.mark.anyio
async def test_machine_retired_during_its_launch_ends_after_the_launch(fleet):
    renting = asyncio.ensure_future(fleet.rent(1, OFFER))
    await asyncio.sleep(0)
    await fleet.retire(1, force=False)
    assert not fleet.ended
    fleet.launched.set()
    await renting
    assert [(ended.machine, ended.expected) for ended in fleet.ended] == [(1, True)]


@pytest.mark.anyio
async def test_unusable_machine_is_reported_once_with_its_reason(fleet):
    fleet.launched.set()
    await fleet.rent(1, OFFER)
    await fleet.discard(1, "its scheduler refuses connections")
    await fleet.discard(1, "again")
    assert [(ended.expected, ended.reason) for ended in fleet.ended] == [(False, "its scheduler refuses connections")]
    assert fleet.ended[0].lived_s >= 1.0, "it existed, so it is billed"


@pytest.mark.anyio
async def test_a_machine_without_a_record_ends_when_it_is_discarded(fleet):
    await fleet.discard(2, "rent raised")
    assert [(ended.machine, ended.reason, ended.lived_s) for ended in fleet.ended] == [(2, "rent raised", None)]


@pytest.mark.anyio
async def test_closing_waits_for_launches(fleet):
    renting = asyncio.ensure_future(fleet.rent(1, OFFER))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.05, fleet.launched.set)
    assert await fleet.close() == ()
    assert [ended.machine for ended in fleet.ended] == [1]
    await renting


@pytest.mark.anyio
async def test_closing_times_out_and_returns_machines_that_may_live_on(fleet):
    fleet.launched.set()
    await fleet.rent(2, OFFER)
    fleet.stubborn = True
    assert await fleet.close() == (2,)
    assert not fleet.ended, "it is unknown whether it has terminated"


@pytest.mark.anyio
async def test_nothing_is_launched_while_the_fleet_closes_or_afterwards(fleet):
    """A runner that retires all machines may have a rent scheduled in the same iteration of the loop."""
    fleet.launched.set()
    await fleet.rent(0, OFFER)
    renting = asyncio.ensure_future(fleet.rent(1, OFFER))
    assert await fleet.close() == ()
    await renting
    await fleet.rent(2, OFFER)
    assert sorted((ended.machine, ended.expected) for ended in fleet.ended) == [(0, True), (1, True), (2, True)]
    assert [ended.lived_s for ended in fleet.ended if ended.machine] == [0.0, 0.0], "they were never launched"
    assert not fleet.rented


@pytest.mark.anyio
async def test_each_worker_gets_its_own_gpu(tmp_path):
    fleet = LocalFleet(FleetContext(study="s", folder=tmp_path, lease_s=30.0, on_ended=lambda _: None), ("3", "GPU-7b"))

    def assign(machine):
        fleet.rented[machine] = WorkerProcess()
        return fleet.assign_environment(fleet.rented[machine])["CUDA_VISIBLE_DEVICES"]

    assert [assign(0), assign(1)] == ["3", "GPU-7b"]
    del fleet.rented[1]
    assert assign(2) == "GPU-7b"
    del fleet.rented[0]
    assert assign(3) == "3", "machine 2 uses the other one"
    assert sorted([assign(4), assign(5)]) == ["3", "GPU-7b"], "more workers than GPUs share them evenly"


class Sleeper:
    """A process with the interface of multiprocessing that only sleeps."""

    exitcode = -9

    def __init__(self, **_):
        self.sentinel, self._end = os.pipe()

    def start(self):
        command = [sys.executable, "-c", "import time; time.sleep(100)"]
        self._child = subprocess.Popen(command, start_new_session=True, pass_fds=[self._end])
        os.close(self._end)
        self.pid = self._child.pid

    def join(self):
        self._child.wait()

    def kill(self):
        self._child.kill()

    def close(self):
        os.close(self.sentinel)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [OSError("no space left"), KeyError("unexpected")])
async def test_end_of_a_worker_is_reported_even_if_it_was_not_recorded(tmp_path, monkeypatch, error):
    def fails(_):
        raise error

    ended = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(local, "process_context", lambda: SimpleNamespace(Process=Sleeper))
    fleet = LocalFleet(FleetContext(study="s", folder=tmp_path, lease_s=30.0, on_ended=ended.set_result), ())
    fleet.scheduler = SimpleNamespace(address="tls://127.0.0.1:1")
    monkeypatch.setattr(fleet.pids, "add", fails)
    await fleet.rent(1, OFFER)
    end = await asyncio.wait_for(ended, 10)
    assert (end.machine, end.expected, end.reason) == (1, False, str(error))
    assert not fleet.rented


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="clocks of other systems stop while suspended")
def test_steady_clock_runs_while_the_computer_is_suspended():
    assert steady_s() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1.0)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old", private=True)
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes", private=True)
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new", private=True)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="machines run Linux")
def test_machine_without_a_runner_terminates_after_its_boot_lease(tmp_path):
    lease, ended = tmp_path / "run" / "lease", tmp_path / "ended"

    def start_watchdog(boot_lease_s, **environment):
        command = bootstrap.lease_watchdog_command(boot_lease_s, str(lease), f"touch {ended}; exit")
        subprocess.run(["sh", "-c", command], check=True, env=environment)

    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    # The installation of Docker and everything else before this command is part of the boot.
    start_watchdog(now_s - 100)
    assert int(lease.read_text()) == round(now_s - 100)
    until(ended.exists, "the end of the machine", within_s=10)
    start_watchdog(600, SEER_BOOT="1000")
    assert lease.read_text() == "1600\n"
    lease.write_text("0")
