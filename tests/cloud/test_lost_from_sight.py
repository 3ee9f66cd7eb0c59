"""EC2Fleet when EC2's answers are late, lost or unexpected: no machine runs on unnoticed."""

import asyncio

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.session import get_session
from dask_cloudprovider.aws.ec2 import EC2Instance

from seer_nb.providers.aws import api, fleet
from seer_nb.providers.aws.launcher import IDENT_TAG, MACHINE_TAG, STUDY_TAG
from seer_nb.providers.base import Adopted
from seer_nb.providers.vm import tls
from tests.support.loopback_fleets import living, numbered, provider
from tests.support.recorded_fleet import RecordedFleet
from tests.support.waiting import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(autouse=True)
def nothing_boots(cloud, monkeypatch):
    """Machines run and are billed, but start no processes; the fleet queries often."""
    cloud.faults.boot_s = 1000.0
    for name, value in {"FAST_POLL_S": 0.1, "SLOW_POLL_S": 0.1, "UNSEEN_TIMEOUT_S": 1.0}.items():
        monkeypatch.setattr(fleet, name, value)


def ec2(cloud):
    return get_session().create_client("ec2", region_name=cloud.environment["AWS_DEFAULT_REGION"])


def rent(recorded, of, machine):
    return recorded.fleet.rent(machine, of.offers()[0])


async def no_instances(*_):
    """Answer like EC2 with no instances."""
    return {}


async def test_machine_missing_from_one_answer_is_kept(cloud, home, monkeypatch):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        await until_async(lambda: recorded.fleet.rented[0].seen)
        with monkeypatch.context() as hidden:
            hidden.setattr(api, "study_instances", no_instances)
            await asyncio.sleep(0.5)
        assert not recorded.ended
        assert len(living(cloud)) == 1
        # Missing for good: then it is terminated by its id, to be sure.
        monkeypatch.setattr(api, "study_instances", no_instances)
        ended = await recorded.has_ended(0)
        assert not ended.expected
        assert ended.lived_s >= 1.0
        assert not living(cloud)


async def test_machine_unknown_to_ec2_is_reported(cloud, home, monkeypatch):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        recorded.fleet.rented[0].vm.instance = {"InstanceId": "i-0123456789abcdef0"}
        assert not (await recorded.has_ended(0)).expected
        await until_async(lambda: not living(cloud))


async def test_machine_with_an_unanswered_launch_is_found_and_billed(cloud, home, monkeypatch):
    async def configure_vm(self, client):
        self.instance = None
        raise ReadTimeoutError(endpoint_url="ec2")

    async def destroy_vm(self):
        """Do nothing: the object knows no instance."""

    monkeypatch.setattr(EC2Instance, "configure_vm", configure_vm)
    monkeypatch.setattr(EC2Instance, "destroy_vm", destroy_vm)
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        ended = await recorded.has_ended(0)
        assert not ended.expected
        assert "Read timeout" in ended.reason
        assert ended.lived_s >= 1.0
        assert [machine.state for machine in cloud.machines()] == ["terminated"]


async def test_machine_that_was_never_launched_costs_nothing(cloud, home, monkeypatch):
    async def create_vm(self):
        raise ReadTimeoutError(endpoint_url="ec2")

    monkeypatch.setattr(EC2Instance, "create_vm", create_vm)
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        assert not recorded.ended, "it may still appear"
        assert (await recorded.has_ended(0)).lived_s == 0.0


async def test_stray_instances_with_the_studys_tag_are_terminated(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
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
        assert not recorded.ended


async def test_closing_terminates_machines_in_all_phases_of_a_launch(cloud, home, monkeypatch):
    waiting = asyncio.Event()

    async def configure_vm(self, client):
        waiting.set()
        await asyncio.sleep(1000)

    monkeypatch.setattr(EC2Instance, "configure_vm", configure_vm)
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        launching = asyncio.create_task(rent(recorded, of, 0))
        await waiting.wait()
        asked = asyncio.create_task(rent(recorded, of, 1))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await recorded.fleet.close() == ()
        assert recorded.ended.keys() == {0, 1}
        assert all(event.expected for event in recorded.ended.values())
        assert not living(cloud)
        launching.cancel()
        asked.cancel()
        monkeypatch.setattr(recorded.fleet, "close", lambda: asyncio.sleep(0))


async def test_watcher_continues_after_any_exception(cloud, home, monkeypatch):
    async def fails(*_):
        raise RuntimeError("unexpected")

    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        with monkeypatch.context() as broken:
            broken.setattr(api, "study_instances", fails)
            await asyncio.sleep(0.5)
        cloud.lose(numbered(cloud, 0).instance_id)
        assert not (await recorded.has_ended(0)).expected


async def test_launch_that_fails_unexpectedly_is_reported(cloud, home, monkeypatch):
    monkeypatch.setattr("seer_nb.providers.aws.launcher.EC2Launcher.instance", lambda *_: {}["no such thing"])
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        ended = await recorded.has_ended(0)
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
async def test_account_limits_count_as_missing_capacity(code, cloud, home, monkeypatch):
    async def create_vm(self):
        raise ClientError({"Error": {"Code": code, "Message": "not now"}}, "RunInstances")

    monkeypatch.setattr(EC2Instance, "create_vm", create_vm)
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        ended = await recorded.has_ended(0)
        assert (ended.scarce, ended.lived_s) == (True, 0.0)


async def test_later_fleet_reports_lifetimes_of_machines_that_have_ended(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        await rent(recorded, of, 1)
        await until_async(lambda: all(rented.seen for rented in recorded.fleet.rented.values()))
        recorded.fleet.tasks.cancel()
        cloud.lose(numbered(cloud, 0).instance_id)
        async with RecordedFleet(home / "f", of) as later:
            assert await later.fleet.adopt([0, 1]) == Adopted(terminating=(1,))
            dead = numbered(cloud, 0)
            lived_s = max(1.0, (dead.ended - dead.launched).total_seconds())
            assert later.ended[0].lived_s == pytest.approx(lived_s, abs=1.1)
            assert (await later.has_ended(1)).expected
            assert not living(cloud)
        recorded.fleet.rented.clear()
