"""Commands that are made of parts, each of which measures some figures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from seer_nb.bench.figures import Figure, table, write

Part: TypeAlias = Callable[[argparse.Namespace], list[Figure]]
"""Measures, as its options say."""


def command(commands: Any, name: str, about: str, parts: Mapping[str, Part]) -> Any:
    """Add the subcommand; returns its parser, for more options.

    It runs all parts, or one, prints their figures, and gives 1 if one misses its mark.
    """

    def run(options: argparse.Namespace) -> int:
        return _measured(options, parts)

    parser = commands.add_parser(name, help=about)
    parser.add_argument("--only", choices=[*parts], default=None, help="run this part alone")
    parser.add_argument("--json", type=Path, default=None, metavar="PATH", help="write the numbers there")
    parser.set_defaults(run=run)
    return parser


def _measured(options: argparse.Namespace, parts: Mapping[str, Part]) -> int:
    figures: list[Figure] = []
    for name in [options.only] if options.only else parts:
        found = parts[name](options)
        print(f"{name}\n{table(found)}\n", flush=True)
        figures += found
    if options.json is not None:
        write(options.json, figures)
    missed = [figure.what for figure in figures if figure.met is False]
    marks = sum(figure.met is not None for figure in figures)
    print(f"{len(missed)} of {marks} marks missed{': ' if missed else ''}{'; '.join(missed)}")
    return int(bool(missed))
