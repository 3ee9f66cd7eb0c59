"""Measured figures with their targets, and tables of them."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Figure(NamedTuple):
    """A measured number with an optional target."""

    what: str
    value: float
    unit: str = ""
    least: float | None = None
    """Smallest acceptable value."""
    most: float | None = None
    """Largest acceptable value."""

    @property
    def met(self) -> bool | None:
        """Whether the value is within its target; None without a target."""
        if self.least is None and self.most is None:
            return None
        # Values may be numpy scalars, whose comparison is a numpy bool.
        return bool((self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most))

    @property
    def measured(self) -> str:
        """The value as text."""
        return f"{_short(self.value)} {self.unit}".rstrip()

    @property
    def wanted(self) -> str:
        """The target as text; empty without a target."""
        targets = [(">=", self.least), ("<=", self.most)]
        return " and ".join(
            f"{sign} {_short(target)} {self.unit}".rstrip() for sign, target in targets if target is not None
        )


def spread(what: str, values: Sequence[float], unit: str = "s", most: float | None = None) -> list[Figure]:
    """Return the median and the maximum of several measurements; the target applies to the median."""
    count = len(values)
    return [
        Figure(f"{what}, median of {count}", median(values), unit, most=most),
        Figure(f"{what}, worst of {count}", max(values), unit),
    ]


def table(figures: Iterable[Figure]) -> str:
    """Return a table with the columns figure, measured, wanted and met."""
    verdicts = {True: "yes", False: "NO", None: ""}
    rows = [("figure", "measured", "wanted", "met")]
    rows += [(figure.what, figure.measured, figure.wanted, verdicts[figure.met]) for figure in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def write(path: Path, figures: Iterable[Figure]) -> None:
    """Write the figures and a description of this machine as JSON."""
    rows = [{**figure._asdict(), "met": figure.met} for figure in figures]
    path.write_text(json.dumps({"machine": _machine(), "figures": rows}, indent=1) + "\n")


def _machine() -> dict[str, Any]:
    parts = ("seer_nb", "torch", "distributed")
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        **{part: version(part) for part in parts},
    }


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"  # noqa: PLR2004


Part: TypeAlias = Callable[[argparse.Namespace], list[Figure]]
"""Function that measures one part of a benchmark."""


def command(commands: Any, name: str, about: str, parts: Mapping[str, Part]) -> Any:
    """Add a subcommand that runs all parts or one, and return its parser.

    The subcommand prints the figures and exits with 1 if one misses its target.

    Args:
        commands: The subparsers of the command.
        name: Name of the subcommand.
        about: Help text.
        parts: Functions that measure, by the name of their part.
    """

    def run(options: argparse.Namespace) -> int:
        return _run_parts(options, parts)

    parser = commands.add_parser(name, help=about)
    parser.add_argument("--only", choices=[*parts], default=None, help="run only this part")
    parser.add_argument("--json", type=Path, default=None, metavar="PATH", help="write the figures to PATH as JSON")
    parser.set_defaults(run=run)
    return parser


def _run_parts(options: argparse.Namespace, parts: Mapping[str, Part]) -> int:
    figures: list[Figure] = []
    for name in [options.only] if options.only else parts:
        found = parts[name](options)
        print(f"{name}\n{table(found)}\n", flush=True)
        figures += found
    if options.json is not None:
        write(options.json, figures)
    missed = [figure.what for figure in figures if figure.met is False]
    targets = sum(figure.met is not None for figure in figures)
    print(f"{len(missed)} of {targets} targets missed{': ' if missed else ''}{'; '.join(missed)}")
    return int(bool(missed))
