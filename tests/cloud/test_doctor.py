"""``seer-nb doctor --provider ec2`` asks a cloud that answers, refuses, or is not there."""

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from moto.servicequotas.models import ServiceQuotasBackend

from seer_nb.ui.cli.doctor import ec2, local

HOST = "t3.small"


def found(kind="m5.large", machines=2, *, spot=False, region=None):
    checked = ec2.check(ec2.EC2Request((kind, HOST), machines, spot, region))
    return {finding.check: finding for finding in checked if not finding.text.startswith(HOST)}


@pytest.fixture
def vcpus(cloud, monkeypatch):
    """Sets the account's quota, which moto itself does not have."""

    def give(number):
        def answer(self, service_code, quota_code):
            return {"QuotaCode": quota_code, "ServiceCode": service_code, "Value": float(number)}

        monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", answer)

    return give


def levels(told):
    return {name: finding.level for name, finding in told.items()}


def test_a_cloud_where_all_is_well(cloud, vcpus):
    vcpus(4)
    told = found()
    assert levels(told) == dict.fromkeys(("prices", "credentials", "clock", "api", "quota"), "ok")
    assert told["quota"].text == "the quota is 4 vCPUs of the family at once, enough for 2 m5.large"
    assert told["credentials"].text == "AWS credentials found (env)"


@pytest.mark.parametrize(("vcpus_allowed", "level"), [(0, "problem"), (2, "warning"), (4, "ok")])
def test_a_quota(vcpus_allowed, level, vcpus):
    vcpus(vcpus_allowed)
    assert found()["quota"].level == level


def test_a_quota_that_may_not_be_looked_up(cloud):
    told = found()["quota"]
    assert told.level == "warning"
    assert "cannot be read" in told.text
    assert "Service Quotas" in told.advice


def test_families_of_types():
    assert [ec2.family(kind) for kind in ("m5.large", "g4dn.xlarge", "p4d.24xlarge", "im4gn.large", "inf1.xlarge")] == [
        *("standard", "g", "p", "standard"),
        None,
    ]


def test_keys_that_are_refused(cloud, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODYELSE")
    told = found()
    assert (told["api"].level, "quota" in told) == ("problem", False)
    assert "AuthFailure" in told["api"].text


def test_a_cloud_that_is_not_there(cloud, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    told = found()
    assert time.monotonic() - began < 15
    assert told["api"].level == "problem"
    assert "does not answer" in told["api"].text


def test_no_credentials_no_region(cloud, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert found()["credentials"].level == "problem"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert "region=None" in found()["cloud"].text


def test_a_type_without_a_price(cloud):
    told = found("m5.huge")["prices"]
    assert told.level == "problem"
    assert "no price is known for instance_type='m5.huge'" in told.text


@pytest.mark.parametrize(("off_s", "level"), [(0, "ok"), (-120, "warning"), (400, "problem")])
def test_a_clock(off_s, level):
    now = 1_800_000_000.0
    told = ec2.skew({"date": format_datetime(datetime.fromtimestamp(now - off_s, UTC), usegmt=True)}, now)
    assert told.level == level
    assert ("ahead of" in told.text) == (off_s > 0)


def test_the_store_of_a_cloud(cloud):
    (fine,) = local.check_store_url(cloud.store)
    assert fine.level == "ok", fine
    (problem,) = local.check_store_url("s3://no-such-bucket-here/x")
    assert problem.level == "problem"
