"""``seer-nb trust``: makes a study's folder yours that came from another computer or user, after asking."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("trust", help="have a study's folder that was moved here run as your own")
    parser.add_argument("name", help="of the study")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from seer_nb.catalog import attach, trust
    from seer_nb.runner import files

    attach(options.name)  # raises if there is none
    if not options.yes and not _agreed(options.name, str(files.home() / options.name)):
        sys.stdout.write("nothing was changed\n")
        return 1
    trust(options.name)
    sys.stdout.write(f"study {options.name!r} is yours: seer-nb resume {options.name} goes on with it\n")
    return 0


def _agreed(name: str, folder: str) -> bool:
    sys.stdout.write(
        f"The function of study {name!r} in {folder} will be run as you, and can then do all that you can.\n"
        "Do you know who wrote it? [y/N] "
    )
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
