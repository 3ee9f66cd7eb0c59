"""How long a fresh process takes to import seer_nb, and the command to answer."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from seer_nb.bench.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES = 5
_IMPORT = """
import sys, time
begun = time.perf_counter()
{statement}
print(time.perf_counter() - begun, int("torch" in sys.modules))
"""


def startup(times: int = TIMES) -> list[Figure]:
    """Imports in fresh processes, and ``seer-nb --help``."""
    figures = []
    for statement in ("import seer_nb", "from seer_nb import Study, loguniform, Local"):
        seconds, torch = zip(*(_imported(statement) for _ in range(times)), strict=True)
        figures += [
            Figure(f"{statement}, median of {times}", median(seconds), "s", most=1.5),
            Figure("... and torch was imported by it, times", sum(torch), most=0),
        ]
    help_s = [_wall_s([*command(), "--help"]) for _ in range(times)]
    bare_s = [_wall_s([sys.executable, "-c", "pass"]) for _ in range(times)]
    return [
        *figures,
        Figure(f"seer-nb --help, whole process, median of {times}", median(help_s), "s", most=1),
        Figure(f"python that does nothing, median of {times}", median(bare_s), "s"),
    ]


def _imported(statement: str) -> tuple[float, int]:
    """Seconds that an import takes, and whether torch came with it."""
    code = _IMPORT.format(statement=statement)
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), int(said[1])


def command() -> list[str]:
    """The installed command; without one, what it would run."""
    beside = Path(sys.executable).with_name("seer-nb")
    found = str(beside) if beside.exists() else shutil.which("seer-nb")
    return [found] if found else [sys.executable, "-c", "import sys; from seer_nb.cli import main; sys.exit(main())"]


def _wall_s(command: Sequence[str]) -> float:
    begun_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun_s
