"""Whether the AWS account may run as many machines as are wanted: its quotas count vCPUs by family of types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from seer_nb.doctor.aws_client import client
from seer_nb.doctor.finding import Finding, brief
from seer_nb.prices import price

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.doctor.finding import Level

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
