"""What AWS must allow: least-privilege IAM policies for whoever runs seer_nb on EC2, and for the machines it rents.

Every machine and security group of a study carries the tag ``seer:study``. Only what carries it can be ended or
changed, and nothing can be rented without it. A person's policy is longer than the 2048 characters that AWS takes for
an inline policy of a user: make a managed policy of it.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import show

if TYPE_CHECKING:
    import argparse


TAG = "seer:study"
"""The tag's key; its value is the study's name."""
_VERSION = "2012-10-17"
_STORE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_ROLE = re.compile(r"(?:arn:aws:iam::[0-9]{12}:role/)?[\w+=,.@/-]+")
_STORE_HINT = 'give an S3 URL such as "s3://bucket/prefix"'
_LOOKS = (
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
_HAS_TAG = {"StringLike": {f"aws:ResourceTag/{TAG}": "*"}}
_GIVES_TAG = {"StringLike": {f"aws:RequestTag/{TAG}": "*"}}

Document = dict[str, Any]


def policy(provider: str = "ec2", store: str | None = None, *, role: str | None = None) -> Document:
    """The IAM policy for the person, or the machine, that runs studies.

    Args:
        provider: "ec2".
        store: S3 URL of the folder for checkpoints, if they are kept in S3.
        role: Name or ARN of the role in the machines' instance profile, if they have one; it may then be passed to
            them.

    Returns:
        The document; ``json.dumps`` makes of it what AWS takes.

    Raises:
        ValueError: For another provider, or what is no S3 URL or no role.
    """
    if provider != "ec2":
        raise ValueError(f'provider={show(provider)} has no IAM policy: give "ec2"')
    statements = [*_machines(), *_groups(), _spot_role()]
    if role is not None:
        statements.append(_passes(role))
    if store is not None:
        statements.extend(_store(store))
    return _document(statements)


def machine_policy(store: str) -> Document:
    """The IAM policy for the role in the machines' instance profile: the checkpoints, and nothing else.

    Args:
        store: S3 URL of the folder for checkpoints.

    Raises:
        ValueError: For what is no S3 URL.
    """
    return _document(_store(store))


def add(commands: Any) -> None:
    """Add the subcommand ``iam-policy``."""
    parser = commands.add_parser("iam-policy", help="print the IAM policy that seer_nb needs on AWS")
    parser.add_argument("provider", choices=("ec2",))
    parser.add_argument("--store", default=None, metavar="URL", help="where checkpoints go: s3://bucket/prefix")
    parser.add_argument("--role", default=None, help="role in the machines' instance profile, by name or ARN")
    parser.add_argument("--machine", action="store_true", help="the policy for that role instead; needs --store")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.machine and (options.store is None or options.role is not None):
        raise ValueError("--machine prints what the machines may do with the store: give --store, and no --role")
    document = (
        machine_policy(options.store) if options.machine else policy(options.provider, options.store, role=options.role)
    )
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0


def _machines() -> list[Document]:
    """Look, rent, and end what was rented."""
    created = {"ec2:CreateAction": ["RunInstances", "CreateSecurityGroup"]}
    tagged_at_creation = _ec2("instance", "volume", "security-group", "spot-instances-request")
    # A machine is rented with parts that carry no tag; without a machine they cost nothing.
    parts = _ec2("network-interface", "security-group", "subnet", "volume", "key-pair", "spot-instances-request")
    return [
        # These calls cannot be restricted to resources.
        _allow("Look", _LOOKS, "*"),
        _allow("RentTagged", "ec2:RunInstances", _ec2("instance"), _GIVES_TAG),
        _allow("RentWith", "ec2:RunInstances", [*parts, "arn:aws:ec2:*::image/*"]),
        _allow("TagWhatIsCreated", "ec2:CreateTags", tagged_at_creation, {"StringEquals": created}),
        # Dask names a machine after it was rented.
        _allow("NameOwnMachines", "ec2:CreateTags", _ec2("instance"), _HAS_TAG),
        _allow("EndOwnMachines", "ec2:TerminateInstances", _ec2("instance"), _HAS_TAG),
    ]


def _groups() -> list[Document]:
    """A study's own security group."""
    changes = ("ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup")
    return [
        _allow("CreateTaggedGroup", "ec2:CreateSecurityGroup", _ec2("security-group"), _GIVES_TAG),
        _allow("CreateGroupIn", "ec2:CreateSecurityGroup", _ec2("vpc")),
        _allow("ChangeOwnGroups", changes, _ec2("security-group"), _HAS_TAG),
    ]


def _spot_role() -> Document:
    """An account's first spot machine needs a role that AWS makes by itself, if whoever asks may have it made."""
    spot = "spot.amazonaws.com"
    role = f"arn:aws:iam::*:role/aws-service-role/{spot}/AWSServiceRoleForEC2Spot"
    return _allow("FirstSpot", "iam:CreateServiceLinkedRole", role, {"StringEquals": {"iam:AWSServiceName": spot}})


def _passes(role: str) -> Document:
    if not _ROLE.fullmatch(role):
        raise ValueError(f"role={show(role)} is not the name or ARN of an IAM role: give one such as seer-machines")
    arn = role if role.startswith("arn:") else f"arn:aws:iam::*:role/{role}"
    to_machines = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    return _allow("PassRole", "iam:PassRole", arn, to_machines)


def _store(store: str) -> list[Document]:
    """Read, write and remove below the prefix, and list it."""
    bucket, prefix = _bucket(store)
    within = {"StringLike": {"s3:prefix": [prefix, f"{prefix}/*"]}} if prefix else None
    objects = f"arn:aws:s3:::{bucket}/{prefix}/*" if prefix else f"arn:aws:s3:::{bucket}/*"
    # A large checkpoint goes in parts; unless a failed one is aborted, its parts stay and are billed.
    actions = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
    return [
        _allow("Checkpoints", actions, objects),
        _allow("ListCheckpoints", "s3:ListBucket", f"arn:aws:s3:::{bucket}", within),
    ]


def _bucket(store: object) -> tuple[str, str]:
    found = _STORE.fullmatch(store) if isinstance(store, str) else None
    prefix = (found[2] or "").strip("/") if found else ""
    # These would mean more than the folder that they name.
    if found is None or any(sign in prefix for sign in "*?$"):
        raise ValueError(f"store={show(store)} is not a folder in S3: {_STORE_HINT}")
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
