"""What EC2 says of instances: whether they live, how long they have lived, and where they are reached."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.units import MICRO
from seer_nb.errors import SeerError
from seer_nb.providers._validation import network
from seer_nb.providers.aws.launcher import IDENT_TAG, MACHINE_TAG, PORT, STUDY_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


GONE = frozenset({"shutting-down", "terminated", "stopping", "stopped"})
"""States in which an instance is not billed any more."""
_WHEN = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


class Instance(NamedTuple):
    """One, as EC2 describes it."""

    ident: str
    study: str
    study_ident: str
    machine: int
    state: str
    kind: str
    spot: bool
    launched: datetime
    reason: str
    """Why it changed its state last."""
    private: str
    public: str

    @property
    def gone(self) -> bool:
        """Whether it is not billed any more."""
        return self.state in GONE

    @property
    def dated(self) -> bool:
        """Whether EC2 says when it ended."""
        return self.gone and _WHEN.search(self.reason) is not None

    def lived_s(self, now: datetime) -> float:
        """Seconds from its launch to its end, or until now."""
        found = _WHEN.search(self.reason)
        ended = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if self.gone and found else now
        # A machine that was launched is never for nothing, even if both fall into one second.
        return max(1.0, (ended - self.launched).total_seconds())


async def of_study(client: Any, ident: str) -> dict[str, Instance]:
    """All instances of a study that EC2 still knows, by their id."""
    return await _described(client, [{"Name": f"tag:{IDENT_TAG}", "Values": [ident]}])


async def of_all_studies(client: Any) -> dict[str, Instance]:
    """All instances of any study that live."""
    states = ["pending", "running"]
    return await _described(
        client, [{"Name": "tag-key", "Values": [STUDY_TAG]}, {"Name": "instance-state-name", "Values": states}]
    )


async def terminate(client: Any, ident: str) -> None:
    """End an instance; one that EC2 does not know has ended long ago."""
    from botocore.exceptions import ClientError

    try:
        await client.terminate_instances(InstanceIds=[ident])
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidInstanceID.NotFound":
            raise


async def _described(client: Any, filters: list[dict[str, Any]]) -> dict[str, Instance]:
    found: dict[str, Instance] = {}
    async for page in client.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            for described in reservation["Instances"]:
                instance = _instance(described)
                found[instance.ident] = instance
    return found


def _instance(described: Mapping[str, Any]) -> Instance:
    tags = {tag["Key"]: tag["Value"] for tag in described.get("Tags", ())}
    number = tags.get(MACHINE_TAG, "")
    return Instance(
        ident=str(described["InstanceId"]),
        study=tags.get(STUDY_TAG, ""),
        study_ident=tags.get(IDENT_TAG, ""),
        machine=int(number) if number.isdigit() else -1,
        state=str(described["State"]["Name"]),
        kind=str(described["InstanceType"]),
        spot=described.get("InstanceLifecycle") == "spot",
        launched=described["LaunchTime"],
        reason=str(described.get("StateTransitionReason") or ""),
        private=str(described.get("PrivateIpAddress") or ""),
        public=str(described.get("PublicIpAddress") or ""),
    )


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


def ec2_client(region: str) -> Any:
    """An asynchronous client, to be entered as a context.

    Raises:
        SeerError: dask-cloudprovider is not installed.
    """
    try:
        from aiobotocore.session import get_session
    except ImportError:
        raise SeerError('EC2 needs dask-cloudprovider: pip install "seer_nb[aws]"') from None
    from botocore.config import Config

    retries = Config(retries={"max_attempts": 8, "mode": "standard"}, connect_timeout=5, read_timeout=20)
    return get_session().create_client("ec2", region_name=region, config=retries)


def region_or_default(region: str | None) -> str:
    """The region given, else the one that boto is configured with.

    Raises:
        ValueError: There is none.
    """
    found = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if found:
        return found
    try:
        from botocore.session import get_session

        found = get_session().get_config_variable("region")
    except ImportError:
        found = None
    if not found:
        raise ValueError('region=None, and boto has none configured: give one, such as "us-east-1"')
    return str(found)


def spot_price(region: str, kind: str) -> int | None:
    """Micro-dollars an hour now, as AWS tells; None if it does not."""
    try:
        from botocore.session import get_session

        client = get_session().create_client("ec2", region_name=region)
        answer = client.describe_spot_price_history(
            InstanceTypes=[kind], ProductDescriptions=["Linux/UNIX"], MaxResults=20
        )
        prices = [float(entry["SpotPrice"]) for entry in answer["SpotPriceHistory"]]
    except Exception:  # noqa: BLE001 - without credentials, network or the package it is estimated
        logger.info("no spot price of %s in %s is known", kind, region)
        return None
    return round(max(prices) * MICRO) if prices else None
