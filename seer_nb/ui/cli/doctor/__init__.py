"""``seer-nb doctor``: checks everything a study needs on this computer, and advises on what is wrong."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from seer_nb.ui.cli.doctor import ec2, local
from seer_nb.ui.cli.doctor.finding import NamedCheck, redact, run_checks

if TYPE_CHECKING:
    import argparse

    from seer_nb.ui.cli.doctor.finding import Finding


PROVIDERS = ("local", "ec2")
WORKER_TYPE, SCHEDULER_TYPE, MAX_MACHINES = "g4dn.xlarge", "t3.small", 8
"""Defaults of ``seer.EC2``."""
_COLUMN_WIDTH = 12
_SLOW_ADVICE = "run seer-nb doctor again; if the check is late again, the network or the disk is too slow"


def add(commands: Any) -> None:
    """Add the subcommand ``doctor``."""
    parser = commands.add_parser("doctor", help="check everything a study needs on this computer")
    parser.add_argument(
        "--store", default=None, metavar="URL", help="also check whether checkpoints can be stored at this URL"
    )
    parser.add_argument(
        "--provider", default="local", choices=PROVIDERS, help="provider to check; default: %(default)s"
    )
    parser.add_argument("--type", default=WORKER_TYPE, help="EC2 instance type of the workers; default: %(default)s")
    parser.add_argument(
        "--machines", type=int, default=MAX_MACHINES, help="number of EC2 machines; default: %(default)s"
    )
    parser.add_argument("--spot", action="store_true", help="check the quota of spot machines")
    parser.add_argument("--region", default=None, help="AWS region; default: the region in boto's configuration")
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list")
    parser.set_defaults(run=_run_command)


def checks(options: argparse.Namespace) -> list[NamedCheck]:
    """Return the checks that the options select."""
    found = [
        NamedCheck("packages", local.check_installation),
        NamedCheck("workers", local.check_workers, "warning", _SLOW_ADVICE),
        NamedCheck("gpus", local.check_gpus, "warning", _SLOW_ADVICE),
        NamedCheck("home", local.check_home),
        NamedCheck("ports", local.check_ports),
        NamedCheck("studies", local.check_studies, "warning", _SLOW_ADVICE),
    ]
    if options.store is not None:
        found.append(
            NamedCheck(
                "store",
                partial(local.check_store_url, options.store),
                timeout_advice="check that the store can be reached from here",
            )
        )
    if options.provider == "ec2":
        request = ec2.EC2Request((options.type, SCHEDULER_TYPE), options.machines, options.spot, options.region)
        found.append(
            NamedCheck("cloud", partial(ec2.check, request), timeout_advice="check that outgoing HTTPS is allowed")
        )
    return found


def _run_command(options: argparse.Namespace) -> int:
    found = []
    for finding in run_checks(checks(options)):
        found.append(finding)
        if not options.json:
            sys.stdout.write(_line(finding))
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps([_record(finding) for finding in found], indent=2) + "\n")
    return int(any(finding.level == "problem" for finding in found))


def _line(finding: Finding) -> str:
    return f"{finding.level:{_COLUMN_WIDTH}}{finding.check:{_COLUMN_WIDTH + 2}}{finding.sentence}\n"


def _record(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "level": finding.level,
        "text": redact(finding.text),
        "advice": redact(finding.advice),
    }
