"""Synchronous successive halving (Jamieson and Talwalkar, AISTATS 2016) on a fixed cluster that survivors share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb.core.planner import Resources
from seer_nb.policies._profile import lasting_s, most, share, steps, stragglers
from seer_nb.policies._rungs import fixed_size, measured, power
from seer_nb.policies._stages import SynchronousHalving, job_size, pilot_size, plan, standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core import Plan, Snapshot


class Halving(SynchronousHalving):
    """Runs floor(B / (c T)) workers from start to end; each stage's trials share all of them.

    Money needs no thought: the fixed cluster costs what it costs. Without ``n`` the job has as many configurations as
    all stages can be trained with by the deadline, at the speed seen so far. The first ones, one a worker, show that
    speed; n follows it until the first survivors go on, and is fixed from then on.
    """

    def decide(self, snapshot: Snapshot) -> Plan:
        """Train the stage that the job is in."""
        size, epochs = fixed_size(snapshot), self.epochs(snapshot)
        n = job_size(snapshot, epochs, lambda: self.n or self._fitting(snapshot, epochs, size))
        stage = standing(snapshot.trials, n, self.eta, epochs, snapshot.mode)
        parallelism = power(max(1, size // max(1, stage.size)))
        return plan(snapshot, stage, parallelism, size, "halving")

    def _fitting(self, snapshot: Snapshot, epochs: Sequence[int], size: int) -> int:
        """The most configurations whose stages all end in time."""
        if not measured(snapshot):
            return pilot_size(snapshot)
        resources, slow = Resources.left(snapshot), stragglers(snapshot)
        left_s = lasting_s(snapshot, size)
        free_s = _free_s(snapshot, resources, epochs[0], size)
        begun = len(snapshot.trials) - _to_begin_again(snapshot, epochs[0])

        def fits(n: int) -> bool:
            first, *later = steps(n, self.eta, epochs, slow)
            leg_s = resources.leg_seconds(first.epochs, 1)
            waits_s = (first.slow - 1) * first.epochs * resources.epoch_s
            last_s = _last_s(free_s, max(0, n - begun), leg_s) + waits_s
            return last_s + sum(share(step, size, resources).seconds for step in later) <= left_s

        return most(fits)


def _to_begin_again(snapshot: Snapshot, first: int) -> int:
    """Trials that were interrupted on their way to the first rung."""
    busy = {gang.trial for gang in snapshot.gangs}
    return sum(trial.alive and len(trial.curve) < first and trial.id not in busy for trial in snapshot.trials)


def _free_s(snapshot: Snapshot, resources: Resources, first: int, size: int) -> list[float]:
    """Seconds from now until each worker has finished what it trains of the first stage, ascending."""
    free_s: list[float] = []
    trials = {trial.id: trial for trial in snapshot.trials}
    for gang in snapshot.gangs:
        left = first - len(trials[gang.trial].curve)
        begun_s = resources.scaling.stall_s if gang.heard_s == gang.started_s else 0.0
        left_s = begun_s + left * resources.epoch_s / resources.scaling.speedup(gang.parallelism)
        free_s += [max(0.0, left_s - (snapshot.now_s - gang.heard_s))] * gang.parallelism
    ready = sum(machine.slots for machine in snapshot.machines if machine.state == "ready") - len(free_s)
    missing = max(0, size - len(free_s))
    booting = max(0, missing - max(0, ready))
    free_s += [0.0] * (missing - booting) + [resources.scaling.boot_s] * booting
    return sorted(free_s)


def _last_s(free_s: Sequence[float], new: int, leg_s: float) -> float:
    """When the last of so many new trials ends that take turns on workers that become free by and by."""
    turns, rest = divmod(new, len(free_s))
    last_s = free_s[-1] + turns * leg_s
    return max(last_s, free_s[rest - 1] + (turns + 1) * leg_s) if rest else last_s
