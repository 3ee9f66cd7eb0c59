"""Checks for renting machines on Amazon EC2: credentials, API, clock, quotas and prices."""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.units import format_duration, format_money
from seer_nb.providers.aws.api import region_or_default
from seer_nb.providers.prices import price
from seer_nb.ui.cli.doctor.finding import Finding, shorten

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from seer_nb.ui.cli.doctor.finding import Level


QUOTA_CODES = {
    "standard": ("L-1216C47A", "L-34B43A08"),
    "g": ("L-DB2E81BA", "L-3819A6DF"),
    "p": ("L-417A185B", "L-7212CCBC"),
}
"""Service Quotas' codes (on demand, spot), by family of instance types."""
_FAMILY = re.compile(r"([a-z]+)\d")
_FAMILIES = {**dict.fromkeys("acdhimrtz", "standard"), "g": "g", "vt": "g", "p": "p"}
WARN_SKEW_S, MAX_SKEW_S = 60.0, 290.0
"""Seconds of clock skew that are a warning and a problem. AWS rejects requests signed five minutes off its time."""
_CONFIGURE = "run `aws configure`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def client(session: Any, service: str, region: str) -> Any:
    """Create a botocore client with short timeouts."""
    from botocore.config import Config

    config = Config(connect_timeout=4, read_timeout=8, retries={"total_max_attempts": 2, "mode": "standard"})
    return session.create_client(service, region_name=region, config=config)


def family(kind: str) -> str | None:
    """Return the quota family of an instance type; None if it is unknown."""
    letters = _FAMILY.match(kind)
    # im4gn, is4gen and the like are standard, too; inf1 and trn1 have quotas of their own.
    prefix = letters[1] if letters else ""
    return _FAMILIES.get(prefix) or ("standard" if prefix in {"im", "is"} else None)


def check_quota(session: Any, region: str, kinds: tuple[str, ...], machines: int, *, spot: bool) -> Iterator[Finding]:
    """Compare the account's quotas with the number of machines.

    Args:
        session: botocore session.
        region: AWS region.
        kinds: Instance types.
        machines: Largest number of machines of any type at once.
        spot: Whether to check the quotas of spot machines.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    for kind in kinds:
        of = family(kind)
        if of is None:
            yield Finding("quota", "warning", f"the quota that applies to {kind} is unknown", _quota_advice(region))
            continue
        try:
            quotas = client(session, "service-quotas", region)
            found = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=QUOTA_CODES[of][spot])["Quota"]["Value"]
        except (ClientError, BotoCoreError) as error:
            yield Finding(
                "quota", "warning", f"the quota of {kind} cannot be read ({shorten(error)})", _quota_advice(region)
            )
        else:
            yield from _compare(kind, region, machines, int(found))


def _compare(kind: str, region: str, machines: int, quota: int) -> Iterator[Finding]:
    try:
        vcpus = price("aws", region, kind).vcpus
    except ValueError:
        return  # the check of prices reports it
    affordable = quota // vcpus
    text = f"the quota is {quota} vCPUs of the family at once, enough for {affordable} {kind}"
    if affordable >= machines:
        yield Finding("quota", "ok", text)
    else:
        level: Level = "problem" if affordable == 0 else "warning"
        raised = f"request {machines * vcpus} vCPUs from AWS, or pass max_machines={affordable} to seer.EC2"
        advice = raised if affordable else _quota_advice(region)
        yield Finding("quota", level, text, advice)


def _quota_advice(region: str) -> str:
    return f"open Service Quotas, Amazon EC2, in {region}: new accounts often have a GPU quota of 0"


class EC2Request(NamedTuple):
    """The machines that a study would rent."""

    kinds: tuple[str, ...]
    """Instance types; the last one is the scheduler machine's."""
    machines: int
    """Largest number of machines of each type but the last."""
    spot: bool
    region: str | None


def check(request: EC2Request) -> Iterator[Finding]:
    """Check the access to EC2 without renting a machine."""
    try:
        import botocore.session
    except ImportError:
        yield Finding("cloud", "problem", "the packages for EC2 are not installed", 'pip install "seer_nb[aws]"')
        return
    try:
        region = region_or_default(request.region)
    except ValueError as error:
        yield Finding("cloud", "problem", str(error), "pass --region, or set AWS_REGION")
        return
    yield from _prices(request, region)
    session = botocore.session.get_session()
    credentials = session.get_credentials()
    if credentials is None:
        yield Finding("credentials", "problem", "no AWS credentials found", _CONFIGURE)
        return
    yield Finding("credentials", "ok", f"AWS credentials found ({credentials.method})")
    answered = yield from _api(session, region)
    if answered:
        yield from check_quota(session, region, request.kinds[:-1], request.machines, spot=request.spot)


def skew(headers: dict[str, str], now_s: float) -> Finding:
    """Compare this computer's clock with the cloud's.

    Args:
        headers: Headers of a response, with names in lower case.
        now_s: Unix seconds of this computer's clock when the response arrived.
    """
    date = headers.get("date")
    if date is None:
        return Finding("clock", "warning", "the clock could not be compared: the cloud's response has no date")
    there = parsedate_to_datetime(date)
    off_s = now_s - (there if there.tzinfo else there.replace(tzinfo=UTC)).timestamp()
    # The date has whole seconds, and the response took a moment to arrive.
    if abs(off_s) < WARN_SKEW_S:
        return Finding("clock", "ok", "this computer's clock agrees with the cloud's")
    text = f"this computer's clock is {format_duration(abs(off_s))} {'ahead of' if off_s > 0 else 'behind'} the cloud's"
    advice = "set the clock, or enable NTP: AWS rejects requests that are five minutes off"
    return Finding("clock", "problem" if abs(off_s) > MAX_SKEW_S else "warning", text, advice)


def _api(session: Any, region: str) -> Generator[Finding, None, bool]:
    """Check that EC2 answers and authorizes a request; return whether it does."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = client(session, "ec2", region).describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])
    except ClientError as error:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        yield skew(headers, time.time())
        text = f"EC2 in {region} rejects the request: {shorten(error)}"
        advice = (
            "check that the keys are valid, the clock is right, and the policy of `seer-nb iam-policy ec2` is attached"
        )
        yield Finding("api", "problem", text, advice)
        return False
    except BotoCoreError as error:
        text = f"EC2 in {region} does not answer: {shorten(error)}"
        yield Finding("api", "problem", text, "check the name of the region, and that outgoing HTTPS is allowed")
        return False
    yield skew(answer["ResponseMetadata"]["HTTPHeaders"], time.time())
    yield Finding("api", "ok", f"EC2 in {region} answers")
    if not answer["Vpcs"]:
        text = f"the account has no default VPC in {region}"
        yield Finding("network", "warning", text, "pass vpc= and subnet= to seer.EC2")
    return True


def _prices(request: EC2Request, region: str) -> Iterator[Finding]:
    for kind in request.kinds:
        try:
            found = price("aws", region, kind)
        except ValueError as error:
            yield Finding("prices", "problem", str(error))
        else:
            yield Finding(
                "prices", "ok", f"{kind} costs {format_money(found.per_hour_micro)} per hour ({found.source})"
            )
