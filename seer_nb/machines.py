"""``seer-nb machines``: what is rented for any study, in whatever state its runner is, and how to end it."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb.core.units import format_duration, format_money

if TYPE_CHECKING:
    import argparse

    from seer_nb.providers.ec2_instances import Instance


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


def terminate(machines: list[Rented], region: str | None = None) -> None:
    """End machines. A study whose runner lives rents others if its plan wants them: stop it first.

    Args:
        machines: As ``living`` gives them.
        region: Theirs.
    """
    asyncio.run(_terminate([rented.instance.ident for rented in machines], region))


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


def _run(options: argparse.Namespace) -> int:
    machines = living(options.region, options.study)
    if not machines:
        sys.stdout.write("no machine of a study lives here\n")
        return 0
    sys.stdout.write(_table(machines))
    if not options.terminate:
        return 0
    if not options.yes and not _agreed(len(machines)):
        sys.stdout.write("nothing was ended\n")
        return 1
    terminate(machines, options.region)
    sys.stdout.write(f"told {len(machines)} to end\n")
    return 0


def _table(machines: list[Rented]) -> str:
    import pandas as pd

    now = datetime.now(UTC)
    rows = [
        {
            "study": rented.instance.study,
            "machine": rented.instance.machine,
            "instance": rented.instance.ident,
            "type": rented.instance.kind + (" spot" if rented.instance.spot else ""),
            "state": rented.instance.state,
            "age": format_duration((now - rented.instance.launched).total_seconds()),
            "per hour": "unknown" if rented.per_hour is None else format_money(rented.per_hour),
        }
        for rented in machines
    ]
    total = sum(rented.per_hour or 0 for rented in machines)
    return f"{pd.DataFrame(rows).to_string(index=False)}\n{len(rows)} machines, {format_money(total)} per hour\n"


def _agreed(count: int) -> bool:
    sys.stdout.write(f"end {count} machines? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
