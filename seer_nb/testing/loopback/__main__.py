"""Open a loopback cloud until Ctrl-C, and print the shell commands that connect to it."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import threading
from typing import Any

from seer_nb.errors import SeerError
from seer_nb.testing.loopback.cloud import LoopbackCloud


def main(arguments: list[str] | None = None) -> int:
    """Run the command until it is interrupted; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m seer_nb.testing.loopback", description=__doc__)
    parser.add_argument("--boot-s", type=float, default=5.0, help="seconds that a machine takes to boot (default: 5)")
    parser.add_argument("--folder", help="folder for the logs of machines (default: a temporary folder)")
    parser.add_argument("--seed", type=int, default=0, help="seed for instance ids (default: 0)")
    parser.add_argument(
        "--editable", action="store_true", help="let machines import packages installed in editable mode"
    )
    given = parser.parse_args(arguments)
    # Service managers send SIGTERM instead of SIGINT.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with LoopbackCloud(given.boot_s, given.folder, given.seed, editable=given.editable) as cloud:
            _print_environment(cloud)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    except (SeerError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _print_environment(cloud: LoopbackCloud) -> None:
    resources: dict[str, Any] = {
        "vpc": cloud.vpc,
        "subnet": cloud.subnet,
        "security group": cloud.security_group,
        "ami": cloud.ami,
        "bucket": cloud.bucket,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in cloud.environment.items()]
    lines += [f"# {name}: {value}" for name, value in resources.items()]
    sys.stdout.write("\n".join([*lines, "# Ctrl-C closes the cloud and terminates all its machines", ""]))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
