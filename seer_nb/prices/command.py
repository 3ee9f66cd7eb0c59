"""``seer-nb prices``: print what machines cost, and refresh AWS' prices."""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from seer_nb.prices import lookup, tables
from seer_nb.prices.record import PROVIDERS

if TYPE_CHECKING:
    import argparse


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("prices", help="print what machines cost, or refresh AWS' prices")
    parser.add_argument("--provider", default=None, choices=PROVIDERS, help="default: all")
    parser.add_argument("--region", default=None, help="as the provider calls it; default: all")
    parser.add_argument("--type", default=None, metavar="TYPE", help='instance type, or a pattern such as "g5.*"')
    parser.add_argument("--refresh", action="store_true", help="first ask AWS, and keep its answer in prices.csv")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.refresh:
        _refresh(options)
        options.provider = "aws"
    frame = lookup.sheet(options.provider, options.region)
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
    from seer_nb.prices import aws

    if options.provider not in {None, "aws"}:
        raise ValueError(f"--refresh asks AWS only: it knows no prices of {options.provider}")
    known = [price for price in tables.known().values() if price.provider == "aws"]
    pattern = options.type or "*"
    types = {price.instance_type for price in known if fnmatch(price.instance_type, pattern)}
    path = aws.refresh(
        [options.region] if options.region else {price.region for price in known},
        # A type that is not known yet is one to ask for.
        types or {pattern},
    )
    sys.stderr.write(f"written: {path}\n")


def _say_why(options: argparse.Namespace) -> None:
    """Raise, with what may have been meant where that can be told."""
    if options.provider and options.region and options.type:
        lookup.price(options.provider, options.region, options.type)
    asked = {"--provider": options.provider, "--region": options.region, "--type": options.type}
    given = " ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    raise ValueError(f"no price is known for {given}: seer-nb prices without these lists all that are")
