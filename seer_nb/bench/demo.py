"""Run ``seer-nb demo`` and read accuracy, times and spending from its journal."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seer_nb.bench._figures import Figure, table, write
from seer_nb.bench._studies import Outcome, command, gang_times, read, temporary_home

if TYPE_CHECKING:
    import argparse


HALF_S = 30.0
SPARE_S = 60.0
"""Seconds past the deadline after which the command counts as hung."""


def demo(deadline_s: float = 60.0, policy: str = "seer") -> list[Figure]:
    """Run the demo and return its figures.

    Args:
        deadline_s: Deadline of the study in seconds; default 60.
        policy: Name of the policy; default "seer".
    """
    with temporary_home() as home:
        arguments = ["demo", "--name", "demo", "--deadline", f"{deadline_s:g}s", "--policy", policy]
        started_s = time.monotonic()
        # The command writes its tables into the working directory.
        subprocess.run(
            [*command(), *arguments],
            check=True,
            cwd=home,
            env=os.environ,
            stdout=subprocess.DEVNULL,
            timeout=deadline_s + SPARE_S,
        )
        wall_s = time.monotonic() - started_s
        ran = read(home / "demo")
    return [*_study(ran), Figure("the whole command, wall clock", wall_s, "s")]


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("demo", help="run and measure seer-nb demo")
    parser.add_argument("--policy", default="seer", help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=None, metavar="PATH", help="write the figures to PATH as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    figures = demo(policy=options.policy)
    print(table(figures))
    if options.json is not None:
        write(options.json, figures)
    return 1 if any(figure.met is False for figure in figures) else 0


def _study(ran: Outcome) -> list[Figure]:
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
        Figure(
            "start of the first gang, with imports of the training function", gang_times(ran)[0].step_s - ready_s, "s"
        ),
        Figure("first report after start()", min(report.at_s for report in reports), "s"),
        Figure(
            "spent, share of the budget",
            100 * state.ledger.spent_micro(state.now_s) / state.budget_micro,
            "%",
            most=100,
        ),
        Figure("end after the deadline (negative: before)", state.now_s - state.deadline_s, "s", most=2),
    ]


def _accuracy(ran: Outcome, until_s: float) -> float:
    """Return the best value with a stored checkpoint until then; 0 if there is none."""
    reports = (report for trial in ran.state.trials.values() for report in trial.curve)
    stored = (r.value for r in reports if r.checkpoint is not None and r.value is not None and r.at_s <= until_s)
    return max(stored, default=0.0)
