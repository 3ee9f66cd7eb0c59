"""Other clouds than EC2: dask-cloudprovider's own classes, on made-up packages of the clouds, launch and delete there.

What these packages really send was checked by hand; no machine of a real cloud was rented.
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
from tests.providers.cloud_kinds import CLOUDS, GPUS, SIZES, Books
from tests.providers.contract import DescribedTestCase
from tests.providers.fake_sdks import install


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def park(monkeypatch):
    for name in ("KNOCK_S", "UNSEEN_S", "LISTEN_S"):
        monkeypatch.setattr(fleet, name, 0.02)

    async def listens(address):
        return True

    monkeypatch.setattr(fleet, "listens", listens)
    return install(monkeypatch)


class TestDescriptions(DescribedTestCase):
    @pytest.fixture(params=CLOUDS)
    def given(self, request, home):
        return CLOUDS[request.param]()


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_machines_are_launched_as_asked_for_and_deleted(cloud, park, home):
    async with Books(home / "f", CLOUDS[cloud]()) as books:
        scheduler = await books.fleet.host(0, books.provider.host)
        inner, outer = ("10.0.0.1", "192.0.2.1") if cloud in {"gcp", "azure"} else ("192.0.2.1", "192.0.2.1")
        if cloud == "openstack":
            inner = "10.0.0.1"
        assert scheduler.address == f"tls://{outer}:8786"
        await books.rent(1)
        ident = vm_tls.load(home / "f").ident[:8]
        names = [f"seer-my-study-1-{ident}-0000{machine}" for machine in (0, 1)]
        assert list(park.machines) == names
        assert tuple(machine.size for machine in park.machines.values()) == SIZES[cloud]
        for name, role in zip(names, ("scheduler", "worker"), strict=True):
            check_user_data(park.machines[name].user_data, role, f"tls://{inner}:8786", cloud)
        await books.fleet.retire(1, force=False)
        ended = await books.has_ended(1)
        assert (ended.expected, ended.reason) == (True, "")
        assert 0 < ended.lived_s < 10
        assert list(park.machines) == names[:1]
        assert json.loads((home / "f" / fleet.FILE).read_bytes())[0]["machine"] == 0
        assert (home / "f" / fleet.FILE).stat().st_mode & 0o777 == 0o600
    assert books.ended.keys() == {0, 1}
    assert not park.machines
    assert not park.parts


def check_user_data(user_data, role, scheduler, cloud):
    commands = yaml.safe_load(user_data)["runcmd"]
    watch = next(n for n, command in enumerate(commands) if "nohup" in command)
    run = next(n for n, command in enumerate(commands) if command.startswith("docker run"))
    assert watch < run, "the watchdog begins before the container"
    assert commands[-1] == "shutdown -h now"
    words = shlex.split(commands[run])
    gpu = cloud in GPUS and role == "worker"
    assert ("--gpus=all" in words) == gpu
    assert any(word.startswith("SEER_LEASE=") for word in words)
    config = next(word for word in words if word.startswith("DASK_INTERNAL_INHERIT_CONFIG=")).partition("=")[2]
    tls = json.loads(base64.urlsafe_b64decode(config))["distributed"]["comm"]["tls"]
    assert set(tls) == {"ca-file", role}, "no more keys than it needs"
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
async def test_one_that_cannot_be_launched_costs_nothing(cloud, park, home):
    park.refusal = RuntimeError("SkuNotAvailable: none left")
    async with Books(home / "f", CLOUDS[cloud]()) as books:
        await books.rent(1)
        ended = await books.has_ended(1)
    assert (ended.expected, ended.scarce) == (False, True)
    # Azure's interface and address were there.
    assert (ended.lived_s == 0.0) == (cloud != "azure")
    assert "none left" in ended.reason
    assert not park.parts


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_one_that_breaks_when_it_was_made_is_deleted_and_billed(cloud, park, home):
    park.breaks = True
    async with Books(home / "f", CLOUDS[cloud]()) as books:
        await books.rent(1)
        ended = await books.has_ended(1)
        assert (ended.expected, ended.reason) == (False, "something broke then")
        assert ended.lived_s > 0
    assert not park.machines
    assert not park.parts


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_what_cannot_be_deleted_is_deleted_again(cloud, park, home, monkeypatch):
    monkeypatch.setattr(fleet, "AGAIN_S", 0.0)
    async with Books(home / "f", CLOUDS[cloud]()) as books:
        await books.rent(1)
        park.undeletable = 3
        await books.fleet.lost(1)
        ended = await books.has_ended(1)
        assert (ended.expected, ended.reason) == (False, "its worker left the scheduler")
        assert not park.machines


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_later_fleet_deletes_what_an_earlier_one_has_left(cloud, park, home):
    dead = Books(home / "f", CLOUDS[cloud]())
    await dead.rent(4)
    await dead.rent(12)
    async with Books(home / "f", CLOUDS[cloud]()) as books:
        assert await books.fleet.adopt([4, 12]) == Adopted(left=(4, 12))
        await books.rent(13)
        async with asyncio.timeout(10):
            while len(park.machines) > 1:  # noqa: ASYNC110 - the fleet deletes them
                await asyncio.sleep(0.01)
        (left,) = park.machines
        assert left.endswith("-00013")
        ended = [await books.has_ended(machine) for machine in (4, 12)]
        assert all(event.expected and 1.0 <= event.lived_s < 10 for event in ended)
    assert not park.parts
    dead.fleet._side.stop()


@pytest.mark.anyio
async def test_a_copy_of_a_study_deletes_none_of_the_machines_of_the_original(park, home):
    async with Books(home / "f", CLOUDS["hetzner"]()) as original:
        await original.rent(4)
        shutil.copytree(home / "f", home / "copy")
        async with Books(home / "copy", CLOUDS["hetzner"]()) as copy:
            assert await copy.fleet.adopt([4]) == Adopted()
            await copy.rent(5)
        assert copy.ended.keys() == {5}
        (left,) = park.machines
        assert left.endswith("-00004")
        assert not original.ended


@pytest.mark.anyio
async def test_what_an_earlier_one_has_left_is_deleted_however_late_the_cloud_can_be_reached(park, home, monkeypatch):
    dead = Books(home / "f", CLOUDS["hetzner"]())
    await dead.rent(4)
    # An hour ago, by the only clock that has gone on.
    noted = json.loads((home / "f" / fleet.FILE).read_bytes())
    noted[0]["rented"] -= 3600
    (home / "f" / fleet.FILE).write_text(json.dumps(noted))
    async with Books(home / "f", CLOUDS["hetzner"]()) as books:
        launcher, failures = books.provider.launcher, [OSError("no way there"), OSError("still none")]

        def late(study, file):
            if failures:
                raise failures.pop()
            return launcher(study, file)

        monkeypatch.setattr(books.provider, "launcher", late)
        assert await books.fleet.adopt([4]) == Adopted(left=(4,))
        ended = await books.has_ended(4)
        assert not failures
        assert 3600 <= ended.lived_s < 3700
        assert not park.machines
    assert json.loads((home / "f" / fleet.FILE).read_bytes()) == []
    dead.fleet._side.stop()


@pytest.mark.anyio
async def test_what_has_gone_before_a_later_one_has_come_may_have_lived_for_as_long_as_it_could(park, home):
    dead = Books(home / "f", CLOUDS["hetzner"]())
    await dead.rent(4)
    park.machines.clear()
    async with Books(home / "f", CLOUDS["hetzner"]()) as books:
        await books.fleet.adopt([])
        assert (await books.has_ended(4)).lived_s is None, "0 would say that there never was one"
    dead.fleet._side.stop()


@pytest.mark.anyio
async def test_what_could_not_be_deleted_is_told_and_noted(park, home, monkeypatch):
    monkeypatch.setattr(fleet.VMFleet, "end_timeout_s", 0.2)
    books = Books(home / "f", CLOUDS["hetzner"]())
    await books.rent(4)
    park.undeletable = 10**6
    assert await books.fleet.close() == (4,)
    assert [noted["machine"] for noted in json.loads((home / "f" / fleet.FILE).read_bytes())] == [4]
    assert not books.ended


@pytest.mark.anyio
async def test_the_scheduler_is_watched_whatever_a_look_has_raised(park, home, monkeypatch):
    async with Books(home / "f", CLOUDS["hetzner"]()) as books:
        await books.fleet.host(0, books.provider.host)
        odd = [RuntimeError("nobody has thought of that")]

        async def listens(address):
            if odd:
                raise odd.pop()
            return False

        monkeypatch.setattr(fleet, "listens", listens)
        monkeypatch.setattr(fleet, "DEAF_S", 0.1)
        assert "could not be reached" in (await books.has_ended(0)).reason


@pytest.mark.anyio
async def test_one_is_handed_back_while_it_is_launched(park, home):
    async with Books(home / "f", CLOUDS["hetzner"]()) as books:
        renting = asyncio.ensure_future(books.rent(1))
        await asyncio.sleep(0)
        await books.fleet.retire(1, force=False)
        await books.fleet.retire(1, force=True)
        await renting
        assert (await books.has_ended(1)).expected
    assert not park.machines


@pytest.mark.anyio
async def test_a_scheduler_that_is_not_reached_any_more_is_lost(park, home, monkeypatch):
    async with Books(home / "f", CLOUDS["hetzner"]()) as books:
        await books.fleet.host(0, books.provider.host)

        async def deaf(address):
            return False

        monkeypatch.setattr(fleet, "listens", deaf)
        monkeypatch.setattr(fleet, "DEAF_S", 0.1)
        ended = await books.has_ended(0)
        assert not ended.expected
        assert "could not be reached" in ended.reason
    assert not park.machines


@pytest.mark.anyio
async def test_labels_are_each_machines_own_and_the_location_is_passed_on(park, home):
    async with Books(home / "f", CLOUDS["gcp"](spot=True)) as books:
        await asyncio.gather(*(books.rent(machine) for machine in (1, 2)))
        bodies = [machine.body for machine in park.machines.values()]
        assert sorted(body["labels"]["seer-machine"] for body in bodies) == ["1", "2"]
        assert [body["scheduling"]["preemptible"] for body in bodies] == ["true", "true"]
        assert "SEER_SPOT" in next(iter(park.machines.values())).user_data
    provider = CLOUDS["hetzner"](network=7, interface="enp7s0", firewall=9)
    async with Books(home / "g", provider) as books:
        await books.rent(1)
        (machine,) = park.machines.values()
        assert machine.body["location"].name == "fsn1"
        assert [network.id for network in machine.body["networks"]] == [7]
        assert [firewall.id for firewall in machine.body["firewalls"]] == [9]
        assert '"interface":"enp7s0"' in machine.user_data


@pytest.mark.anyio
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_variables_arrive_whatever_is_in_them(cloud, park, home):
    env = {"ODD": 'it\'s $5 "x" `y` \\z', "LINES": "one\n two \n", "FOREIGN": "\xe9\u2028\U0001f600"}
    async with Books(home / "f", CLOUDS[cloud](env=env)) as books:
        await books.fleet.host(0, books.provider.host)
        await books.rent(1)
        for machine in park.machines.values():
            arrived = docker_line.variables(docker_line.told(machine.user_data, home))
            assert arrived.items() >= env.items()


@pytest.mark.anyio
async def test_an_interface_is_no_more_than_that(park, home):
    interface = "eth0' ; curl evil; '"
    async with Books(home / "f", CLOUDS["hetzner"](interface=interface)) as books:
        await books.rent(1)
        (machine,) = park.machines.values()
        spec = json.loads(docker_line.told(machine.user_data, home)[-1])
        assert spec["opts"]["interface"] == interface


@pytest.mark.anyio
async def test_variables_that_do_not_fit_are_refused(park, home):
    async with Books(home / "f", CLOUDS["hetzner"](env={"LONG": "x" * 40_000})) as books:
        await books.rent(1)
        ended = await books.has_ended(1)
    assert "bytes, but Hetzner takes 32768: give fewer or shorter variables in env=" in ended.reason
    assert ended.lived_s == 0.0
