"""The fleet on EC2 when EC2's answers are late, lost, or not what was thought of: nothing lives on unseen."""

import asyncio

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.session import get_session
from dask_cloudprovider.aws.ec2 import EC2Instance

from seer_nb.providers.aws import api, fleet
from seer_nb.providers.aws.launcher import IDENT_TAG, MACHINE_TAG, STUDY_TAG
from seer_nb.providers.base import Adopted
from seer_nb.providers.vm import tls
from tests.support.loopback_fleets import living, numbered, opened, provider
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nothing_boots(cloud, monkeypatch):
    """Machines run, and are billed, but no process of theirs ever begins; the fleet looks often."""
    cloud.faults.boot_s = 1000.0
    for name, value in {"SOON_S": 0.1, "LATER_S": 0.1, "UNSEEN_S": 1.0}.items():
        monkeypatch.setattr(fleet, name, value)


def ec2(cloud):
    return get_session().create_client("ec2", region_name=cloud.environment["AWS_DEFAULT_REGION"])


def rent(books, of, machine):
    return books.fleet.rent(machine, of.offers()[0])


async def blind(*_):
    """EC2 describes nothing."""
    return {}


async def test_one_that_is_missing_from_an_answer_is_neither_ended_nor_forgotten(cloud, home, monkeypatch):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        await until_async(lambda: books.fleet._rented[0].seen)
        with monkeypatch.context() as hidden:
            hidden.setattr(api, "of_study", blind)
            await asyncio.sleep(0.5)
        assert not books.ended
        assert len(living(cloud)) == 1
        # For good: then it is ended for certain, wherever it is.
        monkeypatch.setattr(api, "of_study", blind)
        ended = await books.has_ended(0)
        assert not ended.expected
        assert ended.lived_s >= 1.0
        assert not living(cloud)


async def test_one_that_ec2_knows_no_more_is_reported(cloud, home, monkeypatch):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        books.fleet._rented[0].vm.instance = {"InstanceId": "i-0123456789abcdef0"}
        assert not (await books.has_ended(0)).expected
        await until_async(lambda: not living(cloud))


async def test_one_whose_launch_was_not_answered_is_found_ended_and_billed(cloud, home, monkeypatch):
    async def configure_vm(self, client):
        self.instance = None
        raise ReadTimeoutError(endpoint_url="ec2")

    async def destroy_vm(self):
        """There is nothing that it knows of."""

    monkeypatch.setattr(EC2Instance, "configure_vm", configure_vm)
    monkeypatch.setattr(EC2Instance, "destroy_vm", destroy_vm)
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        ended = await books.has_ended(0)
        assert not ended.expected
        assert "Read timeout" in ended.reason
        assert ended.lived_s >= 1.0
        assert [machine.state for machine in cloud.machines()] == ["terminated"]


async def test_one_whose_launch_was_not_answered_and_that_never_was_costs_nothing(cloud, home, monkeypatch):
    async def create_vm(self):
        raise ReadTimeoutError(endpoint_url="ec2")

    monkeypatch.setattr(EC2Instance, "create_vm", create_vm)
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        assert not books.ended, "it may come to light"
        assert (await books.has_ended(0)).lived_s == 0.0


async def test_whatever_bears_the_studys_tag_and_is_no_machine_of_it_is_ended(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        tags = {STUDY_TAG: "study", IDENT_TAG: tls.load(home / "f").ident, MACHINE_TAG: "7"}
        ec2(cloud).run_instances(
            ImageId=cloud.ami,
            InstanceType="m5.large",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            ],
        )
        assert len(living(cloud)) == 2
        await until_async(lambda: len(living(cloud)) == 1)
        assert living(cloud)[0].tags[MACHINE_TAG] == "0"
        await asyncio.sleep(0.3)
        assert not books.ended


async def test_closing_ends_one_that_waits_for_its_address_and_one_that_is_just_asked_for(cloud, home, monkeypatch):
    waiting = asyncio.Event()

    async def configure_vm(self, client):
        waiting.set()
        await asyncio.sleep(1000)

    monkeypatch.setattr(EC2Instance, "configure_vm", configure_vm)
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        launching = asyncio.create_task(rent(books, of, 0))
        await waiting.wait()
        asked = asyncio.create_task(rent(books, of, 1))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await books.fleet.close() == ()
        assert books.ended.keys() == {0, 1}
        assert all(event.expected for event in books.ended.values())
        assert not living(cloud)
        launching.cancel()
        asked.cancel()
        monkeypatch.setattr(books.fleet, "close", lambda: asyncio.sleep(0))


async def test_the_watcher_goes_on_whatever_a_look_has_raised(cloud, home, monkeypatch):
    async def odd(*_):
        raise RuntimeError("nobody has thought of that")

    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        with monkeypatch.context() as broken:
            broken.setattr(api, "of_study", odd)
            await asyncio.sleep(0.5)
        cloud.lose(numbered(cloud, 0).instance_id)
        assert not (await books.has_ended(0)).expected


async def test_a_launch_that_fails_in_an_unknown_way_is_reported(cloud, home, monkeypatch):
    monkeypatch.setattr("seer_nb.providers.aws.launcher.Launcher.worker", lambda *_: {}["no such thing"])
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        ended = await books.has_ended(0)
        assert (ended.expected, ended.lived_s, ended.scarce) == (False, 0.0, False)


@pytest.mark.parametrize(
    "code",
    [
        "VcpuLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "RequestLimitExceeded",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientInstanceCapacity",
    ],
)
async def test_limits_of_the_account_are_no_fault_of_the_study(code, cloud, home, monkeypatch):
    async def create_vm(self):
        raise ClientError({"Error": {"Code": code, "Message": "not now"}}, "RunInstances")

    monkeypatch.setattr(EC2Instance, "create_vm", create_vm)
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        ended = await books.has_ended(0)
        assert (ended.scarce, ended.lived_s) == (True, 0.0)


async def test_a_later_fleet_says_how_long_machines_have_lived_that_have_ended_since(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        await rent(books, of, 1)
        await until_async(lambda: all(rented.seen for rented in books.fleet._rented.values()))
        books.fleet._tasks.cancel()
        cloud.lose(numbered(cloud, 0).instance_id)
        async with opened(home / "f", of) as later:
            assert await later.fleet.adopt([0, 1]) == Adopted(left=(1,))
            dead = numbered(cloud, 0)
            lived_s = max(1.0, (dead.ended - dead.launched).total_seconds())
            assert later.ended[0].lived_s == pytest.approx(lived_s, abs=1.1)
            assert (await later.has_ended(1)).expected
            assert not living(cloud)
        books.fleet._rented.clear()
