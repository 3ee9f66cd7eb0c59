"""Least-privilege IAM policies: for the person who runs studies on EC2, and for the machines that are rented.

Every machine and security group of a study has the tag ``seer:study``. The policies allow to rent only with the tag,
and to change or terminate only what has it. A person's policy exceeds the 2048 characters that AWS allows for an
inline policy of a user, so create a managed policy from it.
"""

from __future__ import annotations

import re
from typing import Any

from seer_nb._utils.text import short_repr
from seer_nb.providers.vm.bootstrap import STUDY_TAG

_VERSION = "2012-10-17"
_STORE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_ROLE = re.compile(r"(?:arn:aws:iam::[0-9]{12}:role/)?[\w+=,.@/-]+")
_READ_ACTIONS = (
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "pricing:GetProducts",
    "servicequotas:GetServiceQuota",
)
_HAS_TAG = {"StringLike": {f"aws:ResourceTag/{STUDY_TAG}": "*"}}
_REQUESTS_TAG = {"StringLike": {f"aws:RequestTag/{STUDY_TAG}": "*"}}

Document = dict[str, Any]


def policy(provider: str = "ec2", store: str | None = None, *, role: str | None = None) -> Document:
    """Return the IAM policy for the person, or the machine, that runs studies.

    Args:
        provider: "ec2".
        store: S3 URL of the folder for checkpoints, if they are kept in S3.
        role: Name or ARN of the role in the machines' instance profile, if they have one. The policy then allows to
            pass it to them.

    Returns:
        The policy document; ``json.dumps`` converts it to the text that AWS expects.

    Raises:
        ValueError: An argument is invalid; the message names it.

    Example:
        >>> import json
        >>> document = seer.iam_policy("ec2", "s3://bucket/runs", role="seer-machines")
        >>> print(json.dumps(document, indent=2))
    """
    if provider != "ec2":
        raise ValueError(f'provider={short_repr(provider)}: no IAM policy is known; expected "ec2"')
    statements = [*_machine_statements(), *_group_statements(), _spot_role_statement()]
    if role is not None:
        statements.append(_pass_role_statement(role))
    if store is not None:
        statements.extend(_store_statements(store))
    return _document(statements)


def machine_policy(store: str) -> Document:
    """Return the IAM policy for the role in the machines' instance profile: access to the checkpoints only.

    Args:
        store: S3 URL of the folder for checkpoints.

    Raises:
        ValueError: The store is not an S3 URL.
    """
    return _document(_store_statements(store))


def _machine_statements() -> list[Document]:
    """Allow to read, to rent, and to terminate what was rented."""
    created = {"ec2:CreateAction": ["RunInstances", "CreateSecurityGroup"]}
    tagged_at_creation = _ec2("instance", "volume", "security-group", "spot-instances-request")
    # A machine is rented with parts that have no tag; without a machine they cost nothing.
    parts = _ec2("network-interface", "security-group", "subnet", "volume", "key-pair", "spot-instances-request")
    return [
        # These calls cannot be restricted to resources.
        _allow("Look", _READ_ACTIONS, "*"),
        _allow("RentTagged", "ec2:RunInstances", _ec2("instance"), _REQUESTS_TAG),
        _allow("RentWith", "ec2:RunInstances", [*parts, "arn:aws:ec2:*::image/*"]),
        _allow("TagWhatIsCreated", "ec2:CreateTags", tagged_at_creation, {"StringEquals": created}),
        # dask-cloudprovider sets the name tag after the launch.
        _allow("NameOwnMachines", "ec2:CreateTags", _ec2("instance"), _HAS_TAG),
        _allow("EndOwnMachines", "ec2:TerminateInstances", _ec2("instance"), _HAS_TAG),
    ]


def _group_statements() -> list[Document]:
    """Allow to create and change a study's own security group."""
    changes = ("ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup")
    return [
        _allow("CreateTaggedGroup", "ec2:CreateSecurityGroup", _ec2("security-group"), _REQUESTS_TAG),
        _allow("CreateGroupIn", "ec2:CreateSecurityGroup", _ec2("vpc")),
        _allow("ChangeOwnGroups", changes, _ec2("security-group"), _HAS_TAG),
    ]


def _spot_role_statement() -> Document:
    """Allow AWS to create the service-linked role that an account's first spot machine needs."""
    spot = "spot.amazonaws.com"
    role = f"arn:aws:iam::*:role/aws-service-role/{spot}/AWSServiceRoleForEC2Spot"
    return _allow("FirstSpot", "iam:CreateServiceLinkedRole", role, {"StringEquals": {"iam:AWSServiceName": spot}})


def _pass_role_statement(role: str) -> Document:
    if not _ROLE.fullmatch(role):
        raise ValueError(f"role={short_repr(role)}: not an IAM role; expected a name such as seer-machines, or an ARN")
    arn = role if role.startswith("arn:") else f"arn:aws:iam::*:role/{role}"
    to_machines = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    return _allow("PassRole", "iam:PassRole", arn, to_machines)


def _store_statements(store: str) -> list[Document]:
    """Allow to read, write, delete and list objects below the prefix."""
    bucket, prefix = _split_store(store)
    within = {"StringLike": {"s3:prefix": [prefix, f"{prefix}/*"]}} if prefix else None
    objects = f"arn:aws:s3:::{bucket}/{prefix}/*" if prefix else f"arn:aws:s3:::{bucket}/*"
    # A large checkpoint is uploaded in parts. Unless a failed upload is aborted, its parts stay and are billed.
    actions = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
    return [
        _allow("Checkpoints", actions, objects),
        _allow("ListCheckpoints", "s3:ListBucket", f"arn:aws:s3:::{bucket}", within),
    ]


def _split_store(store: object) -> tuple[str, str]:
    found = _STORE.fullmatch(store) if isinstance(store, str) else None
    prefix = (found[2] or "").strip("/") if found else ""
    # In a policy these characters are wildcards or variables.
    if found is None or any(wildcard in prefix for wildcard in "*?$"):
        raise ValueError(f'store={short_repr(store)}: not a folder in S3; expected a URL such as "s3://bucket/prefix"')
    return found[1], prefix


def _ec2(*kinds: str) -> list[str]:
    return [f"arn:aws:ec2:*:*:{kind}/*" for kind in kinds]


def _allow(
    name: str, actions: str | tuple[str, ...], resources: str | list[str], condition: Document | None = None
) -> Document:
    statement: Document = {
        "Sid": name,
        "Effect": "Allow",
        "Action": [actions] if isinstance(actions, str) else list(actions),
        "Resource": resources,
    }
    return statement if condition is None else {**statement, "Condition": condition}


def _document(statements: list[Document]) -> Document:
    return {"Version": _VERSION, "Statement": statements}
