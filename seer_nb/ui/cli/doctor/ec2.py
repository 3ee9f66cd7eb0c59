"""Whether machines can be rented on Amazon EC2: credentials, its API, the clock, quotas, prices, our own address."""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.units import format_duration, format_money
from seer_nb.providers.aws.api import region_or_default
from seer_nb.providers.prices import price
from seer_nb.ui.cli.doctor.finding import Finding, brief

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from seer_nb.ui.cli.doctor.finding import Level


def client(session: Any, service: str, region: str) -> Any:
    """One that gives up soon."""
    from botocore.config import Config

    config = Config(connect_timeout=4, read_timeout=8, retries={"total_max_attempts": 2, "mode": "standard"})
    return session.create_client(service, region_name=region, config=config)


CODES = {
    "standard": ("L-1216C47A", "L-34B43A08"),
    "g": ("L-DB2E81BA", "L-3819A6DF"),
    "p": ("L-417A185B", "L-7212CCBC"),
}
"""(on demand, spot) of each family, as Service Quotas calls them."""
_FAMILY = re.compile(r"([a-z]+)\d")
_FAMILIES = {**dict.fromkeys("acdhimrtz", "standard"), "g": "g", "vt": "g", "p": "p"}


def family(kind: str) -> str | None:
    """Under which quota a type of instance falls; None where that is not known."""
    letters = _FAMILY.match(kind)
    # im4gn, is4gen and the like are standard ones, too; inf1 and trn1 have quotas of their own.
    named = letters[1] if letters else ""
    return _FAMILIES.get(named) or ("standard" if named in {"im", "is"} else None)


def check_quota(session: Any, region: str, kinds: tuple[str, ...], machines: int, *, spot: bool) -> Iterator[Finding]:
    """Compare what the account may run with what is wanted.

    Args:
        session: botocore's.
        region: Of AWS.
        kinds: Instance types.
        machines: The most at once of any of them.
        spot: Whether they are spot machines.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    for kind in kinds:
        of = family(kind)
        if of is None:
            yield Finding("quota", "warning", f"which quota {kind} falls under is not known here", _look(region))
            continue
        try:
            asked = client(session, "service-quotas", region)
            found = asked.get_service_quota(ServiceCode="ec2", QuotaCode=CODES[of][spot])["Quota"]["Value"]
        except (ClientError, BotoCoreError) as error:
            yield Finding(
                "quota", "warning", f"the quota of {kind} may not be looked up ({brief(error)})", _look(region)
            )
        else:
            yield from _compared(kind, region, machines, int(found))


def _compared(kind: str, region: str, machines: int, quota: int) -> Iterator[Finding]:
    try:
        vcpus = price("aws", region, kind).vcpus
    except ValueError:
        return  # told already, with the prices
    room = quota // vcpus
    text = f"the account may run {quota} vCPUs of its family at once, which is {room} {kind}"
    if room >= machines:
        yield Finding("quota", "ok", text)
    else:
        level: Level = "problem" if room == 0 else "warning"
        advice = f"ask AWS for {machines * vcpus}, or give max_machines={room} to seer.EC2" if room else _look(region)
        yield Finding("quota", level, text, advice)


def _look(region: str) -> str:
    return f"look at Service Quotas, Amazon EC2, in {region}: a new account often may run none with a GPU"


SKEW_S, MOST_SKEW_S = 60.0, 290.0
"""AWS refuses requests that are signed five minutes before or after its own time."""
_CONFIGURE = "run `aws configure`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class Wanted(NamedTuple):
    """What would be rented."""

    kinds: tuple[str, ...]
    """Instance types, and last that of the scheduler's machine."""
    machines: int
    """The most at once, of any type but the last."""
    spot: bool
    region: str | None


def check(wanted: Wanted) -> Iterator[Finding]:
    """Ask AWS, without renting anything."""
    try:
        import botocore.session
    except ImportError:
        yield Finding("cloud", "problem", "what EC2 needs is not installed", 'pip install "seer_nb[aws]"')
        return
    try:
        region = region_or_default(wanted.region)
    except ValueError as error:
        yield Finding("cloud", "problem", str(error), "--region, or AWS_REGION")
        return
    yield from _prices(wanted, region)
    session = botocore.session.get_session()
    credentials = session.get_credentials()
    if credentials is None:
        yield Finding("credentials", "problem", "no credentials of AWS were found", _CONFIGURE)
        return
    yield Finding("credentials", "ok", f"found by {credentials.method}")
    answered = yield from _api(session, region)
    if answered:
        yield from check_quota(session, region, wanted.kinds[:-1], wanted.machines, spot=wanted.spot)


def skew(headers: dict[str, str], now_s: float) -> Finding:
    """How far this computer's clock is from the one that answered.

    Args:
        headers: Of the answer, in small letters.
        now_s: Unix seconds here when it came.
    """
    told = headers.get("date")
    if told is None:
        return Finding("clock", "warning", "the cloud's answer has no date, so the clock could not be compared")
    there = parsedate_to_datetime(told)
    off_s = now_s - (there if there.tzinfo else there.replace(tzinfo=UTC)).timestamp()
    # The date is told in whole seconds, and was on its way for a moment.
    if abs(off_s) < SKEW_S:
        return Finding("clock", "ok", "this computer's clock agrees with the cloud's")
    text = f"this computer's clock is {format_duration(abs(off_s))} {'ahead of' if off_s > 0 else 'behind'} the cloud's"
    advice = "set it, or switch NTP on: AWS refuses requests that are five minutes off"
    return Finding("clock", "problem" if abs(off_s) > MOST_SKEW_S else "warning", text, advice)


def _api(session: Any, region: str) -> Generator[Finding, None, bool]:
    """Whether EC2 answers, and lets us look; returns whether it answered."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = client(session, "ec2", region).describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])
    except ClientError as error:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        yield skew(headers, time.time())
        text = f"EC2 in {region} refuses: {brief(error)}"
        advice = "see that the keys are valid, the clock is right, and `seer-nb iam-policy ec2` is allowed to them"
        yield Finding("api", "problem", text, advice)
        return False
    except BotoCoreError as error:
        text = f"EC2 in {region} does not answer: {brief(error)}"
        yield Finding(
            "api", "problem", text, "see that the region's name is right, and that HTTPS is let out from here"
        )
        return False
    yield skew(answer["ResponseMetadata"]["HTTPHeaders"], time.time())
    yield Finding("api", "ok", f"EC2 in {region} answers")
    if not answer["Vpcs"]:
        text = f"the account has no default VPC in {region}"
        yield Finding("network", "warning", text, "give vpc= and subnet= to seer.EC2")
    return True


def _prices(wanted: Wanted, region: str) -> Iterator[Finding]:
    for kind in wanted.kinds:
        try:
            found = price("aws", region, kind)
        except ValueError as error:
            yield Finding("prices", "problem", str(error))
        else:
            yield Finding("prices", "ok", f"{kind} is {format_money(found.per_hour)} an hour ({found.source})")
