"""What all fleets have in common, on one whose cloud does as it is told, and the clocks and files that they use."""

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
from seer_nb.providers._fleet import MachineFleet, Rented
from seer_nb.providers.base import FleetContext
from seer_nb.providers.local import LocalFleet, Worker
from seer_nb.providers.vm import bootstrap

OFFER = Offer(name="one", price_per_hour=1)


class Obedient(MachineFleet[Rented]):
    """Its machines are launched when the test says so, and end at once unless they are stubborn."""

    end_timeout_s = 0.2

    def __init__(self, folder):
        self.ended = []
        super().__init__(FleetContext(study="s", folder=folder, lease_s=30.0, ended=self.ended.append), Rented)
        self.launched, self.error, self.stubborn, self.told = asyncio.Event(), None, False, []

    async def open(self):
        """Nothing is needed."""

    async def _launch(self, machine, rented, offer):
        await self.launched.wait()
        if self.error:
            raise self.error

    async def _end(self, machine, rented, *, force):
        self.told.append(machine)
        if not rented.launching and not self.stubborn:
            self._ended(machine, lived_s=rented.lived_s())

    async def _shut(self):
        """Nothing is left."""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def fleet(tmp_path):
    return Obedient(tmp_path)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [KeyError("what nobody has thought of"), OSError("no way there")])
async def test_a_launch_that_fails_in_whatever_way_is_reported_once(fleet, error):
    fleet.launched.set()
    fleet.error = error
    await fleet.rent(1, OFFER)
    await fleet.retire(1, force=True)
    await fleet.lost(1)
    (ended,) = fleet.ended
    assert (ended.machine, ended.expected, ended.reason) == (1, False, str(error))
    assert not fleet._rented, "it would take a later machine's place"


@pytest.mark.anyio
async def test_one_that_is_told_to_go_while_it_is_launched_ends_when_that_is_over(fleet):
    renting = asyncio.ensure_future(fleet.rent(1, OFFER))
    await asyncio.sleep(0)
    await fleet.retire(1, force=False)
    assert not fleet.ended
    fleet.launched.set()
    await renting
    assert [(ended.machine, ended.expected) for ended in fleet.ended] == [(1, True)]


@pytest.mark.anyio
async def test_who_is_given_up_is_reported_with_the_reason_by_the_fleet_alone(fleet):
    fleet.launched.set()
    await fleet.rent(1, OFFER)
    await fleet.give_up(1, "its scheduler lets nobody in")
    await fleet.give_up(1, "once more")
    await fleet.give_up(2, "unknown")
    assert [(ended.expected, ended.reason) for ended in fleet.ended] == [(False, "its scheduler lets nobody in")]
    assert fleet.ended[0].lived_s >= 1.0, "it was there"


@pytest.mark.anyio
async def test_closing_waits_for_launches(fleet):
    renting = asyncio.ensure_future(fleet.rent(1, OFFER))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.05, fleet.launched.set)
    assert await fleet.close() == ()
    assert [ended.machine for ended in fleet.ended] == [1]
    await renting


@pytest.mark.anyio
async def test_closing_does_not_wait_forever_and_says_what_may_live_on(fleet):
    fleet.launched.set()
    await fleet.rent(2, OFFER)
    fleet.stubborn = True
    assert await fleet.close() == (2,)
    assert not fleet.ended, "nobody knows whether it has ended"


@pytest.mark.anyio
async def test_nothing_is_launched_any_more_while_the_fleet_closes_or_after_it(fleet):
    """A runner that hands all back may have had a rent still to be performed in that turn of the loop."""
    fleet.launched.set()
    await fleet.rent(0, OFFER)
    renting = asyncio.ensure_future(fleet.rent(1, OFFER))
    assert await fleet.close() == ()
    await renting
    await fleet.rent(2, OFFER)
    assert sorted((ended.machine, ended.expected) for ended in fleet.ended) == [(0, True), (1, True), (2, True)]
    assert [ended.lived_s for ended in fleet.ended if ended.machine] == [0.0, 0.0], "they were never asked for"
    assert not fleet._rented


@pytest.mark.anyio
async def test_each_worker_has_a_gpu_of_its_own(tmp_path):
    fleet = LocalFleet(FleetContext(study="s", folder=tmp_path, lease_s=30.0, ended=lambda _: None), ("3", "GPU-7b"))

    def begin(machine):
        fleet._rented[machine] = Worker()
        return fleet._environment(fleet._rented[machine])["CUDA_VISIBLE_DEVICES"]

    assert [begin(0), begin(1)] == ["3", "GPU-7b"]
    del fleet._rented[1]
    assert begin(2) == "GPU-7b"
    del fleet._rented[0]
    assert begin(3) == "3", "the other one is machine 2's, whatever its number is"
    assert sorted([begin(4), begin(5)]) == ["3", "GPU-7b"], "more workers than GPUs share them evenly"


class Sleeper:
    """A process as multiprocessing has it, which does nothing."""

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
@pytest.mark.parametrize("error", [OSError("no space left"), KeyError("what nobody has thought of")])
async def test_a_worker_that_is_there_is_reported_when_it_ends_though_it_could_not_be_noted(
    tmp_path, monkeypatch, error
):
    def fails(_):
        raise error

    ended = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(local, "spawner", lambda: SimpleNamespace(Process=Sleeper))
    fleet = LocalFleet(FleetContext(study="s", folder=tmp_path, lease_s=30.0, ended=ended.set_result), ())
    fleet._scheduler = SimpleNamespace(address="tls://127.0.0.1:1")
    monkeypatch.setattr(fleet._pids, "add", fails)
    await fleet.rent(1, OFFER)
    end = await asyncio.wait_for(ended, 10)
    assert (end.machine, end.expected, end.reason) == (1, False, str(error))
    assert not fleet._rented


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the others count no time in which they are suspended")
def test_lives_go_on_while_the_computer_is_suspended():
    assert steady_s() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1.0)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old", private=True)
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes", private=True)
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new", private=True)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="machines run Linux")
def test_a_machine_that_hears_of_no_runner_ends_so_long_after_its_boot(tmp_path):
    lease, ended = tmp_path / "run" / "lease", tmp_path / "ended"

    def begin(boot_lease_s, **environment):
        command = bootstrap.command(boot_lease_s, str(lease), f"touch {ended}; exit")
        subprocess.run(["sh", "-c", command], check=True, env=environment)

    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    # Docker's installation and all else before this command is part of the boot.
    begin(now_s - 100)
    assert int(lease.read_text()) == round(now_s - 100)
    began_s = time.monotonic()
    while not ended.exists():
        assert time.monotonic() < began_s + 10
        time.sleep(0.1)
    begin(600, SEER_BOOT="1000")
    assert lease.read_text() == "1600\n"
    lease.write_text("0")
