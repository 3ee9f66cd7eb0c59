"""Clouds other than EC2: dask-cloudprovider's classes launch and delete machines through fakes of the clouds' packages.

The requests of the real packages were checked by hand; no machine of a real cloud was rented.
"""

import asyncio
import base64
import json
import shlex
import shutil

import pytest
import yaml

from seer_nb.providers.base import Adopted
from seer_nb.providers.vm import fleet
from seer_nb.providers.vm import tls as vm_tls
from tests.providers import docker_line
from tests.providers.cloud_kinds import CLOUDS, GPU_CLOUDS, SIZES
from tests.providers.contract import DescribedTestCase
from tests.providers.fake_sdks import install
from tests.support.recorded_fleet import RecordedFleet
from tests.support.waiting import until_async


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def fake_cloud(monkeypatch):
    for name in ("POLL_S", "RECHECK_S", "SCHEDULER_POLL_S"):
        monkeypatch.setattr(fleet, name, 0.02)

    async def listens(address):
        return True

    monkeypatch.setattr(fleet, "is_listening", listens)
    return install(monkeypatch)


class TestDescriptions(DescribedTestCase):
    @pytest.fixture(params=CLOUDS)
    def given(self, request, home):
        return CLOUDS[request.param]()


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_machines_are_launched_as_requested_and_deleted(cloud, fake_cloud, home):
    async with RecordedFleet(home / "f", CLOUDS[cloud](), study="My Study_1") as recorded:
        scheduler = await recorded.fleet.boot_scheduler(0, recorded.provider.scheduler_offer)
        inner, outer = ("10.0.0.1", "192.0.2.1") if cloud in {"gcp", "azure"} else ("192.0.2.1", "192.0.2.1")
        if cloud == "openstack":
            inner = "10.0.0.1"
        assert scheduler.address == f"tls://{outer}:8786"
        await recorded.rent(1)
        ident = vm_tls.load(home / "f").ident[:8]
        names = [f"seer-my-study-1-{ident}-0000{machine}" for machine in (0, 1)]
        assert list(fake_cloud.machines) == names
        assert tuple(machine.size for machine in fake_cloud.machines.values()) == SIZES[cloud]
        for name, role in zip(names, ("scheduler", "worker"), strict=True):
            check_user_data(fake_cloud.machines[name].user_data, role, f"tls://{inner}:8786", cloud)
        await recorded.fleet.retire(1, force=False)
        ended = await recorded.has_ended(1)
        assert (ended.expected, ended.reason) == (True, "")
        assert 0 < ended.lived_s < 10
        assert list(fake_cloud.machines) == names[:1]
        assert json.loads((home / "f" / fleet.FILE).read_bytes())[0]["machine"] == 0
        assert (home / "f" / fleet.FILE).stat().st_mode & 0o777 == 0o600
    assert recorded.ended.keys() == {0, 1}
    assert not fake_cloud.machines
    assert not fake_cloud.parts


def check_user_data(user_data, role, scheduler, cloud):
    commands = yaml.safe_load(user_data)["runcmd"]
    watch = next(n for n, command in enumerate(commands) if "nohup" in command)
    run = next(n for n, command in enumerate(commands) if command.startswith("docker run"))
    assert watch < run, "the watchdog must start before the container"
    assert commands[-1] == "shutdown -h now"
    words = shlex.split(commands[run])
    gpu = cloud in GPU_CLOUDS and role == "worker"
    assert ("--gpus=all" in words) == gpu
    assert any(word.startswith("SEER_LEASE=") for word in words)
    config = next(word for word in words if word.startswith("DASK_INTERNAL_INHERIT_CONFIG=")).partition("=")[2]
    tls = json.loads(base64.urlsafe_b64decode(config))["distributed"]["comm"]["tls"]
    assert set(tls) == {"ca-file", role}, "only the keys of its role"
    assert "secret" not in user_data
    program = words[words.index("python") + 2]
    if role == "scheduler":
        assert program == "distributed.cli.dask_scheduler"
        assert words[-2:] == ["--dashboard-address", "127.0.0.1:0"]
        return
    assert program == "distributed.cli.dask_spec"
    assert scheduler in words
    spec = json.loads(words[words.index("--spec") + 1])
    assert spec["cls"] == "distributed.Worker"
    assert spec["opts"]["name"] == "1.0"
    assert spec["opts"]["nthreads"] == 1
    assert spec["opts"]["dashboard_address"] == "127.0.0.1:0"
    assert spec["opts"].get("interface") == ("eth1" if cloud == "digitalocean" else None)


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_machine_that_cannot_be_launched_costs_nothing(cloud, fake_cloud, home):
    fake_cloud.refusal = RuntimeError("SkuNotAvailable: none left")
    async with RecordedFleet(home / "f", CLOUDS[cloud]()) as recorded:
        await recorded.rent(1)
        ended = await recorded.has_ended(1)
    assert (ended.expected, ended.scarce) == (False, True)
    # Azure's interface and address existed.
    assert (ended.lived_s == 0.0) == (cloud != "azure")
    assert "none left" in ended.reason
    assert not fake_cloud.parts


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_machine_whose_creation_fails_late_is_deleted_and_billed(cloud, fake_cloud, home):
    fake_cloud.breaks = True
    async with RecordedFleet(home / "f", CLOUDS[cloud]()) as recorded:
        await recorded.rent(1)
        ended = await recorded.has_ended(1)
        assert (ended.expected, ended.reason) == (False, "creation failed late")
        assert ended.lived_s > 0
    assert not fake_cloud.machines
    assert not fake_cloud.parts


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_failed_deletion_is_repeated(cloud, fake_cloud, home, monkeypatch):
    monkeypatch.setattr(fleet, "DELETE_AGAIN_S", 0.0)
    async with RecordedFleet(home / "f", CLOUDS[cloud]()) as recorded:
        await recorded.rent(1)
        fake_cloud.undeletable = 3
        await recorded.fleet.on_worker_lost(1)
        ended = await recorded.has_ended(1)
        assert (ended.expected, ended.reason) == (False, "its worker left the scheduler")
        assert not fake_cloud.machines


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_later_fleet_deletes_the_machines_of_an_earlier_one(cloud, fake_cloud, home):
    dead = RecordedFleet(home / "f", CLOUDS[cloud]())
    await dead.rent(4)
    await dead.rent(12)
    async with RecordedFleet(home / "f", CLOUDS[cloud]()) as recorded:
        assert await recorded.fleet.adopt([4, 12]) == Adopted(terminating=(4, 12))
        await recorded.rent(13)
        await until_async(lambda: len(fake_cloud.machines) == 1, "the deletion of the earlier machines")
        (left,) = fake_cloud.machines
        assert left.endswith("-00013")
        ended = [await recorded.has_ended(machine) for machine in (4, 12)]
        assert all(event.expected and 1.0 <= event.lived_s < 10 for event in ended)
    assert not fake_cloud.parts
    dead.fleet.side_loop.stop()


@pytest.mark.anyio
async def test_copy_of_a_study_deletes_no_machines_of_the_original(fake_cloud, home):
    async with RecordedFleet(home / "f", CLOUDS["hetzner"]()) as original:
        await original.rent(4)
        shutil.copytree(home / "f", home / "copy")
        async with RecordedFleet(home / "copy", CLOUDS["hetzner"]()) as copy:
            assert await copy.fleet.adopt([4]) == Adopted()
            await copy.rent(5)
        assert copy.ended.keys() == {5}
        (left,) = fake_cloud.machines
        assert left.endswith("-00004")
        assert not original.ended


@pytest.mark.anyio
async def test_earlier_machines_are_deleted_when_the_cloud_is_reachable_again(fake_cloud, home, monkeypatch):
    dead = RecordedFleet(home / "f", CLOUDS["hetzner"]())
    await dead.rent(4)
    # An hour ago by the wall clock, the only clock that runs on between runners.
    noted = json.loads((home / "f" / fleet.FILE).read_bytes())
    noted[0]["rented"] -= 3600
    (home / "f" / fleet.FILE).write_text(json.dumps(noted))
    async with RecordedFleet(home / "f", CLOUDS["hetzner"]()) as recorded:
        launcher, failures = recorded.provider.launcher, [OSError("no route"), OSError("still no route")]

        def late(study, file):
            if failures:
                raise failures.pop()
            return launcher(study, file)

        monkeypatch.setattr(recorded.provider, "launcher", late)
        assert await recorded.fleet.adopt([4]) == Adopted(terminating=(4,))
        ended = await recorded.has_ended(4)
        assert not failures
        assert 3600 <= ended.lived_s < 3700
        assert not fake_cloud.machines
    assert json.loads((home / "f" / fleet.FILE).read_bytes()) == []
    dead.fleet.side_loop.stop()


@pytest.mark.anyio
async def test_lifetime_is_unknown_if_an_earlier_machine_is_gone(fake_cloud, home):
    dead = RecordedFleet(home / "f", CLOUDS["hetzner"]())
    await dead.rent(4)
    fake_cloud.machines.clear()
    async with RecordedFleet(home / "f", CLOUDS["hetzner"]()) as recorded:
        await recorded.fleet.adopt([])
        assert (await recorded.has_ended(4)).lived_s is None, "0 would mean that it never existed"
    dead.fleet.side_loop.stop()


@pytest.mark.anyio
async def test_machines_that_were_not_deleted_are_returned_and_recorded(fake_cloud, home, monkeypatch):
    monkeypatch.setattr(fleet.VMFleet, "end_timeout_s", 0.2)
    recorded = RecordedFleet(home / "f", CLOUDS["hetzner"]())
    await recorded.rent(4)
    fake_cloud.undeletable = 10**6
    assert await recorded.fleet.close() == (4,)
    assert [noted["machine"] for noted in json.loads((home / "f" / fleet.FILE).read_bytes())] == [4]
    assert not recorded.ended


@pytest.mark.anyio
async def test_watch_of_the_scheduler_continues_after_any_exception(fake_cloud, home, monkeypatch):
    async with RecordedFleet(home / "f", CLOUDS["hetzner"]()) as recorded:
        await recorded.fleet.boot_scheduler(0, recorded.provider.scheduler_offer)
        errors = [RuntimeError("unexpected")]

        async def listens(address):
            if errors:
                raise errors.pop()
            return False

        monkeypatch.setattr(fleet, "is_listening", listens)
        monkeypatch.setattr(fleet, "SCHEDULER_TIMEOUT_S", 0.1)
        assert "could not be reached" in (await recorded.has_ended(0)).reason


@pytest.mark.anyio
async def test_machine_can_be_retired_during_its_launch(fake_cloud, home):
    async with RecordedFleet(home / "f", CLOUDS["hetzner"]()) as recorded:
        renting = asyncio.ensure_future(recorded.rent(1))
        await asyncio.sleep(0)
        await recorded.fleet.retire(1, force=False)
        await recorded.fleet.retire(1, force=True)
        await renting
        assert (await recorded.has_ended(1)).expected
    assert not fake_cloud.machines


@pytest.mark.anyio
async def test_unreachable_scheduler_is_lost(fake_cloud, home, monkeypatch):
    async with RecordedFleet(home / "f", CLOUDS["hetzner"]()) as recorded:
        await recorded.fleet.boot_scheduler(0, recorded.provider.scheduler_offer)

        async def unreachable(address):
            return False

        monkeypatch.setattr(fleet, "is_listening", unreachable)
        monkeypatch.setattr(fleet, "SCHEDULER_TIMEOUT_S", 0.1)
        ended = await recorded.has_ended(0)
        assert not ended.expected
        assert "could not be reached" in ended.reason
    assert not fake_cloud.machines


@pytest.mark.anyio
async def test_each_machine_has_its_own_labels_and_options_are_passed_on(fake_cloud, home):
    async with RecordedFleet(home / "f", CLOUDS["gcp"](spot=True)) as recorded:
        await asyncio.gather(*(recorded.rent(machine) for machine in (1, 2)))
        bodies = [machine.body for machine in fake_cloud.machines.values()]
        assert sorted(body["labels"]["seer-machine"] for body in bodies) == ["1", "2"]
        assert [body["scheduling"]["preemptible"] for body in bodies] == ["true", "true"]
        assert "SEER_SPOT" in next(iter(fake_cloud.machines.values())).user_data
    provider = CLOUDS["hetzner"](network=7, interface="enp7s0", firewall=9)
    async with RecordedFleet(home / "g", provider) as recorded:
        await recorded.rent(1)
        (machine,) = fake_cloud.machines.values()
        assert machine.body["location"].name == "fsn1"
        assert [network.id for network in machine.body["networks"]] == [7]
        assert [firewall.id for firewall in machine.body["firewalls"]] == [9]
        assert '"interface":"enp7s0"' in machine.user_data


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_variables_reach_the_container_unchanged(cloud, fake_cloud, home):
    env = {"ODD": 'it\'s $5 "x" `y` \\z', "LINES": "one\n two \n", "FOREIGN": "\xe9\u2028\U0001f600"}
    async with RecordedFleet(home / "f", CLOUDS[cloud](env=env)) as recorded:
        await recorded.fleet.boot_scheduler(0, recorded.provider.scheduler_offer)
        await recorded.rent(1)
        for machine in fake_cloud.machines.values():
            arrived = docker_line.container_variables(docker_line.docker_arguments(machine.user_data, home))
            assert arrived.items() >= env.items()


@pytest.mark.anyio
async def test_interface_cannot_inject_commands(fake_cloud, home):
    interface = "eth0' ; curl evil; '"
    async with RecordedFleet(home / "f", CLOUDS["hetzner"](interface=interface)) as recorded:
        await recorded.rent(1)
        (machine,) = fake_cloud.machines.values()
        spec = json.loads(docker_line.docker_arguments(machine.user_data, home)[-1])
        assert spec["opts"]["interface"] == interface


@pytest.mark.anyio
async def test_variables_that_do_not_fit_are_refused(fake_cloud, home):
    async with RecordedFleet(home / "f", CLOUDS["hetzner"](env={"LONG": "x" * 40_000})) as recorded:
        await recorded.rent(1)
        ended = await recorded.has_ended(1)
    assert "bytes, but Hetzner accepts 32768: give fewer or shorter variables in env=" in ended.reason
    assert ended.lived_s == 0.0
