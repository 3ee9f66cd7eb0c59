"""What EC2 refuses, and what goes wrong there when it is told to."""

import math

import pytest

from tests.support.loopback_machines import booted_after_s, ec2, ended, launch, log, machine, printed, refused, request

pytestmark = pytest.mark.slow


def test_unknown_types_are_refused(cloud):
    with refused("InvalidParameterValue") as error:
        launch(cloud, kind="m5.huge")
    assert "Invalid value 'm5.huge' for InstanceType." in str(error.info.value)
    with refused("InvalidInstanceType"):
        ec2().describe_instance_types(InstanceTypes=["m5.huge"])


def test_user_data_is_limited(cloud):
    launch(cloud, UserData="#" + "a" * 16383)
    with refused("InvalidParameterValue"):
        launch(cloud, UserData="#" + "a" * 16384)


def test_a_repeated_request_rents_nothing(cloud):
    names = {launch(cloud, ClientToken="the same") for _ in range(2)}
    assert len(names) == len(cloud.machines()) == 1


def test_a_dry_run_rents_nothing(cloud):
    with refused("DryRunOperation", 412):
        launch(cloud, DryRun=True)
    assert not cloud.machines()


def test_no_capacity_for_so_many_calls(cloud):
    cloud.faults.capacity["m5.large"] = 1
    with refused("InsufficientInstanceCapacity", 500) as error:
        ec2(attempts=1).run_instances(**request(cloud))
    # As on EC2, botocore takes it for a passing trouble of the server's and tries again, in vain.
    assert error.answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert cloud.faults.capacity["m5.large"] == 0
    assert launch(cloud)


def test_no_capacity_for_any_type_ever(cloud):
    cloud.faults.capacity["*"] = math.inf
    for kind in ("m5.large", "c5.large"):
        with refused("InsufficientInstanceCapacity", 500):
            launch(cloud, kind=kind)


def test_no_capacity_for_spot_machines_only(cloud):
    cloud.faults.spot_capacity["m5.large"] = math.inf
    with refused("InsufficientInstanceCapacity", 500):
        launch(cloud, spot=True)
    assert launch(cloud)


def test_throttling_is_survived_by_trying_again(cloud):
    cloud.faults.throttle = 1
    with refused("RequestLimitExceeded", 503):
        ec2().describe_vpcs()
    cloud.faults.throttle = 2
    answer = ec2(attempts=3).describe_vpcs(VpcIds=[cloud.vpc])
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2
    assert cloud.faults.throttle == 0


def test_slow_and_dead_boots(cloud):
    cloud.faults.slow_boot_s = 1.0
    cloud.faults.slow_boots = cloud.faults.dead_boots = 1
    dead, slow, good = (launch(cloud, "echo up") for _ in range(3))
    printed(cloud, good, "up")
    printed(cloud, slow, "up")
    assert booted_after_s(cloud, slow) >= 1.0
    assert log(cloud, dead) == ""
    assert machine(cloud, dead).state == "running"


def prices(**asked):
    rows = ec2().describe_spot_price_history(**asked)["SpotPriceHistory"]
    return {(row["InstanceType"], float(row["SpotPrice"])) for row in rows}


def test_spot_prices(cloud):
    cloud.faults.spot_prices["m5.large"] = 0.04
    assert prices(InstanceTypes=["m5.large"]) == {("m5.large", 0.04)}
    filters = [
        {"Name": "instance-type", "Values": ["g5.xlarge"]},
        {"Name": "availability-zone", "Values": ["us-east-1a"]},
    ]
    assert prices(Filters=filters, ProductDescriptions=["Linux/UNIX"]) == {("g5.xlarge", 0.31)}
    assert prices(InstanceTypes=["m5.large"], ProductDescriptions=["Windows"]) == set()


def test_a_spot_machine_is_interrupted_when_its_price_rises(cloud):
    cloud.faults.spot_prices["m5.large"] = 0.04
    with refused("SpotMaxPriceTooLow"):
        launch(cloud, spot=True, max_price=0.03)
    cheap, dear = launch(cloud, spot=True, max_price=0.05), launch(cloud, spot=True)
    cloud.faults.spot_notice_s = 0.2
    cloud.faults.spot_prices["m5.large"] = 0.06
    ended(cloud, cheap)
    assert machine(cloud, dear).state == "running"
