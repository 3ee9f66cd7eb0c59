"""The metadata service of a machine, in particular its preemption notice."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.loopback_machines import alive, described, ended, launch, machine, on, printed

pytestmark = pytest.mark.slow


def request(cloud, instance_id, path, token=None, method="GET"):
    """Send a request to the metadata service as the machine would."""
    environment = cloud.pool.find(instance_id).setup.environment
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
    token = request(cloud, instance_id, "/latest/api/token", method="PUT")
    return request(cloud, instance_id, f"/latest/meta-data/{path}", token)


def test_preemption_is_announced(cloud):
    name = launch(cloud, "sleep 100", spot=True)
    assert facts(cloud, name, "spot/instance-action") == 404
    cloud.interrupt(name, notice_s=1.5)
    notice = json.loads(facts(cloud, name, "spot/instance-action"))
    assert notice["action"] == "terminate"
    end = datetime.strptime(notice["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert machine(cloud, name).state == "running"
    found = ended(cloud, name)
    assert timedelta(0) <= found.ended - end < timedelta(seconds=10)
    assert described(name)["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_preemption_without_notice_terminates_at_once(cloud):
    name = launch(cloud, "sleep 100", spot=True)
    pids = on(cloud, name)
    cloud.interrupt(name, notice_s=0)
    assert machine(cloud, name).state == "terminated"
    assert not alive(pids)


def test_machine_reads_its_own_metadata(cloud):
    name = launch(cloud, kind="c5.xlarge")
    found = machine(cloud, name)
    assert facts(cloud, name, "instance-id") == name
    assert facts(cloud, name, "instance-type") == "c5.xlarge"
    assert facts(cloud, name, "local-ipv4") == found.address
    assert facts(cloud, name, "placement/region") == "us-east-1"
    assert facts(cloud, name, "placement") == "availability-zone\nregion"
    assert facts(cloud, name, "instance-life-cycle") == "on-demand"
    assert facts(cloud, name, "nosuch") == 404
    assert request(cloud, name, "/latest/meta-data/instance-id") == 401


def test_botocore_on_a_machine_finds_region_and_bucket(cloud):
    code = (
        "from botocore.utils import IMDSRegionProvider; import botocore.session, boto3;"
        "print(IMDSRegionProvider(botocore.session.Session()).provide());"
        f"boto3.client('s3').put_object(Bucket='{cloud.bucket}', Key='k', Body=b'from the machine'); print('put')"
    )
    name = launch(cloud, ["python", "-c", code])
    assert printed(cloud, name, "put") == "us-east-1\nput\n"
