"""EC2Fleet without a study: launches, terminations, reports, and what it leaves behind."""

import asyncio
import json
import shutil

import pytest
from botocore.session import get_session

from seer_nb.providers.aws.launcher import IDENT_TAG, STUDY_TAG, USER_DATA_LIMIT
from seer_nb.providers.base import Adopted
from seer_nb.providers.vm import tls
from tests.support.loopback_fleets import living, numbered, provider
from tests.support.recorded_fleet import RecordedFleet
from tests.support.waiting import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(autouse=True)
def nothing_boots(cloud):
    """Machines run and are billed, but start no processes: only the fleet is tested."""
    cloud.faults.boot_s = 1000.0


def ec2(cloud):
    return get_session().create_client("ec2", region_name=cloud.environment["AWS_DEFAULT_REGION"])


async def rented(recorded, of, *machines):
    (offer, *_) = of.offers()
    await asyncio.gather(*(recorded.fleet.rent(machine, offer) for machine in machines))


async def test_machine_is_tagged_and_its_lifetime_reported(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 3)
        machine = numbered(cloud, 3)
        assert machine.state == "running"
        assert machine.tags[STUDY_TAG] == "study"
        assert machine.tags[IDENT_TAG] == tls.load(home / "f").ident
        await recorded.fleet.retire(3, force=False)
        ended = await recorded.has_ended(3)
    machine = numbered(cloud, 3)
    assert (ended.expected, ended.reason) == (True, "")
    assert ended.lived_s == pytest.approx((machine.ended - machine.launched).total_seconds(), abs=1.1)


async def test_chosen_machine_terminates_while_others_boot(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0, 1)
        booting = asyncio.create_task(rented(recorded, of, 2))
        await recorded.fleet.retire(0, force=False)
        assert (await recorded.has_ended(0, within_s=3.0)).expected
        await booting
        assert {machine.tags["seer:machine"] for machine in living(cloud)} == {"1", "2"}
        assert list(recorded.ended) == [0]


async def test_machine_retired_before_its_launch_ends_at_once(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        launching = asyncio.create_task(recorded.fleet.rent(0, of.offers()[0]))
        await asyncio.sleep(0)
        await recorded.fleet.retire(0, force=False)
        await launching
        assert (await recorded.has_ended(0)).expected
    assert not living(cloud)


async def test_missing_capacity_is_reported_at_once_and_costs_nothing(cloud, home):
    cloud.faults.capacity["m5.large"] = 1
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0)
        ended = await recorded.has_ended(0, within_s=2.0)
        assert (ended.expected, ended.lived_s, ended.scarce) == (False, 0.0, True)
        assert "InsufficientInstanceCapacity" in ended.reason
        assert not cloud.machines()
        await rented(recorded, of, 1)
        assert len(living(cloud)) == 1


async def test_next_zone_is_tried_without_capacity(cloud, home):
    client = ec2(cloud)
    block = client.describe_subnets(SubnetIds=[cloud.subnet])["Subnets"][0]
    assert block["AvailableIpAddressCount"] > 0
    cloud.faults.capacity["m5.large"] = 1
    of = provider(cloud, subnet=[cloud.subnet, cloud.subnet])
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0)
        assert len(living(cloud)) == 1
        assert not recorded.ended


async def test_throttled_requests_are_repeated(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        cloud.faults.throttle = 2
        await rented(recorded, of, 0)
        assert len(living(cloud)) == 1
        assert not recorded.ended


async def test_lost_machine_is_reported_within_seconds(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0)
        cloud.lose(numbered(cloud, 0).instance_id)
        ended = await recorded.has_ended(0, within_s=7.0)
        assert not ended.expected
        assert ended.reason


async def test_ec2s_own_error_is_reported(cloud, home):
    of = provider(cloud, vpc="vpc-0123", subnet=())
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0)
        ended = await recorded.has_ended(0)
        assert "vpc-0123" in ended.reason
        assert (ended.lived_s, ended.scarce) == (0.0, False)


async def test_later_fleet_terminates_the_machines_of_an_earlier_one(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0, 1)
        async with RecordedFleet(home / "f", of) as later:
            assert await later.fleet.adopt([0, 1]) == Adopted(terminating=(0, 1)), (
                "there is no scheduler to continue with"
            )
            assert not living(cloud)


async def test_fleet_does_not_terminate_other_studies_machines(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "one", of) as first, RecordedFleet(home / "other", of) as second:
        await rented(first, of, 0)
        await rented(second, of, 0)
        assert await second.fleet.adopt([]) == Adopted(terminating=(0,))
        (left,) = living(cloud)
        assert left.tags[IDENT_TAG] == tls.load(home / "one").ident


async def test_copy_of_a_study_terminates_no_machines_of_the_original(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as original:
        await rented(original, of, 0)
        shutil.copytree(home / "f", home / "copy")
        async with RecordedFleet(home / "copy", of) as copy:
            assert await copy.fleet.adopt([0]) == Adopted()
            await rented(copy, of, 1)
        assert [machine.tags["seer:machine"] for machine in living(cloud)] == ["0"]
        assert not original.ended


async def test_security_group_is_closed_to_the_world_and_deleted(cloud, home):
    of = provider(cloud)
    client = ec2(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0)
        instance = client.describe_instances()["Reservations"][0]["Instances"][0]
        (group,) = instance["NetworkInterfaces"][0]["Groups"]
        rules = client.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"][0]["IpPermissions"]
        networks = [network["CidrIp"] for rule in rules for network in rule["IpRanges"]]
        assert networks == [client.describe_vpcs(VpcIds=[cloud.vpc])["Vpcs"][0]["CidrBlock"]]
        assert [rule["FromPort"] for rule in rules if rule["IpRanges"]] == [8786]
        assert "0.0.0.0/0" not in json.dumps(rules)
    assert not living(cloud)
    assert group["GroupId"] not in [g["GroupId"] for g in client.describe_security_groups()["SecurityGroups"]]


async def test_user_data_fits(cloud, home):
    of = provider(cloud)
    client = ec2(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        hosting = asyncio.create_task(recorded.fleet.boot_scheduler(0, of.scheduler_offer))
        await until_async(cloud.machines)
        await rented(recorded, of, 1)
        for number in (0, 1):
            ident = numbered(cloud, number).instance_id
            answer = client.describe_instance_attribute(InstanceId=ident, Attribute="userData")
            assert 1000 < len(answer["UserData"]["Value"]) * 3 / 4 < USER_DATA_LIMIT / 2
        await recorded.fleet.retire(0, force=True)
        assert await hosting is None


async def test_cluster_file_is_readable_by_its_owner_only(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of):
        path = home / "f" / tls.FILE
        assert path.stat().st_mode & 0o777 == 0o600


async def test_spot_machines_have_a_maximum_price(cloud, home):
    of = provider(cloud, spot=True)
    (offer,) = of.offers()
    assert offer.spot
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0)
        assert numbered(cloud, 0).spot
        # The bid excludes disk and address, which the offer's price includes.
        bid = cloud.pool.find(numbered(cloud, 0).instance_id).max_price
        assert bid == pytest.approx(of.max_spot_price_micro("m5.large") / 1e6, abs=1e-6)
        assert bid < offer.price_per_hour_micro / 1e6
        cloud.faults.spot_prices["m5.large"] = 10.0
        cloud.faults.spot_notice_s = 0.0
        assert not (await recorded.has_ended(0, within_s=10.0)).expected


async def test_start_up_data_that_is_too_large_is_refused(cloud, home):
    of = provider(cloud, env={"LARGE": "x" * USER_DATA_LIMIT})
    async with RecordedFleet(home / "f", of) as recorded:
        await rented(recorded, of, 0)
        ended = await recorded.has_ended(0)
        assert f"but EC2 accepts {USER_DATA_LIMIT}: give fewer or shorter variables in env=" in ended.reason
        assert not cloud.machines()
