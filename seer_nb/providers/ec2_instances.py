"""What EC2 says of instances: whether they live, how long they have lived, and where they are reached."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.providers.ec2_launch import IDENT_TAG, MACHINE_TAG, STUDY_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping

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
