"""The commands about clouds: ``seer-nb machines`` and ``seer-nb prices``."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import one_line
from seer_nb._utils.units import format_duration, format_money
from seer_nb.errors import SeerError
from seer_nb.providers import prices
from seer_nb.providers.prices import tables
from seer_nb.providers.prices.price import PROVIDERS
from seer_nb.providers.prices.refresh import CLOUDS

if TYPE_CHECKING:
    import argparse

    from seer_nb.providers.aws.api import Group, Instance
    from seer_nb.providers.prices.price import Price
    from seer_nb.providers.prices.refresh import Refreshed


class RentedMachine(NamedTuple):
    """A machine that runs on EC2."""

    instance: Instance
    price_per_hour_micro: int | None
    """On-demand price in micro-dollars per hour; None if unknown."""


def confirm(question: str) -> bool:
    """Ask a question on the terminal; return whether the answer is yes."""
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


# --- seer-nb machines ---


def add_machines(commands: Any) -> None:
    """Add the subcommand ``machines``."""
    parser = commands.add_parser("machines", help="list the EC2 machines of all studies, and terminate them")
    parser.add_argument("--region", default=None, help="AWS region; default: the region in boto's configuration")
    parser.add_argument("--study", default=None, help="name of a study; default: all studies")
    parser.add_argument("--terminate", action="store_true", help="terminate the listed machines after a confirmation")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.set_defaults(run=_run_machines)


def list_machines(region: str | None = None, study: str | None = None) -> list[RentedMachine]:
    """Return the running machines of one study or of all studies, the oldest first.

    Args:
        region: AWS region. Default: the region in boto's configuration.
        study: Name of a study. Default: all studies.

    Raises:
        SeerError: dask-cloudprovider is not installed.
        ValueError: No region is given or configured.
    """
    found = asyncio.run(_list_machines(region))
    chosen = [machine for machine in found if study in {None, machine.instance.study}]
    return sorted(chosen, key=lambda machine: machine.instance.launched)


def list_groups(region: str | None = None, study: str | None = None) -> list[Group]:
    """Return the security groups of one study or of all studies; they cost nothing, but an account has few.

    Args:
        region: AWS region. Default: the region in boto's configuration.
        study: Name of a study. Default: all studies.

    Raises:
        SeerError: dask-cloudprovider is not installed.
        ValueError: No region is given or configured.
    """
    return sorted(group for group in asyncio.run(_list_groups(region)) if study in {None, group.study})


def terminate_machines(machines: list[RentedMachine], region: str | None = None) -> None:
    """Terminate machines. Stop a running study first; otherwise its runner rents other machines.

    Args:
        machines: Machines from ``list_machines``.
        region: Region of the machines. Default: the region in boto's configuration.
    """
    asyncio.run(_terminate([machine.instance.ident for machine in machines], region))


def delete_groups(groups: list[Group], region: str | None = None) -> list[Group]:
    """Delete security groups, after waiting a while for the end of their machines.

    Args:
        groups: Groups from ``list_groups``.
        region: Region of the groups. Default: the region in boto's configuration.

    Returns:
        The groups that could not be deleted.
    """
    return asyncio.run(_delete_groups(groups, region))


async def _list_machines(region: str | None) -> list[RentedMachine]:
    from seer_nb.providers.aws import api
    from seer_nb.providers.aws.api import ec2_client, region_or_default
    from seer_nb.providers.prices import price

    region = region_or_default(region)
    async with ec2_client(region) as client:
        instances = await api.list_study_instances(client)
    found = []
    for instance in instances.values():
        try:
            per_hour = price("aws", region, instance.kind).per_hour_micro
        except ValueError:
            per_hour = None
        found.append(RentedMachine(instance, per_hour))
    return found


async def _terminate(instances: list[str], region: str | None) -> None:
    from seer_nb.providers.aws.api import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        await client.terminate_instances(InstanceIds=instances)


async def _list_groups(region: str | None) -> list[Group]:
    from seer_nb.providers.aws import api
    from seer_nb.providers.aws.api import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        return await api.list_study_groups(client)


async def _delete_groups(groups: list[Group], region: str | None) -> list[Group]:
    from seer_nb.providers.aws import api
    from seer_nb.providers.aws.api import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        deleted = await asyncio.gather(*(api.delete_group(client, group.ident) for group in groups))
    return [group for group, is_deleted in zip(groups, deleted, strict=True) if not is_deleted]


def _run_machines(options: argparse.Namespace) -> int:
    machines = list_machines(options.region, options.study)
    groups = list_groups(options.region, options.study)
    in_use = {machine.instance.study_ident for machine in machines}
    unused = [group for group in groups if group.study_ident not in in_use]
    sys.stdout.write(_table(machines) if machines else "no machine of a study is running\n")
    for group in unused:
        sys.stdout.write(f"security group {group.ident} of study {one_line(group.study)} is left over\n")
    if not options.terminate or not (machines or unused):
        return 0
    what = " and ".join(filter(None, (_count(len(machines), "machine"), _count(len(unused), "security group"))))
    if not options.yes and not confirm(f"terminate {what}?"):
        sys.stdout.write("nothing was terminated\n")
        return 1
    return _terminate_all(machines, groups, options.region)


def _terminate_all(machines: list[RentedMachine], groups: list[Group], region: str | None) -> int:
    if machines:
        terminate_machines(machines, region)
        sys.stdout.write(f"terminating {_count(len(machines), 'machine')}\n")
    remaining = delete_groups(groups, region)
    for group in remaining:
        sys.stdout.write(f"security group {group.ident} is still in use: try again later\n")
    if len(remaining) < len(groups):
        sys.stdout.write(f"deleted {_count(len(groups) - len(remaining), 'security group')}\n")
    return 1 if remaining else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""


def _table(machines: list[RentedMachine]) -> str:
    import pandas as pd

    now = datetime.now(UTC)
    rows = [
        {
            # A tag that anyone with write access to the account may have set.
            "study": one_line(machine.instance.study),
            "machine": machine.instance.machine,
            "instance": machine.instance.ident,
            "type": machine.instance.kind + (" spot" if machine.instance.spot else ""),
            "state": machine.instance.state,
            "age": format_duration((now - machine.instance.launched).total_seconds()),
            "per hour": "unknown"
            if machine.price_per_hour_micro is None
            else format_money(machine.price_per_hour_micro),
        }
        for machine in machines
    ]
    per_hour = format_money(sum(machine.price_per_hour_micro or 0 for machine in machines))
    total = f"{len(rows)} machines, {per_hour} per hour on demand, without disks and addresses"
    return f"{pd.DataFrame(rows).to_string(index=False)}\n{total}\n"


# --- seer-nb prices ---


def add_prices(commands: Any) -> None:
    """Add the subcommand ``prices``."""
    parser = commands.add_parser("prices", help="print the prices of machines, or refresh them")
    parser.add_argument("--provider", default=None, choices=PROVIDERS, help="name of the provider; default: all")
    parser.add_argument("--region", default=None, help="region of the provider; default: all")
    parser.add_argument("--type", default=None, metavar="TYPE", help='instance type, or a pattern such as "g5.*"')
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="first download prices from AWS, Azure and GCP, and store them in prices.csv",
    )
    parser.set_defaults(run=_run_prices)


def _run_prices(options: argparse.Namespace) -> int:
    if options.refresh:
        _refresh(options)
    frame = prices.sheet(options.provider, options.region)
    if options.type is not None:
        frame = frame[[fnmatch(name, options.type) for name in frame["instance_type"]]]
    if frame.empty:
        _raise_no_price(options)
    filled = frame.dropna(axis="columns", how="all")
    sys.stdout.write(filled.to_string(index=False, na_rep="", float_format=_plain) + "\n")
    return 0


def _plain(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _refresh(options: argparse.Namespace) -> None:
    if options.provider not in {None, *CLOUDS}:
        raise ValueError(
            f"--provider={options.provider}: has no price API to refresh from; expected {', '.join(CLOUDS)}"
        )
    known = list(tables.all_prices().values())
    providers = [options.provider] if options.provider else _matching_providers(options, known)
    done = []
    for provider in providers:
        try:
            done.append(_refresh_one(provider, options, [price for price in known if price.provider == provider]))
        except SeerError as error:
            if len(providers) == 1:
                raise
            # One provider with credentials is enough.
            sys.stderr.write(f"{CLOUDS[provider]} was not refreshed: {error}\n")
    if not done:
        raise SeerError("no prices were refreshed")
    sys.stderr.writelines(f"{refreshed.kept}\n" for refreshed in done if refreshed.kept)
    sys.stderr.write(f"written: {done[0].path}\n")


def _matching_providers(options: argparse.Namespace, known: list[Price]) -> list[str]:
    """Return the providers with matching machines; AWS for an unknown type, because only AWS also returns its size."""
    matching = {
        price.provider
        for price in known
        if options.region in {None, price.region} and fnmatch(price.instance_type, options.type or "*")
    }
    return [provider for provider in CLOUDS if provider in matching] or ["aws"]


def _refresh_one(provider: str, options: argparse.Namespace, known: list[Price]) -> Refreshed:
    pattern = options.type or "*"
    types = {price.instance_type for price in known if fnmatch(price.instance_type, pattern)}
    refreshed: Refreshed = importlib.import_module(f"seer_nb.providers.prices.{provider}").refresh(
        [options.region] if options.region else {price.region for price in known},
        # An unknown type is requested by its name.
        types or {pattern},
    )
    return refreshed


def _raise_no_price(options: argparse.Namespace) -> None:
    """Raise ValueError, with the nearest known names if all three options are given."""
    if options.provider and options.region and options.type:
        prices.price(options.provider, options.region, options.type)
    options_given = {"--provider": options.provider, "--region": options.region, "--type": options.type}
    given = " ".join(f"{name} {value}" for name, value in options_given.items() if value is not None)
    raise ValueError(f"no price is known for {given}; seer-nb prices without options lists all known prices")


def add_iam_policy(commands: Any) -> None:
    """Add the subcommand ``iam-policy``."""
    parser = commands.add_parser("iam-policy", help="print the IAM policy that seer_nb needs on AWS")
    parser.add_argument("provider", choices=("ec2",))
    parser.add_argument("--store", default=None, metavar="URL", help="S3 folder for checkpoints: s3://bucket/prefix")
    parser.add_argument("--role", default=None, help="role in the machines' instance profile, by name or ARN")
    parser.add_argument("--machine", action="store_true", help="print the policy for that role; requires --store")
    parser.set_defaults(run=_run_iam_policy)


def _run_iam_policy(options: argparse.Namespace) -> int:
    from seer_nb.providers.aws import iam

    if options.machine and (options.store is None or options.role is not None):
        raise ValueError("--machine: prints the machines' access to the store; expected --store and no --role")
    document = (
        iam.machine_policy(options.store)
        if options.machine
        else iam.policy(options.provider, options.store, role=options.role)
    )
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0
