"""What tests of the loopback cloud need: clients, machines, patience."""

import os
import sys
from functools import cache

import boto3
import botocore.config
import botocore.exceptions
import psutil
import pytest
import yaml

from tests.support.waiting import until

PATIENCE_S = 60.0
HERE = sys.executable


def ec2(attempts=0):
    """A client that tries again so many times."""
    return _client(os.environ["AWS_ENDPOINT_URL"], attempts)


@cache
def _client(url, attempts):
    config = botocore.config.Config(retries={"max_attempts": attempts})
    # Its own session: the default one keeps the credentials that it saw first in this process.
    return boto3.session.Session().client("ec2", endpoint_url=url, config=config)


def request(cloud, *commands, kind="m5.large", spot=False, max_price=None, **more):
    """The parameters of RunInstances for a machine that runs these commands."""
    options = {"MaxPrice": str(max_price)} if max_price is not None else {}
    market = {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": options}} if spot else {}
    return {
        "ImageId": cloud.ami,
        "InstanceType": kind,
        "MinCount": 1,
        "MaxCount": 1,
        "SubnetId": cloud.subnet,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "UserData": "#cloud-config\n" + yaml.safe_dump({"runcmd": list(commands)}),
        **market,
        **more,
    }


def launch(cloud, *commands, **more):
    """Launch a machine, and give its id."""
    answer = ec2().run_instances(**request(cloud, *commands, **more))
    return answer["Instances"][0]["InstanceId"]


def refused(code, status=400):
    """A block in which EC2 refuses something."""
    return _Refused(code, status)


class _Refused:
    def __init__(self, code, status):
        self.code, self.status = code, status

    def __enter__(self):
        self._raises = pytest.raises(botocore.exceptions.ClientError)
        self.info = self._raises.__enter__()
        return self

    def __exit__(self, *exc):
        caught = self._raises.__exit__(*exc)
        self.answer = self.info.value.response
        assert self.answer["Error"]["Code"] == self.code, self.answer
        assert self.answer["ResponseMetadata"]["HTTPStatusCode"] == self.status
        return caught


def machine(cloud, instance_id):
    """What the cloud says of a machine."""
    return next(m for m in cloud.machines() if m.instance_id == instance_id)


def described(instance_id):
    """What the API says of it."""
    return ec2().describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]


def log(cloud, instance_id):
    """What its commands have printed."""
    path = machine(cloud, instance_id).folder / "output.log"
    return path.read_text() if path.exists() else ""


def printed(cloud, instance_id, text):
    """Wait until a machine has printed a text, and return its log."""
    return until(lambda: text in (found := log(cloud, instance_id)) and found, text)


def ended(cloud, instance_id):
    """Wait until a machine is terminated and nothing lives on it, and return its record."""

    def look():
        now = machine(cloud, instance_id)
        return now if now.state == "terminated" and not now.pids else None

    return until(look, "its end")


def alive(pids):
    return {pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE}


def on(cloud, instance_id, count=1):
    """Wait until so many processes live on a machine."""
    return until(lambda: len(found := machine(cloud, instance_id).pids) >= count and found, "processes")


def booted_after_s(cloud, instance_id):
    """Seconds from a machine's launch until it began with its user data."""
    now = machine(cloud, instance_id)
    return (now.folder / "user-data").stat().st_mtime - now.launched.timestamp()
