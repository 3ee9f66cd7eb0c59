"""Open a loopback cloud, and print what a shell needs to use it, until Ctrl-C."""

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
    """Run until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m seer_nb.testing.loopback", description=__doc__)
    parser.add_argument("--boot-s", type=float, default=5.0, help="seconds that a machine takes to boot (default: 5)")
    parser.add_argument("--folder", help="where machines have their logs (default: a temporary folder)")
    parser.add_argument("--seed", type=int, default=0, help="of the ids of instances (default: 0)")
    parser.add_argument("--editable", action="store_true", help="machines find packages installed in editable mode")
    given = parser.parse_args(arguments)
    # A service manager's word for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with LoopbackCloud(given.boot_s, given.folder, given.seed, editable=given.editable) as cloud:
            _say(cloud)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    except (SeerError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(cloud: LoopbackCloud) -> None:
    places: dict[str, Any] = {
        "vpc": cloud.vpc,
        "subnet": cloud.subnet,
        "security group": cloud.security_group,
        "ami": cloud.ami,
        "bucket": cloud.bucket,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in cloud.environment.items()]
    lines += [f"# {name}: {value}" for name, value in places.items()]
    sys.stdout.write("\n".join([*lines, "# Ctrl-C ends the cloud and all its machines", ""]))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
