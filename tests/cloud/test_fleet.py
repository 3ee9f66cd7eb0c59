"""The fleet on EC2 without a study: what it launches, ends, reports, and leaves behind."""

import asyncio
import json
import shutil

import pytest
from botocore.session import get_session

from seer_nb.providers.aws.launcher import IDENT_TAG, STUDY_TAG, USER_DATA_LIMIT
from seer_nb.providers.base import Adopted
from seer_nb.providers.vm import tls
from tests.support.loopback_fleets import living, numbered, opened, provider
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nothing_boots(cloud):
    """Machines run, and are billed, but no process of theirs ever begins: the fleet alone is looked at here."""
    cloud.faults.boot_s = 1000.0


def ec2(cloud):
    return get_session().create_client("ec2", region_name=cloud.environment["AWS_DEFAULT_REGION"])


async def rented(books, of, *machines):
    (offer, *_) = of.offers()
    await asyncio.gather(*(books.fleet.rent(machine, offer) for machine in machines))


async def test_a_machine_is_launched_tagged_and_ended_and_its_time_is_told(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rented(books, of, 3)
        machine = numbered(cloud, 3)
        assert machine.state == "running"
        assert machine.tags[STUDY_TAG] == "study"
        assert machine.tags[IDENT_TAG] == tls.load(home / "f").ident
        await books.fleet.retire(3, force=False)
        ended = await books.has_ended(3)
    machine = numbered(cloud, 3)
    assert (ended.expected, ended.reason) == (True, "")
    assert ended.lived_s == pytest.approx((machine.ended - machine.launched).total_seconds(), abs=1.1)


async def test_a_chosen_machine_ends_while_others_boot_or_wait_to_be_launched(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rented(books, of, 0, 1)
        booting = asyncio.create_task(rented(books, of, 2))
        await books.fleet.retire(0, force=False)
        assert (await books.has_ended(0, within_s=3.0)).expected
        await booting
        assert {machine.tags["seer:machine"] for machine in living(cloud)} == {"1", "2"}
        assert list(books.ended) == [0]


async def test_a_machine_that_is_handed_back_before_it_was_launched_ends_at_once(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        launching = asyncio.create_task(books.fleet.rent(0, of.offers()[0]))
        await asyncio.sleep(0)
        await books.fleet.retire(0, force=False)
        await launching
        assert (await books.has_ended(0)).expected
    assert not living(cloud)


async def test_no_capacity_is_reported_at_once_and_costs_nothing(cloud, home):
    cloud.faults.capacity["m5.large"] = 1
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rented(books, of, 0)
        ended = await books.has_ended(0, within_s=2.0)
        assert (ended.expected, ended.lived_s, ended.scarce) == (False, 0.0, True)
        assert "InsufficientInstanceCapacity" in ended.reason
        assert not cloud.machines()
        await rented(books, of, 1)
        assert len(living(cloud)) == 1


async def test_a_zone_without_capacity_is_not_the_end(cloud, home):
    client = ec2(cloud)
    block = client.describe_subnets(SubnetIds=[cloud.subnet])["Subnets"][0]
    assert block["AvailableIpAddressCount"] > 0
    cloud.faults.capacity["m5.large"] = 1
    of = provider(cloud, subnet=[cloud.subnet, cloud.subnet])
    async with opened(home / "f", of) as books:
        await rented(books, of, 0)
        assert len(living(cloud)) == 1
        assert not books.ended


async def test_throttling_is_waited_for(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        cloud.faults.throttle = 2
        await rented(books, of, 0)
        assert len(living(cloud)) == 1
        assert not books.ended


async def test_a_machine_that_is_lost_is_reported_within_seconds(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rented(books, of, 0)
        cloud.lose(numbered(cloud, 0).instance_id)
        ended = await books.has_ended(0, within_s=7.0)
        assert not ended.expected
        assert ended.reason


async def test_credentials_that_are_refused_are_told_as_they_are(cloud, home):
    of = provider(cloud, vpc="vpc-0123", subnet=())
    async with opened(home / "f", of) as books:
        await rented(books, of, 0)
        ended = await books.has_ended(0)
        assert "vpc-0123" in ended.reason
        assert (ended.lived_s, ended.scarce) == (0.0, False)


async def test_a_later_fleet_ends_what_an_earlier_one_has_left(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rented(books, of, 0, 1)
        async with opened(home / "f", of) as later:
            assert await later.fleet.adopt([0, 1]) == Adopted(left=(0, 1)), "there is no scheduler to go on with"
            assert not living(cloud)


async def test_a_fleet_leaves_others_machines_alone(cloud, home):
    of = provider(cloud)
    async with opened(home / "one", of) as first, opened(home / "other", of) as second:
        await rented(first, of, 0)
        await rented(second, of, 0)
        assert await second.fleet.adopt([]) == Adopted(left=(0,))
        (left,) = living(cloud)
        assert left.tags[IDENT_TAG] == tls.load(home / "one").ident


async def test_a_copy_of_a_study_ends_none_of_the_machines_of_the_original(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of) as original:
        await rented(original, of, 0)
        shutil.copytree(home / "f", home / "copy")
        async with opened(home / "copy", of) as copy:
            assert await copy.fleet.adopt([0]) == Adopted()
            await rented(copy, of, 1)
        assert [machine.tags["seer:machine"] for machine in living(cloud)] == ["0"]
        assert not original.ended


async def test_nothing_is_open_to_the_world_and_nothing_is_left(cloud, home):
    of = provider(cloud)
    client = ec2(cloud)
    async with opened(home / "f", of) as books:
        await rented(books, of, 0)
        instance = client.describe_instances()["Reservations"][0]["Instances"][0]
        (group,) = instance["NetworkInterfaces"][0]["Groups"]
        rules = client.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"][0]["IpPermissions"]
        networks = [network["CidrIp"] for rule in rules for network in rule["IpRanges"]]
        assert networks == [client.describe_vpcs(VpcIds=[cloud.vpc])["Vpcs"][0]["CidrBlock"]]
        assert [rule["FromPort"] for rule in rules if rule["IpRanges"]] == [8786]
        assert "0.0.0.0/0" not in json.dumps(rules)
    assert not living(cloud)
    assert group["GroupId"] not in [g["GroupId"] for g in client.describe_security_groups()["SecurityGroups"]]


async def test_user_data_fits_and_holds_only_the_keys_of_its_role(cloud, home):
    of = provider(cloud)
    client = ec2(cloud)
    async with opened(home / "f", of) as books:
        hosting = asyncio.create_task(books.fleet.host(0, of.host))
        await until_async(cloud.machines)
        await rented(books, of, 1)
        for number in (0, 1):
            ident = numbered(cloud, number).instance_id
            answer = client.describe_instance_attribute(InstanceId=ident, Attribute="userData")
            assert 1000 < len(answer["UserData"]["Value"]) * 3 / 4 < USER_DATA_LIMIT / 2
        await books.fleet.retire(0, force=True)
        assert await hosting is None


async def test_what_is_kept_for_a_later_runner_is_for_its_owner_only(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of):
        path = home / "f" / tls.FILE
        assert path.stat().st_mode & 0o777 == 0o600


async def test_spot_machines_have_a_ceiling(cloud, home):
    of = provider(cloud, spot=True)
    (offer,) = of.offers()
    assert offer.spot
    async with opened(home / "f", of) as books:
        await rented(books, of, 0)
        assert numbered(cloud, 0).spot
        # Disk and address, which the offer's price holds, are no part of what is bid.
        bid = cloud._opened().host(numbered(cloud, 0).instance_id).max_price
        assert bid == pytest.approx(of._ceiling("m5.large") / 1e6, abs=1e-6)
        assert bid < offer.price_per_hour / 1e6
        cloud.faults.spot_prices["m5.large"] = 10.0
        cloud.faults.spot_notice_s = 0.0
        assert not (await books.has_ended(0, within_s=10.0)).expected


async def test_start_up_data_that_ec2_would_refuse_is_refused_with_a_sentence(cloud, home):
    of = provider(cloud, env={"LARGE": "x" * USER_DATA_LIMIT})
    async with opened(home / "f", of) as books:
        await rented(books, of, 0)
        ended = await books.has_ended(0)
        assert f"but EC2 takes {USER_DATA_LIMIT}: give fewer or shorter variables in env=" in ended.reason
        assert not cloud.machines()
