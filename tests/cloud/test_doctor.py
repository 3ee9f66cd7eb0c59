"""``seer-nb doctor --provider ec2`` against a cloud that answers, refuses, or does not exist."""

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from moto.servicequotas.models import ServiceQuotasBackend

from seer_nb.ui.cli.doctor import ec2, local

pytestmark = pytest.mark.slow

HOST = "t3.small"


def found(kind="m5.large", machines=2, *, spot=False, region=None):
    checked = ec2.check(ec2.EC2Request((kind, HOST), machines, spot, region))
    return {finding.check: finding for finding in checked if not finding.text.startswith(HOST)}


@pytest.fixture
def vcpus(cloud, monkeypatch):
    """Return a function that sets the account's quota, which moto lacks."""

    def give(number):
        def answer(self, service_code, quota_code):
            return {"QuotaCode": quota_code, "ServiceCode": service_code, "Value": float(number)}

        monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", answer)

    return give


def levels(findings):
    return {name: finding.level for name, finding in findings.items()}


def test_working_cloud_has_no_problems(cloud, vcpus):
    vcpus(4)
    findings = found()
    assert levels(findings) == dict.fromkeys(("prices", "credentials", "clock", "api", "quota"), "ok")
    assert findings["quota"].text == "the quota is 4 vCPUs of the family at once, enough for 2 m5.large"
    assert findings["credentials"].text == "AWS credentials found (env)"


@pytest.mark.parametrize(("vcpus_allowed", "level"), [(0, "problem"), (2, "warning"), (4, "ok")])
def test_quota_is_compared_with_the_machines(vcpus_allowed, level, vcpus):
    vcpus(vcpus_allowed)
    assert found()["quota"].level == level


def test_quota_that_cannot_be_read_is_a_warning(cloud):
    findings = found()["quota"]
    assert findings.level == "warning"
    assert "cannot be read" in findings.text
    assert "Service Quotas" in findings.advice


def test_instance_types_belong_to_quota_families():
    assert [ec2.family(kind) for kind in ("m5.large", "g4dn.xlarge", "p4d.24xlarge", "im4gn.large", "inf1.xlarge")] == [
        *("standard", "g", "p", "standard"),
        None,
    ]


def test_refused_credentials_are_a_problem(cloud, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODYELSE")
    findings = found()
    assert (findings["api"].level, "quota" in findings) == ("problem", False)
    assert "AuthFailure" in findings["api"].text


def test_unreachable_cloud_is_a_problem(cloud, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    findings = found()
    assert time.monotonic() - began < 15
    assert findings["api"].level == "problem"
    assert "does not answer" in findings["api"].text


def test_missing_credentials_and_region_are_problems(cloud, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert found()["credentials"].level == "problem"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert "region=None" in found()["cloud"].text


def test_type_without_a_price_is_a_problem(cloud):
    findings = found("m5.huge")["prices"]
    assert findings.level == "problem"
    assert "instance_type='m5.huge': no price is known" in findings.text


@pytest.mark.parametrize(("off_s", "level"), [(0, "ok"), (-120, "warning"), (400, "problem")])
def test_wrong_clock_is_reported(off_s, level):
    now = 1_800_000_000.0
    findings = ec2.skew({"date": format_datetime(datetime.fromtimestamp(now - off_s, UTC), usegmt=True)}, now)
    assert findings.level == level
    assert ("ahead of" in findings.text) == (off_s > 0)


def test_store_is_checked(cloud):
    (fine,) = local.check_store_url(cloud.store)
    assert fine.level == "ok", fine
    (problem,) = local.check_store_url("s3://no-such-bucket-here/x")
    assert problem.level == "problem"
