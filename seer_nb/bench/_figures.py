"""A measured number beside what is wanted of it, and the table of them."""

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
    """One number."""

    what: str
    value: float
    unit: str = ""
    least: float | None = None
    """It should not be below this."""
    most: float | None = None
    """It should not be above this."""

    @property
    def met(self) -> bool | None:
        """Whether it is as wanted; None when nothing is wanted of it."""
        if self.least is None and self.most is None:
            return None
        # A value may be numpy's, and so would be what it is compared to.
        return bool((self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most))

    @property
    def measured(self) -> str:
        """The number as text."""
        return f"{_short(self.value)} {self.unit}".rstrip()

    @property
    def wanted(self) -> str:
        """The mark as text; empty when there is none."""
        marks = [(">=", self.least), ("<=", self.most)]
        return " and ".join(f"{sign} {_short(mark)} {self.unit}".rstrip() for sign, mark in marks if mark is not None)


def spread(what: str, values: Sequence[float], unit: str = "s", most: float | None = None) -> list[Figure]:
    """Median and worst of several measurements; the mark is set on the median."""
    count = len(values)
    return [
        Figure(f"{what}, median of {count}", median(values), unit, most=most),
        Figure(f"{what}, worst of {count}", max(values), unit),
    ]


def table(figures: Iterable[Figure]) -> str:
    """Columns: figure, measured, wanted, and whether it is met."""
    verdicts = {True: "yes", False: "NO", None: ""}
    rows = [("figure", "measured", "wanted", "met")]
    rows += [(figure.what, figure.measured, figure.wanted, verdicts[figure.met]) for figure in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def write(path: Path, figures: Iterable[Figure]) -> None:
    """Write the numbers, and what they were measured on, as JSON."""
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
