"""IAM policies, evaluated by moto where it can and by a short implementation of AWS's rules otherwise."""

import json
import urllib.request
from fnmatch import fnmatchcase

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from seer_nb.providers.aws import iam
from seer_nb.storage import checkpoints
from seer_nb.ui import cli
from tests.support.refusals import raised

ARN = "arn:aws:ec2:us-east-1:123456789012:"
TAG = "seer:study"


# --- by AWS's rules ---


def allows(document, action, resource, **context):
    """Return whether a policy of Allow statements allows an action on a resource."""
    return any(_covers(statement, action, resource, context) for statement in document["Statement"])


def _covers(statement, action, resource, context):
    assert statement["Effect"] == "Allow"
    resources = statement["Resource"]
    resources = [resources] if isinstance(resources, str) else resources
    return (
        action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in resources)
        and all(
            _holds(operator, wanted, context.get(key))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator, wanted, value):
    # A key that the call lacks fulfils no condition.
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if operator == "StringEquals":
        return value in wanted
    assert operator == "StringLike"
    return value is not None and any(fnmatchcase(value, pattern) for pattern in wanted)


def requests_tag(value="digits"):
    return {f"aws:RequestTag/{TAG}": value}


def has_tag(value="digits"):
    return {f"aws:ResourceTag/{TAG}": value}


def allows_rent(document, **context):
    """Return whether RunInstances is allowed on every resource that it touches."""
    parts = ("network-interface/*", "security-group/sg-1", "subnet/subnet-1", "volume/*", "key-pair/mine")
    parts += ("spot-instances-request/*",)
    return (
        allows(document, "ec2:RunInstances", ARN + "instance/*", **context)
        and all(allows(document, "ec2:RunInstances", ARN + part) for part in parts)
        and allows(document, "ec2:RunInstances", "arn:aws:ec2:us-east-1::image/ami-1")
    )


def test_machines_can_be_rented_only_with_the_tag():
    document = iam.policy("ec2")
    assert allows_rent(document, **requests_tag())
    assert not allows_rent(document)
    assert not allows_rent(document, **{"aws:RequestTag/Name": "digits"})


def test_only_tagged_machines_can_be_terminated_and_named():
    document = iam.policy("ec2")
    for action in ("ec2:TerminateInstances", "ec2:CreateTags"):
        assert allows(document, action, ARN + "instance/i-1", **has_tag())
        assert not allows(document, action, ARN + "instance/i-1")
        # A request with the tag does not make the machine one's own.
        assert not allows(document, action, ARN + "instance/i-1", **requests_tag())
    assert not allows(document, "ec2:CreateTags", ARN + "volume/vol-1", **has_tag())


@pytest.mark.parametrize("kind", ["instance", "volume", "security-group", "spot-instances-request"])
def test_resources_may_be_tagged_at_creation(kind):
    document = iam.policy("ec2")
    for created in ("RunInstances", "CreateSecurityGroup"):
        assert allows(document, "ec2:CreateTags", f"{ARN}{kind}/*", **{"ec2:CreateAction": created})
    assert not allows(document, "ec2:CreateTags", f"{ARN}{kind}/*", **{"ec2:CreateAction": "CreateVolume"})
    assert not allows(document, "ec2:CreateTags", f"{ARN}{kind}/x")


def test_only_tagged_security_groups_can_be_created_and_changed():
    document = iam.policy("ec2")
    assert allows(document, "ec2:CreateSecurityGroup", ARN + "security-group/*", **requests_tag())
    assert not allows(document, "ec2:CreateSecurityGroup", ARN + "security-group/*")
    assert allows(document, "ec2:CreateSecurityGroup", ARN + "vpc/vpc-1")
    for action in ("ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup"):
        assert allows(document, action, ARN + "security-group/sg-1", **has_tag())
        assert not allows(document, action, ARN + "security-group/sg-1")


def test_only_the_named_role_may_be_passed_and_only_to_machines():
    role = "arn:aws:iam::123456789012:role/seer-machines"
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    assert not allows(iam.policy("ec2"), "iam:PassRole", role, **to_ec2)
    for named in ("seer-machines", role):
        document = iam.policy("ec2", role=named)
        assert allows(document, "iam:PassRole", role, **to_ec2)
        assert not allows(document, "iam:PassRole", role)
        assert not allows(document, "iam:PassRole", role, **{"iam:PassedToService": "lambda.amazonaws.com"})
        assert not allows(document, "iam:PassRole", role.replace("seer", "admin"), **to_ec2)


def test_store_access_is_limited_to_its_prefix():
    for document in (iam.machine_policy("s3://bucket/runs/a/"), iam.policy("ec2", "s3://bucket/runs/a")):
        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
            assert allows(document, action, "arn:aws:s3:::bucket/runs/a/0/1.pt")
            for other in ("bucket/runs/ab/1.pt", "bucket/1.pt", "other/runs/a/1.pt"):
                assert not allows(document, action, f"arn:aws:s3:::{other}")
        bucket = "arn:aws:s3:::bucket"
        assert allows(document, "s3:ListBucket", bucket, **{"s3:prefix": "runs/a/0/"})
        assert not allows(document, "s3:ListBucket", bucket, **{"s3:prefix": "runs/ab"})
        assert not allows(document, "s3:ListBucket", bucket)
    whole = iam.machine_policy("s3://bucket")
    assert allows(whole, "s3:GetObject", "arn:aws:s3:::bucket/1.pt")
    assert allows(whole, "s3:ListBucket", "arn:aws:s3:::bucket")


def test_machines_may_access_only_the_store():
    actions = [
        action for statement in iam.machine_policy("s3://bucket/runs")["Statement"] for action in statement["Action"]
    ]
    assert {action.partition(":")[0] for action in actions} == {"s3"}


def test_no_action_is_a_wildcard_and_only_reads_apply_to_all_resources():
    for statement in iam.policy("ec2", "s3://bucket/runs", role="seer-machines")["Statement"]:
        assert not any("*" in action for action in statement["Action"])
        if statement["Resource"] == "*":
            assert all(":Describe" in action or ":Get" in action for action in statement["Action"])


def test_policy_is_not_too_long_for_aws():
    document = iam.policy("ec2", "s3://bucket/" + "p" * 200, role="r" * 64)
    # AWS does not count white space.
    assert len(json.dumps(document, separators=(",", ":"))) < 6144


# --- bad input ---


@pytest.mark.parametrize(
    "store", ["bucket", "gs://bucket/x", "s3://", "s3://B/x", "s3://bucket/*", "s3://bucket/${aws:username}", 3]
)
def test_store_that_is_not_in_s3_is_refused(store):
    message = f'store={store!r}: not a folder in S3; expected a URL such as "s3://bucket/prefix"'
    assert raised(ValueError, iam.machine_policy, store) == message
    assert raised(ValueError, iam.policy, "ec2", store) == message


def test_unknown_provider_and_invalid_role_are_refused():
    assert raised(ValueError, iam.policy, "gcp") == "provider='gcp': no IAM policy is known; expected \"ec2\""
    for role in ("", "*", "a b", "arn:aws:iam::1:role/x", "arn:aws:s3:::bucket"):
        message = f"role={role!r}: not an IAM role; expected a name such as seer-machines, or an ARN"
        assert raised(ValueError, lambda role=role: iam.policy("ec2", role=role)) == message


# --- the command ---


def run_command(capsys, *arguments):
    code = cli.main(["iam-policy", "ec2", *arguments])
    return code, *capsys.readouterr()


def test_command_prints_policies(capsys):
    store, role = "s3://bucket/runs", "seer-machines"
    code, out, err = run_command(capsys)
    assert (code, json.loads(out), err) == (0, iam.policy("ec2"), "")
    assert json.loads(run_command(capsys, "--store", store, "--role", role)[1]) == iam.policy("ec2", store, role=role)
    assert json.loads(run_command(capsys, "--machine", "--store", store)[1]) == iam.machine_policy(store)
    message = "seer-nb: --machine: prints the machines' access to the store; expected --store and no --role\n"
    assert run_command(capsys, "--machine") == (1, "", message)
    assert run_command(capsys, "--machine", "--store", store, "--role", role) == (1, "", message)


# --- as moto checks them: actions of all services, resources of S3, no conditions ---


@pytest.fixture
def account(monkeypatch):
    """Return the URL of a simulated AWS that does not check permissions yet."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "admin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "admin")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    yield url
    post(url, "reset-auth", b"inf")
    post(url, "reset")
    server.stop()


def post(url, word, data=b""):
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/{word}", data, plain)).close()


def become(url, monkeypatch, document):
    """Act from now on as a user with that policy only, with permissions checked."""
    admin = boto3.client("iam")
    admin.create_user(UserName="person")
    made = admin.create_policy(PolicyName="seer", PolicyDocument=json.dumps(document))
    admin.attach_user_policy(UserName="person", PolicyArn=made["Policy"]["Arn"])
    key = admin.create_access_key(UserName="person")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    boto3.DEFAULT_SESSION = None
    post(url, "reset-auth", b"0")


def test_person_may_only_read_everywhere(account, monkeypatch):
    become(account, monkeypatch, iam.policy("ec2", "s3://bucket/runs", role="seer-machines"))
    ec2 = boto3.Session().client("ec2")
    ec2.describe_vpcs()
    ec2.describe_subnets()
    ec2.describe_security_groups()
    ec2.describe_images(Owners=["self"])
    ec2.describe_instances()
    ec2.describe_instance_types(InstanceTypes=["t3.micro"])
    ec2.describe_spot_price_history(InstanceTypes=["t3.micro"])
    for denied in (
        lambda: ec2.stop_instances(InstanceIds=["i-1"]),
        lambda: ec2.create_volume(AvailabilityZone="us-east-1a", Size=1),
        ec2.describe_volumes,
        lambda: boto3.Session().client("iam").list_users(),
        lambda: boto3.Session().client("s3").list_buckets(),
    ):
        with pytest.raises(ClientError, match=r"UnauthorizedOperation|AccessDenied"):
            denied()


def test_checkpoints_can_be_stored_with_the_machine_policy(account, monkeypatch):
    boto3.Session().client("s3").create_bucket(Bucket="bucket")
    become(account, monkeypatch, iam.machine_policy("s3://bucket/runs"))
    payload = {"format": 1, "trial": 0, "epoch": 1, "objects": [], "state": {}, "saved": None}
    path = checkpoints.file_path(0, 1, 0)
    checkpoints.save("s3://bucket/runs", path, payload)
    assert checkpoints.load("s3://bucket/runs", path) == payload
    checkpoints.remove("s3://bucket/runs", [path, path])
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.load("s3://bucket/runs", path)
    for elsewhere in ("s3://bucket/others", "s3://bucket"):
        with pytest.raises(PermissionError):
            checkpoints.save(elsewhere, path, payload)
