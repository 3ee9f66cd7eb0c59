"""``seer-nb machines``: what is rented for any study, in whatever state its runner is, and how to end it."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.core.units import format_duration, format_money, one_line

if TYPE_CHECKING:
    import argparse

    from seer_nb.providers.ec2_instances import Instance
    from seer_nb.providers.ec2_network import Group


class Rented(NamedTuple):
    """A machine that lives."""

    instance: Instance
    per_hour: int | None
    """Micro-dollars on demand; None if no price of it is known."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("machines", help="list the machines on EC2 that any study rents, and end them")
    parser.add_argument("--region", default=None, help="default: as boto is configured")
    parser.add_argument("--study", default=None, help="only this study's")
    parser.add_argument("--terminate", action="store_true", help="end those that are listed, after asking")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_run)


def living(region: str | None = None, study: str | None = None) -> list[Rented]:
    """The machines that live, of all studies or of one, the oldest first.

    Args:
        region: Of AWS. Default: as boto is configured.
        study: Its name.

    Raises:
        SeerError: dask-cloudprovider is not installed.
        ValueError: No region is given or configured.
    """
    found = asyncio.run(_living(region))
    chosen = [rented for rented in found if study in {None, rented.instance.study}]
    return sorted(chosen, key=lambda rented: rented.instance.launched)


def groups(region: str | None = None, study: str | None = None) -> list[Group]:
    """The security groups that were made for any study, or for one: they cost nothing, but an account has few.

    Args:
        region: Of AWS. Default: as boto is configured.
        study: Its name.

    Raises:
        SeerError: dask-cloudprovider is not installed.
        ValueError: No region is given or configured.
    """
    return sorted(group for group in asyncio.run(_groups(region)) if study in {None, group.study})


def terminate(machines: list[Rented], region: str | None = None) -> None:
    """End machines. A study whose runner lives rents others if its plan wants them: stop it first.

    Args:
        machines: As ``living`` gives them.
        region: Theirs.
    """
    asyncio.run(_terminate([rented.instance.ident for rented in machines], region))


def drop(found: list[Group], region: str | None = None) -> list[Group]:
    """Delete security groups; waits for a while until their machines have gone.

    Args:
        found: As ``groups`` gives them.
        region: Theirs.

    Returns:
        Those that could not be deleted.
    """
    return asyncio.run(_drop(found, region))


async def _living(region: str | None) -> list[Rented]:
    from seer_nb.prices import price
    from seer_nb.providers import ec2_instances
    from seer_nb.providers.aws import ec2_client, region_or_default

    region = region_or_default(region)
    async with ec2_client(region) as client:
        instances = await ec2_instances.of_all_studies(client)
    found = []
    for instance in instances.values():
        try:
            per_hour = price("aws", region, instance.kind).per_hour
        except ValueError:
            per_hour = None
        found.append(Rented(instance, per_hour))
    return found


async def _terminate(instances: list[str], region: str | None) -> None:
    from seer_nb.providers.aws import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        await client.terminate_instances(InstanceIds=instances)


async def _groups(region: str | None) -> list[Group]:
    from seer_nb.providers import ec2_network
    from seer_nb.providers.aws import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        return await ec2_network.groups_of_all_studies(client)


async def _drop(found: list[Group], region: str | None) -> list[Group]:
    from seer_nb.providers import ec2_network
    from seer_nb.providers.aws import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        gone = await asyncio.gather(*(ec2_network.drop_group(client, group.ident) for group in found))
    return [group for group, has_gone in zip(found, gone, strict=True) if not has_gone]


def _run(options: argparse.Namespace) -> int:
    machines = living(options.region, options.study)
    made = groups(options.region, options.study)
    in_use = {rented.instance.study_ident for rented in machines}
    left = [group for group in made if group.study_ident not in in_use]
    sys.stdout.write(_table(machines) if machines else "no machine of a study lives here\n")
    for group in left:
        sys.stdout.write(f"security group {group.ident} of study {one_line(group.study)} was left behind\n")
    if not options.terminate or not (machines or left):
        return 0
    what = " and ".join(filter(None, (_count(len(machines), "machine"), _count(len(left), "security group"))))
    if not options.yes and not _agreed(what):
        sys.stdout.write("nothing was ended\n")
        return 1
    return _end(machines, made, options.region)


def _end(machines: list[Rented], made: list[Group], region: str | None) -> int:
    if machines:
        terminate(machines, region)
        sys.stdout.write(f"told {len(machines)} to end\n")
    stay = drop(made, region)
    for group in stay:
        sys.stdout.write(f"security group {group.ident} is still in use: try again later\n")
    if len(stay) < len(made):
        sys.stdout.write(f"deleted {_count(len(made) - len(stay), 'security group')}\n")
    return 1 if stay else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""


def _table(machines: list[Rented]) -> str:
    import pandas as pd

    now = datetime.now(UTC)
    rows = [
        {
            # A tag, which anybody may have written who can write to the account.
            "study": one_line(rented.instance.study),
            "machine": rented.instance.machine,
            "instance": rented.instance.ident,
            "type": rented.instance.kind + (" spot" if rented.instance.spot else ""),
            "state": rented.instance.state,
            "age": format_duration((now - rented.instance.launched).total_seconds()),
            "per hour": "unknown" if rented.per_hour is None else format_money(rented.per_hour),
        }
        for rented in machines
    ]
    per_hour = format_money(sum(rented.per_hour or 0 for rented in machines))
    total = f"{len(rows)} machines, {per_hour} per hour on demand, disks and addresses apart"
    return f"{pd.DataFrame(rows).to_string(index=False)}\n{total}\n"


def _agreed(what: str) -> bool:
    sys.stdout.write(f"end {what}? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
