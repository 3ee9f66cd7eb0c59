"""Calls of EC2's API: instances and how long they have lived, networks and security groups, spot prices."""

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
from seer_nb.providers.vm.bootstrap import IDENT_TAG, MACHINE_TAG, PORT, STUDY_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


logger = logging.getLogger(__name__)
GONE = frozenset({"shutting-down", "terminated", "stopping", "stopped"})
"""States in which an instance is no longer billed."""
ADDRESS_SERVICE = "https://checkip.amazonaws.com"
"""URL that returns the public address of the client."""
UBUNTU = ("099720109477", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*")
"""(owner, name) of the AMI for machines without GPUs; dask-cloudprovider can install Docker on this release."""
DEEP_LEARNING = ("amazon", "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) *")
"""(owner, name) of the AMI for machines with GPUs; it has Docker, and NVIDIA's driver and container runtime."""
DELETE_TIMEOUT_S, DELETE_RETRY_S = 240.0, 3.0
"""Seconds that terminating machines may still use a security group, and between two attempts to delete it."""
_ENDED_AT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


class Instance(NamedTuple):
    """An EC2 instance of a study, as EC2 describes it."""

    ident: str
    study: str
    study_ident: str
    machine: int
    """Number of the machine; -1 if its tag holds none."""
    state: str
    kind: str
    spot: bool
    launched: datetime
    reason: str
    """Reason of its last change of state."""
    private: str
    """Private address; empty if it has none."""
    public: str
    """Public address; empty if it has none."""

    @property
    def gone(self) -> bool:
        """Whether it is no longer billed."""
        return self.state in GONE

    @property
    def dated(self) -> bool:
        """Whether EC2 reports when it ended."""
        return self.gone and _ENDED_AT.search(self.reason) is not None

    def lived_s(self, now: datetime) -> float:
        """Return the seconds from its launch to its end, or until ``now``; at least 1."""
        found = _ENDED_AT.search(self.reason)
        ended = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if self.gone and found else now
        # A machine that was launched is never free, even if launch and end fall into the same second.
        return max(1.0, (ended - self.launched).total_seconds())


async def study_instances(client: Any, ident: str) -> dict[str, Instance]:
    """Return all instances of a study that EC2 still knows, by instance id."""
    return await _describe(client, [{"Name": f"tag:{IDENT_TAG}", "Values": [ident]}])


async def list_study_instances(client: Any) -> dict[str, Instance]:
    """Return the pending and running instances of all studies, by instance id."""
    states = ["pending", "running"]
    return await _describe(
        client, [{"Name": "tag-key", "Values": [STUDY_TAG]}, {"Name": "instance-state-name", "Values": states}]
    )


async def terminate(client: Any, ident: str) -> None:
    """Terminate an instance; do nothing if EC2 does not know it, because it ended long ago."""
    from botocore.exceptions import ClientError

    try:
        await client.terminate_instances(InstanceIds=[ident])
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidInstanceID.NotFound":
            raise


async def _describe(client: Any, filters: list[dict[str, Any]]) -> dict[str, Instance]:
    found: dict[str, Instance] = {}
    async for page in client.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            for described in reservation["Instances"]:
                instance = _to_instance(described)
                found[instance.ident] = instance
    return found


def _to_instance(described: Mapping[str, Any]) -> Instance:
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


async def find_vpc(client: Any, vpc: str | None) -> str:
    """Return the given VPC, else the account's default VPC."""
    if vpc:
        return vpc
    found = (await client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}]))["Vpcs"]
    if not found:
        raise SeerError("the AWS account has no default VPC in this region: give vpc= and subnet=")
    return str(found[0]["VpcId"])


async def find_subnets(client: Any, vpc: str, given: Sequence[str]) -> tuple[str, ...]:
    """Return the given subnets, else all subnets of the VPC: if one zone has no capacity, the next one is tried."""
    if given:
        return tuple(given)
    found = (await client.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}]))["Subnets"]
    if not found:
        raise SeerError(f"vpc={vpc!r}: no subnet found; expected a VPC with at least one subnet")
    return tuple(sorted(str(subnet["SubnetId"]) for subnet in found))


async def find_image(client: Any, owner: str, name: str) -> str:
    """Return the id of the newest AMI with that owner and name pattern."""
    response = await client.describe_images(Owners=[owner], Filters=[{"Name": "name", "Values": [name]}])
    found = sorted(response["Images"], key=lambda image: str(image["CreationDate"]))
    if not found:
        raise SeerError(f"no AMI {name!r} in this region: give ami=")
    return str(found[-1]["ImageId"])


async def own_network() -> str:
    """Return this computer's public address as a /32 network."""

    def fetch() -> str:
        with urllib.request.urlopen(ADDRESS_SERVICE, timeout=10) as response:
            return str(response.read().decode().strip())

    try:
        return network(await asyncio.to_thread(fetch), "ingress")
    except (OSError, ValueError) as error:
        raise SeerError(
            f"the public address of this computer is unknown ({error}): give ingress=, such as '203.0.113.7/32'"
        ) from None


async def vpc_network(client: Any, vpc: str) -> str:
    """Return the network of a VPC in CIDR notation."""
    (found,) = (await client.describe_vpcs(VpcIds=[vpc]))["Vpcs"]
    return str(found["CidrBlock"])


async def ensure_group(client: Any, vpc: str, study: str, ident: str, ingress: str) -> str:
    """Return the study's security group; create it if there is none.

    Network access: machines of the study reach each other, and only ``ingress`` reaches the scheduler.
    dask-cloudprovider would open the scheduler's port to the world. The group is found by its tag, because the runner
    that created it may have died before it recorded the id. The runner's network may have changed since then.

    Args:
        client: EC2 client.
        vpc: Id of the VPC.
        study: Name of the study.
        ident: Ident of the study.
        ingress: Network that reaches the scheduler, in CIDR notation.
    """
    found = await study_groups(client, ident)
    group = found[0] if found else await make_group(client, vpc, study, ident)
    await _allow(client, group, {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]})
    await _allow(
        client,
        group,
        {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, "IpRanges": [{"CidrIp": ingress}]},
    )
    return group


async def study_groups(client: Any, ident: str) -> list[str]:
    """Return the ids of the security groups that were created for a study: one, or none."""
    return [group.ident for group in await _describe_groups(client, {"Name": f"tag:{IDENT_TAG}", "Values": [ident]})]


async def list_study_groups(client: Any) -> list[Group]:
    """Return the security groups that were created for any study."""
    return await _describe_groups(client, {"Name": "tag-key", "Values": [STUDY_TAG]})


class Group(NamedTuple):
    """A security group that was created for a study."""

    ident: str
    study: str
    study_ident: str


async def delete_group(client: Any, group: str, timeout_s: float = DELETE_TIMEOUT_S) -> bool:
    """Delete a security group; retry while EC2 refuses because machines that use it are still terminating.

    Args:
        client: EC2 client.
        group: Id of the group.
        timeout_s: Seconds after which to stop retrying.

    Returns:
        Whether the group is gone.
    """
    from botocore.exceptions import ClientError

    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            await client.delete_security_group(GroupId=group)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "InvalidGroup.NotFound":
                return True
            if code != "DependencyViolation" or time.monotonic() > deadline_s:
                logger.warning("security group %s not deleted: %s", group, error)
                return False
            await asyncio.sleep(DELETE_RETRY_S)
        else:
            return True


async def make_group(client: Any, vpc: str, study: str, ident: str) -> str:
    """Create the security group of a study, without rules, and return its id."""
    tags = [{"Key": STUDY_TAG, "Value": study}, {"Key": IDENT_TAG, "Value": ident}]
    made = await client.create_security_group(
        GroupName=f"seer-{study}-{ident[:8]}",
        Description="machines of a seer_nb study",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
    )
    return str(made["GroupId"])


async def _allow(client: Any, group: str, permission: dict[str, Any]) -> None:
    """Add an ingress rule unless the group has it already."""
    from botocore.exceptions import ClientError

    try:
        await client.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidPermission.Duplicate":
            raise


async def _describe_groups(client: Any, group_filter: dict[str, Any]) -> list[Group]:
    found = []
    async for page in client.get_paginator("describe_security_groups").paginate(Filters=[group_filter]):
        for described in page["SecurityGroups"]:
            tags = {tag["Key"]: tag["Value"] for tag in described.get("Tags", ())}
            found.append(Group(str(described["GroupId"]), tags.get(STUDY_TAG, ""), tags.get(IDENT_TAG, "")))
    return found


def ec2_client(region: str) -> Any:
    """Return an asynchronous EC2 client, to be entered as a context.

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
    """Return the given region, else the region that boto is configured with.

    Raises:
        ValueError: Neither is set.
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
        raise ValueError('region=None: boto has no region configured; expected a region such as "us-east-1"')
    return str(found)


def spot_price_micro(region: str, kind: str) -> int | None:
    """Return the present spot price in the most expensive zone, in micro-dollars per hour.

    Returns:
        None if AWS does not answer.
    """
    try:
        from botocore.session import get_session

        client = get_session().create_client("ec2", region_name=region)
        response = client.describe_spot_price_history(
            InstanceTypes=[kind], ProductDescriptions=["Linux/UNIX"], MaxResults=20
        )
        prices = [float(entry["SpotPrice"]) for entry in response["SpotPriceHistory"]]
    except Exception:  # noqa: BLE001 - without credentials, network or the package the price is estimated
        logger.info("spot price of %s in %s not found", kind, region)
        return None
    return round(max(prices) * MICRO) if prices else None
