"""``python -m seer_nb.bench COMMAND``: run a benchmark, print a table of its figures, and optionally store them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from seer_nb.bench import (
    bilevel,
    dashboard,
    demo,
    fairprep,
    faults,
    fedex,
    loopback,
    overhead,
    policies,
    promises,
    record,
    scale,
    sweep,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


COMMANDS = (
    overhead,
    demo,
    loopback,
    faults,
    dashboard,
    record,
    policies,
    promises,
    scale,
    bilevel,
    fedex,
    fairprep,
    sweep,
)
"""Modules with ``add(commands)``, which adds a subcommand; its ``run(options)`` returns the exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; return 0 if every figure reaches its target."""
    parser = argparse.ArgumentParser(prog="python -m seer_nb.bench", description="Measure seer_nb.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
