"""Runs ``seer-nb demo`` as a user would, and reads from its journal how good it was, and when."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb.bench._figures import Figure, table, write
from seer_nb.bench._studies import Ran, command, pieces, read, temporary_home

if TYPE_CHECKING:
    import argparse


HALF_S = 30.0
SPARE_S = 60.0
"""The command may take so much longer than its deadline before it counts as hung."""


def demo(deadline_s: float = 60.0, policy: str = "seer") -> list[Figure]:
    """The command's own figures, and those of its study."""
    with temporary_home() as home:
        arguments = ["demo", "--name", "demo", "--deadline", f"{deadline_s:g}s", "--policy", policy]
        begun_s = time.monotonic()
        # It writes its tables where it is started.
        subprocess.run(
            [*command(), *arguments],
            check=True,
            cwd=home,
            env=os.environ,
            stdout=subprocess.DEVNULL,
            timeout=deadline_s + SPARE_S,
        )
        wall_s = time.monotonic() - begun_s
        ran = read(home / "demo")
    return [*_study(ran), Figure("the whole command, wall clock", wall_s, "s")]


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("demo", help="run seer-nb demo and measure it")
    parser.add_argument("--policy", default="seer", help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=None, metavar="PATH", help="write the numbers there")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    figures = demo(policy=options.policy)
    print(table(figures))
    if options.json is not None:
        write(options.json, figures)
    return 1 if any(figure.met is False for figure in figures) else 0


def _study(ran: Ran) -> list[Figure]:
    state = ran.state
    reports = [report for trial in state.trials.values() for report in trial.curve]
    ready_s = min(machine.ready_s for machine in state.machines.values() if machine.ready_s is not None)
    tried = sum(bool(trial.curve) for trial in state.trials.values())
    return [
        Figure(f"accuracy at {HALF_S:g} s", _accuracy(ran, HALF_S)),
        Figure("accuracy at the end", _accuracy(ran, state.now_s), least=0.98),
        Figure("configurations tried", tried, least=100),
        Figure("epochs trained", len(reports)),
        Figure("first worker ready after start()", ready_s, "s"),
        Figure("first gang's start, with the function's own imports", pieces(ran)[0].step_s - ready_s, "s"),
        Figure("first report after start()", min(report.at_s for report in reports), "s"),
        Figure("spent, of its budget", 100 * state.ledger.spent(state.now_s) / state.budget, "%", most=100),
        Figure("ended after its deadline (before it: negative)", state.now_s - state.deadline_s, "s", most=2),
    ]


def _accuracy(ran: Ran, until_s: float) -> float:
    """The best value whose checkpoint was stored by then; 0 if there was none."""
    reports = (report for trial in ran.state.trials.values() for report in trial.curve)
    stored = (r.value for r in reports if r.checkpoint is not None and r.value is not None and r.at_s <= until_s)
    return max(stored, default=0.0)
