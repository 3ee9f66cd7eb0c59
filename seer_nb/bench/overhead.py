"""Overhead of seer_nb: worker utilisation, gang starts and resizes, trials per second, imports, boots."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import seer_nb as seer
from seer_nb import core
from seer_nb.bench import _workloads
from seer_nb.bench._figures import Figure, Part, command, spread
from seer_nb.bench._studies import Outcome, gang_times, run, startup

if TYPE_CHECKING:
    from collections.abc import Iterable


N_TRIALS, N_REPORTS = 200, 10
N_CONFIGS = 16
POLICIES = ("seer", "asha", "random_search")


def busy(policies: Iterable[str] = POLICIES) -> list[Figure]:
    """Measure the share of paid worker-seconds inside epochs of one second: 16 trials, 2 workers."""
    figures = []
    for policy in policies:
        space = {"x": seer.choice(range(1, N_CONFIGS + 1))}
        ran = run(_workloads.one_second, space, max_epochs=4, deadline="40s", policy=policy)
        paid_s = sum(machine.ended_s - machine.ready_s for machine in _machines(ran))
        reports = [report for trial in ran.state.trials.values() for report in trial.curve]
        inside_s = sum(report.seconds * report.parallelism for report in reports)
        what = f"paid time inside epochs, {policy} ({len(ran.state.trials)} trials, {len(reports)} epochs)"
        figures.append(Figure(what, 100 * inside_s / paid_s, "%", least=90))
    return figures


def resize(count: int = 12) -> list[Figure]:
    """Measure gang starts on warm workers and resizes with a checkpoint of 20 MB."""
    policy = _workloads.Alternating(every=3)
    ran = run(
        _workloads.twenty_megabytes,
        {"x": 1.0},
        max_epochs=(policy.every + 1) * (count + 1),
        deadline="2min",
        policy=policy,
    )
    gangs = gang_times(ran)
    pairs = [(old, new) for old, new in pairwise(gangs) if old.stop_s is not None]
    figures = [
        Figure("checkpoint", ran.checkpoint_mb, "MB", least=20),
        Figure("epoch on one worker while resizing, median", _epoch_s(ran), "s"),
    ]
    for p in (1, 2):
        starts = [gang.step_s - gang.started_s for gang in gangs if gang.parallelism == p]
        figures += spread(f"gang start on {p} warm, decision to first step", starts, most=0.5)
    for p in (1, 2):
        chosen = [(old, new) for old, new in pairs if old.parallelism == p]
        figures += spread(
            f"resize {p} -> {3 - p}, last report to first step",
            [new.step_s - old.reported_s for old, new in chosen],
            most=1.5,
        )
        # The rest of the epoch in progress is training, not a stall; storing its checkpoint counts as a stall.
        waits = [new.step_s - max(old.trained_s, old.stop_s or 0.0) for old, new in chosen]
        figures += spread(f"resize {p} -> {3 - p}, from the decision, without the epoch in progress", waits, most=1.5)
    return figures


def trials() -> list[Figure]:
    """Measure 200 trials that only report, 10 times each, on 2 workers."""
    started_s = time.monotonic()
    space = {"x": seer.choice(range(1, N_TRIALS + 1))}
    ran = run(_workloads.noop, space, max_epochs=N_REPORTS, deadline="2min", policy="random_search")
    whole_s = time.monotonic() - started_s
    full = sum(len(trial.curve) == N_REPORTS for trial in ran.state.trials.values())
    reported_s = [entry.at_s for entry in ran.entries if isinstance(entry.record, core.Reported)]
    ready_s = min(machine.ready_s for machine in _machines(ran))
    rate = full / (reported_s[-1] - ready_s)
    return [
        Figure(f"no-op trials with all {N_REPORTS} reports", full, least=N_TRIALS),
        Figure("trials per second, first worker ready to last report", rate, "/s", least=25),
        Figure("trials per second, start() to the study's end", full / ran.state.now_s, "/s"),
        Figure("first report after start()", reported_s[0], "s", most=6),
        Figure("Study(...) to the end of wait()", whole_s, "s"),
        Figure("the runner's peak memory", ran.peak_mb, "MB", most=400),
    ]


def boots(count: int = 3) -> list[Figure]:
    """Measure successive boots of workers and the first gang on each."""
    ran = run(
        _workloads.small,
        {"x": seer.uniform(1, 2)},
        max_epochs=2,
        deadline="1min",
        policy=_workloads.OneByOne(count),
        workers=count,
    )
    boot_s = [machine.ready_s - machine.rented_s for machine in _machines(ran)]
    rented_s = min(machine.rented_s for machine in _machines(ran))
    first: dict[str, float] = {}
    later: list[float] = []
    for gang in gang_times(ran):
        start_s, worker = gang.step_s - gang.started_s, gang.start.workers[0]
        if first.setdefault(worker, start_s) != start_s:
            later.append(start_s)
    return [
        Figure("start() to the first machine rented", rented_s, "s"),
        Figure("boot of the first worker, torch warmed up", boot_s[0], "s"),
        Figure(f"boot of later workers, median of {count - 1}", median(boot_s[1:]), "s"),
        *spread("first gang on a fresh worker, decision to first step", list(first.values()), most=0.5),
        *spread("later gangs on the same workers", later, most=0.5),
    ]


PARTS: dict[str, Part] = {
    "startup": lambda _: startup(),
    "boots": lambda _: boots(),
    "trials": lambda _: trials(),
    "resize": lambda _: resize(),
    "busy": lambda _: busy(),
}


def add(commands: Any) -> None:
    """Add the subcommand."""
    command(commands, "overhead", "overhead of seer_nb in time and memory", PARTS)


class _MachineTimes(NamedTuple):
    """The times of a machine, in study seconds."""

    rented_s: float
    ready_s: float
    ended_s: float


def _machines(ran: Outcome) -> list[_MachineTimes]:
    """Return the times of all machines that became ready, in order of renting."""
    return [
        _MachineTimes(
            machine.rented_s, machine.ready_s, ran.state.now_s if machine.ended_s is None else machine.ended_s
        )
        for machine in ran.state.machines.values()
        if machine.ready_s is not None
    ]


def _epoch_s(ran: Outcome) -> float:
    reports = [report for trial in ran.state.trials.values() for report in trial.curve]
    return median(report.seconds for report in reports if report.parallelism == 1)
