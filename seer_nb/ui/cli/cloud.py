"""``seer-nb machines``: what is rented for any study, in whatever state its runner is, and how to end it."""

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


class Rented(NamedTuple):
    """A machine that lives."""

    instance: Instance
    per_hour: int | None
    """Micro-dollars on demand; None if no price of it is known."""


def add_machines(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("machines", help="list the machines on EC2 that any study rents, and end them")
    parser.add_argument("--region", default=None, help="default: as boto is configured")
    parser.add_argument("--study", default=None, help="only this study's")
    parser.add_argument("--terminate", action="store_true", help="end those that are listed, after asking")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_run_machines)


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
    from seer_nb.providers.aws import api
    from seer_nb.providers.aws.api import ec2_client, region_or_default
    from seer_nb.providers.prices import price

    region = region_or_default(region)
    async with ec2_client(region) as client:
        instances = await api.of_all_studies(client)
    found = []
    for instance in instances.values():
        try:
            per_hour = price("aws", region, instance.kind).per_hour
        except ValueError:
            per_hour = None
        found.append(Rented(instance, per_hour))
    return found


async def _terminate(instances: list[str], region: str | None) -> None:
    from seer_nb.providers.aws.api import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        await client.terminate_instances(InstanceIds=instances)


async def _groups(region: str | None) -> list[Group]:
    from seer_nb.providers.aws import api
    from seer_nb.providers.aws.api import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        return await api.groups_of_all_studies(client)


async def _drop(found: list[Group], region: str | None) -> list[Group]:
    from seer_nb.providers.aws import api
    from seer_nb.providers.aws.api import ec2_client, region_or_default

    async with ec2_client(region_or_default(region)) as client:
        gone = await asyncio.gather(*(api.drop_group(client, group.ident) for group in found))
    return [group for group, has_gone in zip(found, gone, strict=True) if not has_gone]


def _run_machines(options: argparse.Namespace) -> int:
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


def add_prices(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("prices", help="print what machines cost, or refresh the prices")
    parser.add_argument("--provider", default=None, choices=PROVIDERS, help="default: all")
    parser.add_argument("--region", default=None, help="as the provider calls it; default: all")
    parser.add_argument("--type", default=None, metavar="TYPE", help='instance type, or a pattern such as "g5.*"')
    parser.add_argument(
        "--refresh", action="store_true", help="first ask AWS, Azure and GCP, and keep their answers in prices.csv"
    )
    parser.set_defaults(run=_run_prices)


def _run_prices(options: argparse.Namespace) -> int:
    if options.refresh:
        _refresh(options)
    frame = prices.sheet(options.provider, options.region)
    if options.type is not None:
        frame = frame[[fnmatch(name, options.type) for name in frame["instance_type"]]]
    if frame.empty:
        _say_why(options)
    # A column that no row fills would only take room.
    told = frame.dropna(axis="columns", how="all")
    sys.stdout.write(told.to_string(index=False, na_rep="", float_format=_plain) + "\n")
    return 0


def _plain(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _refresh(options: argparse.Namespace) -> None:
    if options.provider not in {None, *CLOUDS}:
        raise ValueError(f"--refresh asks {', '.join(CLOUDS.values())}: it knows no price API of {options.provider}")
    known = list(tables.known().values())
    asked = [options.provider] if options.provider else _meant(options, known)
    done = []
    for provider in asked:
        try:
            done.append(_ask(provider, options, [price for price in known if price.provider == provider]))
        except SeerError as error:
            if len(asked) == 1:
                raise
            # Credentials for one of them are enough.
            sys.stderr.write(f"{CLOUDS[provider]} was not refreshed: {error}\n")
    if not done:
        raise SeerError("no prices were refreshed")
    sys.stderr.writelines(f"{refreshed.kept}\n" for refreshed in done if refreshed.kept)
    sys.stderr.write(f"written: {done[0].path}\n")


def _meant(options: argparse.Namespace, known: list[Price]) -> list[str]:
    """The providers that have such machines; AWS for one that is not known, for only AWS tells the size of it, too."""
    having = {
        price.provider
        for price in known
        if options.region in {None, price.region} and fnmatch(price.instance_type, options.type or "*")
    }
    return [provider for provider in CLOUDS if provider in having] or ["aws"]


def _ask(provider: str, options: argparse.Namespace, known: list[Price]) -> Refreshed:
    pattern = options.type or "*"
    types = {price.instance_type for price in known if fnmatch(price.instance_type, pattern)}
    refreshed: Refreshed = importlib.import_module(f"seer_nb.providers.prices.{provider}").refresh(
        [options.region] if options.region else {price.region for price in known},
        # A type that is not known yet is one to ask for.
        types or {pattern},
    )
    return refreshed


def _say_why(options: argparse.Namespace) -> None:
    """Raise, with what may have been meant where that can be told."""
    if options.provider and options.region and options.type:
        prices.price(options.provider, options.region, options.type)
    asked = {"--provider": options.provider, "--region": options.region, "--type": options.type}
    given = " ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    raise ValueError(f"no price is known for {given}: seer-nb prices without these lists all that are")


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
