"""Where a study's machines lie on EC2: a VPC, its subnets, a security group that lets in nobody else, an image."""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.errors import SeerError
from seer_nb.providers.arguments import network
from seer_nb.providers.ec2_launch import IDENT_TAG, PORT, STUDY_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)
WHO_AM_I = "https://checkip.amazonaws.com"
"""Tells by which address the world sees this machine."""
UBUNTU = ("099720109477", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*")
"""(owner, name): Docker is installed on it at boot, which dask-cloudprovider does for this release."""
DEEP_LEARNING = ("amazon", "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) *")
"""(owner, name): has Docker and NVIDIA's driver and runtime."""
DROP_S, DROP_EVERY_S = 240.0, 3.0
"""For so long a security group may still be in use by machines that are on their way out; between two tries."""


async def vpc_of(client: Any, vpc: str | None) -> str:
    """The VPC given, else the account's default one."""
    if vpc:
        return vpc
    found = (await client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}]))["Vpcs"]
    if not found:
        raise SeerError("the AWS account has no default VPC in this region: give vpc= and subnet=")
    return str(found[0]["VpcId"])


async def subnets_of(client: Any, vpc: str, given: Sequence[str]) -> tuple[str, ...]:
    """The subnets given, else all of the VPC: each zone has its own, so that one without capacity is not the end."""
    if given:
        return tuple(given)
    found = (await client.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}]))["Subnets"]
    if not found:
        raise SeerError(f"vpc={vpc!r} has no subnet: make one, or give another vpc=")
    return tuple(sorted(str(subnet["SubnetId"]) for subnet in found))


async def image_of(client: Any, owner: str, name: str) -> str:
    """The newest image of that name."""
    answer = await client.describe_images(Owners=[owner], Filters=[{"Name": "name", "Values": [name]}])
    found = sorted(answer["Images"], key=lambda image: str(image["CreationDate"]))
    if not found:
        raise SeerError(f"there is no image {name!r} in this region: give ami=")
    return str(found[-1]["ImageId"])


async def own_address() -> str:
    """This machine's public address, as a network of one."""

    def ask() -> str:
        with urllib.request.urlopen(WHO_AM_I, timeout=10) as answer:
            return str(answer.read().decode().strip())

    try:
        return network(await asyncio.to_thread(ask), "ingress")
    except (OSError, ValueError) as error:
        raise SeerError(
            f"this machine's public address is not known ({error}): give ingress=, such as '203.0.113.7/32'"
        ) from None


async def cidr_of(client: Any, vpc: str) -> str:
    """The addresses within a VPC."""
    (found,) = (await client.describe_vpcs(VpcIds=[vpc]))["Vpcs"]
    return str(found["CidrBlock"])


async def group_of(client: Any, vpc: str, study: str, ident: str, ingress: str) -> str:
    """A security group that lets the study's machines speak with each other, and one network with the scheduler.

    dask-cloudprovider would open the scheduler's port to the world. It is found by its tag, for whoever made it may
    have died before that was noted; and where the runner is may have changed since.
    """
    found = await groups_of(client, ident)
    group = found[0] if found else await _make_group(client, vpc, study, ident)
    await _let_in(client, group, {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]})
    await _let_in(
        client,
        group,
        {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, "IpRanges": [{"CidrIp": ingress}]},
    )
    return group


async def groups_of(client: Any, ident: str) -> list[str]:
    """The security groups that were made for a study: one, or none."""
    return [group.ident for group in await _groups(client, {"Name": f"tag:{IDENT_TAG}", "Values": [ident]})]


async def groups_of_all_studies(client: Any) -> list[Group]:
    """The security groups that were made for any study."""
    return await _groups(client, {"Name": "tag-key", "Values": [STUDY_TAG]})


class Group(NamedTuple):
    """A security group that was made for a study."""

    ident: str
    study: str
    study_ident: str


async def drop_group(client: Any, group: str, within_s: float = DROP_S) -> bool:
    """Delete a security group; as long as machines are still on their way out, EC2 refuses.

    Returns:
        Whether it is gone.
    """
    from botocore.exceptions import ClientError

    until_s = time.monotonic() + within_s
    while True:
        try:
            await client.delete_security_group(GroupId=group)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "InvalidGroup.NotFound":
                return True
            if code != "DependencyViolation" or time.monotonic() > until_s:
                logger.warning("security group %s was left behind: %s", group, error)
                return False
            await asyncio.sleep(DROP_EVERY_S)
        else:
            return True


async def _make_group(client: Any, vpc: str, study: str, ident: str) -> str:
    tags = [{"Key": STUDY_TAG, "Value": study}, {"Key": IDENT_TAG, "Value": ident}]
    made = await client.create_security_group(
        GroupName=f"seer-{study}-{ident[:8]}",
        Description="machines of a seer_nb study",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
    )
    return str(made["GroupId"])


async def _let_in(client: Any, group: str, whom: dict[str, Any]) -> None:
    """Whoever is let in already stays so."""
    from botocore.exceptions import ClientError

    try:
        await client.authorize_security_group_ingress(GroupId=group, IpPermissions=[whom])
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidPermission.Duplicate":
            raise


async def _groups(client: Any, chosen: dict[str, Any]) -> list[Group]:
    found = []
    async for page in client.get_paginator("describe_security_groups").paginate(Filters=[chosen]):
        for described in page["SecurityGroups"]:
            tags = {tag["Key"]: tag["Value"] for tag in described.get("Tags", ())}
            found.append(Group(str(described["GroupId"]), tags.get(STUDY_TAG, ""), tags.get(IDENT_TAG, "")))
    return found
