"""``seer-nb prices``: print what machines cost, and refresh the prices of providers that tell them."""

from __future__ import annotations

import importlib
import sys
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from seer_nb.errors import SeerError
from seer_nb.prices import lookup, tables
from seer_nb.prices.record import PROVIDERS
from seer_nb.prices.refreshing import CLOUDS

if TYPE_CHECKING:
    import argparse

    from seer_nb.prices.record import Price
    from seer_nb.prices.refreshing import Refreshed


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("prices", help="print what machines cost, or refresh the prices")
    parser.add_argument("--provider", default=None, choices=PROVIDERS, help="default: all")
    parser.add_argument("--region", default=None, help="as the provider calls it; default: all")
    parser.add_argument("--type", default=None, metavar="TYPE", help='instance type, or a pattern such as "g5.*"')
    parser.add_argument(
        "--refresh", action="store_true", help="first ask AWS, Azure and GCP, and keep their answers in prices.csv"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.refresh:
        _refresh(options)
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
    refreshed: Refreshed = importlib.import_module(f"seer_nb.prices.{provider}").refresh(
        [options.region] if options.region else {price.region for price in known},
        # A type that is not known yet is one to ask for.
        types or {pattern},
    )
    return refreshed


def _say_why(options: argparse.Namespace) -> None:
    """Raise, with what may have been meant where that can be told."""
    if options.provider and options.region and options.type:
        lookup.price(options.provider, options.region, options.type)
    asked = {"--provider": options.provider, "--region": options.region, "--type": options.type}
    given = " ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    raise ValueError(f"no price is known for {given}: seer-nb prices without these lists all that are")
