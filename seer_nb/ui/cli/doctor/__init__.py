"""``seer-nb doctor``: looks at all that a study will need here, and says what to do where something is wrong."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from seer_nb.ui.cli.doctor import ec2, local
from seer_nb.ui.cli.doctor.finding import Named, examine

if TYPE_CHECKING:
    import argparse

    from seer_nb.ui.cli.doctor.finding import Finding


PROVIDERS = ("local", "ec2")
KIND, HOST, MACHINES = "g4dn.xlarge", "t3.small", 8
"""As of ``seer.EC2``."""
_WIDTH = 12
_SLOW = "run it again; if it is late again, the network or the disk is too slow for it"


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("doctor", help="check all that a study needs here, and say what to do")
    parser.add_argument("--store", default=None, metavar="URL", help="also see whether checkpoints can be kept there")
    parser.add_argument("--provider", default="local", choices=PROVIDERS, help="default: %(default)s")
    parser.add_argument("--type", default=KIND, help="instance type, of ec2; default: %(default)s")
    parser.add_argument("--machines", type=int, default=MACHINES, help="as many at once; default: %(default)s")
    parser.add_argument("--spot", action="store_true", help="spot machines")
    parser.add_argument("--region", default=None, help="of ec2; default: as boto is configured")
    parser.add_argument("--json", action="store_true", help="as a list of objects, for programs")
    parser.set_defaults(run=_run_command)


def checks(options: argparse.Namespace) -> list[Named]:
    """What is to be looked at."""
    found = [
        Named("packages", local.check_installation),
        Named("workers", local.check_workers, "warning", _SLOW),
        Named("gpus", local.check_gpus, "warning", _SLOW),
        Named("home", local.check_home),
        Named("ports", local.check_ports),
        Named("studies", local.check_studies, "warning", _SLOW),
    ]
    if options.store is not None:
        found.append(
            Named("store", partial(local.check_store_url, options.store), advice="see that it can be reached from here")
        )
    if options.provider == "ec2":
        wanted = ec2.Wanted((options.type, HOST), options.machines, options.spot, options.region)
        found.append(Named("cloud", partial(ec2.check, wanted), advice="see that HTTPS is let out from here"))
    return found


def _run_command(options: argparse.Namespace) -> int:
    found = []
    for finding in examine(checks(options)):
        found.append(finding)
        if not options.json:
            sys.stdout.write(_line(finding))
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps([_record(finding) for finding in found], indent=2) + "\n")
    return int(any(finding.level == "problem" for finding in found))


def _line(finding: Finding) -> str:
    return f"{finding.level:{_WIDTH}}{finding.check:{_WIDTH + 2}}{finding.sentence}\n"


def _record(finding: Finding) -> dict[str, str]:
    from seer_nb.ui.cli.doctor.finding import discreet

    told = {"text": discreet(finding.text), "advice": discreet(finding.advice)}
    return {"check": finding.check, "level": finding.level, **told}
