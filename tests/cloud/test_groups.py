"""The security group of a study: made once, found again, open to where the runner is, and deleted."""

import asyncio

import pytest
from botocore.session import get_session

import seer_nb as seer
from seer_nb.providers.aws import api
from seer_nb.providers.vm import tls
from tests.support.loopback_fleets import living, opened, provider

pytestmark = pytest.mark.anyio


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


async def rent(books, of, machine):
    await books.fleet.rent(machine, of.offers()[0])
    assert not books.ended


async def test_one_that_a_dead_runner_has_made_is_used_and_lets_in_where_the_runner_is_today(cloud, home):
    of = provider(cloud, ingress="192.0.2.7")
    async with opened(home / "f", of) as books:
        ident = tls.load(home / "f").ident
        # As if the runner had died before its rules were added, and before it could note anything.
        async with of.client() as client:
            made = await api._make_group(client, cloud.vpc, "study", ident)
        await rent(books, of, 0)
        assert [group["GroupId"] for group in groups(cloud)] == [made]
        assert networks(cloud) == ["192.0.2.7/32"]
        moved = provider(cloud, ingress="198.51.100.0/24")
        async with opened(home / "f", moved) as later:
            await rent(later, moved, 1)
            assert networks(cloud) == ["192.0.2.7/32", "198.51.100.0/24"]
            async with opened(home / "f", moved) as again:
                await rent(again, moved, 2)
                assert len(networks(cloud)) == 2
    assert not groups(cloud)


async def test_one_that_is_in_use_for_longer_than_machines_may_take_is_deleted_all_the_same(cloud, home, monkeypatch):
    from botocore.exceptions import ClientError

    tries = []
    original = api.drop_group

    class Busy:
        """EC2's client, while machines are on their way out."""

        def __init__(self, client):
            self.client = client

        async def delete_security_group(self, **given):
            tries.append(given)
            if len(tries) < 5:
                raise ClientError({"Error": {"Code": "DependencyViolation"}}, "DeleteSecurityGroup")
            return await self.client.delete_security_group(**given)

    monkeypatch.setattr(api, "DROP_EVERY_S", 0.1)
    monkeypatch.setattr(api, "drop_group", lambda client, group: original(Busy(client), group))
    monkeypatch.setattr("seer_nb.providers.aws.fleet.EC2Fleet.end_timeout_s", 2.0)
    of = provider(cloud)
    async with opened(home / "f", of) as books:
        await rent(books, of, 0)
        monkeypatch.setattr(api, "DROP_EVERY_S", 0.7)
    assert len(tries) == 5
    assert not groups(cloud)


async def test_one_that_was_never_noted_is_deleted_too(cloud, home):
    of = provider(cloud)
    async with opened(home / "f", of):
        async with of.client() as client:
            await api._make_group(client, cloud.vpc, "study", tls.load(home / "f").ident)
        assert groups(cloud)
    assert not groups(cloud)
    assert not living(cloud)


@pytest.mark.parametrize("ingress", ["here", "300.1.1.1/32", "2001:db8::/32", 7, ""])
def test_what_is_no_network_is_refused_before_anything_is_made(ingress):
    with pytest.raises(ValueError, match=r'^ingress=.* is no network: give one such as "203\.0\.113\.7/32"$'):
        seer.EC2("m5.large", region="us-east-1", ingress=ingress)


def test_networks_are_written_as_ec2_takes_them():
    written = {"203.0.113.7": "203.0.113.7/32", "10.1.2.3/8": "10.0.0.0/8", "0.0.0.0/0": "0.0.0.0/0"}
    assert {one: seer.EC2("m5.large", region="us-east-1", ingress=one).ingress for one in written} == written


async def test_an_address_that_is_none_is_not_taken_for_this_machines(monkeypatch):
    async def page(function):
        return "<html>log in first</html>"

    monkeypatch.setattr(asyncio, "to_thread", page)
    with pytest.raises(seer.SeerError, match=r"this machine's public address is not known .*give ingress="):
        await api.own_address()
