"""What the metadata service tells a machine, first of all that it will be interrupted."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.loopback_machines import alive, described, ended, launch, machine, on, printed

pytestmark = pytest.mark.slow


def ask(cloud, instance_id, path, token=None, method="GET"):
    """Ask the metadata service as that machine would."""
    environment = cloud._park.host(instance_id)._home.environment
    headers = {"X-aws-ec2-metadata-token": token} if token else {}
    if method == "PUT":
        headers["X-aws-ec2-metadata-token-ttl-seconds"] = "60"
    url = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + path
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method)) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code


def facts(cloud, instance_id, path):
    token = ask(cloud, instance_id, "/latest/api/token", method="PUT")
    return ask(cloud, instance_id, f"/latest/meta-data/{path}", token)


def test_an_interruption_is_announced(cloud):
    name = launch(cloud, "sleep 100", spot=True)
    assert facts(cloud, name, "spot/instance-action") == 404
    cloud.interrupt(name, notice_s=1.5)
    told = json.loads(facts(cloud, name, "spot/instance-action"))
    assert told["action"] == "terminate"
    end = datetime.strptime(told["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert machine(cloud, name).state == "running"
    found = ended(cloud, name)
    assert timedelta(0) <= found.ended - end < timedelta(seconds=10)
    assert described(name)["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_an_interruption_without_notice(cloud):
    name = launch(cloud, "sleep 100", spot=True)
    pids = on(cloud, name)
    cloud.interrupt(name, notice_s=0)
    assert machine(cloud, name).state == "terminated"
    assert not alive(pids)


def test_a_machine_can_ask_about_itself(cloud):
    name = launch(cloud, kind="c5.xlarge")
    found = machine(cloud, name)
    assert facts(cloud, name, "instance-id") == name
    assert facts(cloud, name, "instance-type") == "c5.xlarge"
    assert facts(cloud, name, "local-ipv4") == found.address
    assert facts(cloud, name, "placement/region") == "us-east-1"
    assert facts(cloud, name, "placement") == "availability-zone\nregion"
    assert facts(cloud, name, "instance-life-cycle") == "on-demand"
    assert facts(cloud, name, "nosuch") == 404
    assert ask(cloud, name, "/latest/meta-data/instance-id") == 401


def test_botocore_on_a_machine_finds_its_region_and_the_bucket(cloud):
    ask_it = (
        "from botocore.utils import IMDSRegionProvider; import botocore.session, boto3;"
        "print(IMDSRegionProvider(botocore.session.Session()).provide());"
        f"boto3.client('s3').put_object(Bucket='{cloud.bucket}', Key='k', Body=b'from the machine'); print('put')"
    )
    name = launch(cloud, ["python", "-c", ask_it])
    assert printed(cloud, name, "put") == "us-east-1\nput\n"
