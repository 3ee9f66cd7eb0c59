"""The security group of a study: created once, found again, open to the runner's network, and deleted."""

import pytest
from botocore.session import get_session

from seer_nb.providers.aws import api
from seer_nb.providers.vm import tls
from tests.support.loopback_fleets import living, provider
from tests.support.recorded_fleet import RecordedFleet

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(autouse=True)
def nothing_boots(cloud):
    cloud.faults.boot_s = 1000.0


def ec2(cloud):
    return get_session().create_client("ec2", region_name=cloud.environment["AWS_DEFAULT_REGION"])


def groups(cloud):
    return ec2(cloud).describe_security_groups(Filters=[{"Name": "tag-key", "Values": ["seer:study"]}])[
        "SecurityGroups"
    ]


def networks(cloud):
    (group,) = groups(cloud)
    return sorted(each["CidrIp"] for rule in group["IpPermissions"] for each in rule["IpRanges"])


async def rent(recorded, of, machine):
    await recorded.fleet.rent(machine, of.offers()[0])
    assert not recorded.ended


async def test_group_of_a_dead_runner_is_reused_and_allows_the_present_network(cloud, home):
    of = provider(cloud, ingress="192.0.2.7")
    async with RecordedFleet(home / "f", of) as recorded:
        ident = tls.load(home / "f").ident
        # As if the runner had died before it added rules or recorded anything.
        async with of.client() as client:
            made = await api.make_group(client, cloud.vpc, "study", ident)
        await rent(recorded, of, 0)
        assert [group["GroupId"] for group in groups(cloud)] == [made]
        assert networks(cloud) == ["192.0.2.7/32"]
        moved = provider(cloud, ingress="198.51.100.0/24")
        async with RecordedFleet(home / "f", moved) as later:
            await rent(later, moved, 1)
            assert networks(cloud) == ["192.0.2.7/32", "198.51.100.0/24"]
            async with RecordedFleet(home / "f", moved) as again:
                await rent(again, moved, 2)
                assert len(networks(cloud)) == 2
    assert not groups(cloud)


async def test_group_is_deleted_even_if_it_is_in_use_for_long(cloud, home, monkeypatch):
    from botocore.exceptions import ClientError

    tries = []
    original = api.delete_group

    class Busy:
        """EC2's client while machines that use the group are terminating."""

        def __init__(self, client):
            self.client = client

        async def delete_security_group(self, **given):
            tries.append(given)
            if len(tries) < 5:
                raise ClientError({"Error": {"Code": "DependencyViolation"}}, "DeleteSecurityGroup")
            return await self.client.delete_security_group(**given)

    monkeypatch.setattr(api, "DELETE_RETRY_S", 0.1)
    monkeypatch.setattr(api, "delete_group", lambda client, group: original(Busy(client), group))
    monkeypatch.setattr("seer_nb.providers.aws.fleet.EC2Fleet.end_timeout_s", 2.0)
    of = provider(cloud)
    async with RecordedFleet(home / "f", of) as recorded:
        await rent(recorded, of, 0)
        monkeypatch.setattr(api, "DELETE_RETRY_S", 0.7)
    assert len(tries) == 5
    assert not groups(cloud)


async def test_group_that_was_never_recorded_is_deleted(cloud, home):
    of = provider(cloud)
    async with RecordedFleet(home / "f", of):
        async with of.client() as client:
            await api.make_group(client, cloud.vpc, "study", tls.load(home / "f").ident)
        assert groups(cloud)
    assert not groups(cloud)
    assert not living(cloud)
