"""Synchronous successive halving (Jamieson and Talwalkar, AISTATS 2016) on a fixed cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb.core.planner import Resources
from seer_nb.policies._profile import (
    affordable_s,
    allocate_fairly,
    bracket_stages,
    largest_fitting,
    straggler_factors,
)
from seer_nb.policies._rungs import fixed_cluster_size, power_of_two, speed_is_known
from seer_nb.policies._stages import SynchronousHalving, bracket_size, current_stage, pilot_size, plan_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seer_nb.core import Plan, PolicyView


class Halving(SynchronousHalving):
    """Synchronous successive halving on a fixed cluster that the trials of a stage share.

    floor(B / (c T)) workers run from start to end (budget B, price c, deadline T), so only the time limits the bracket.
    Without ``n`` the bracket has as many configurations as can go through all stages by the deadline at the measured
    speed. The first configurations, one per worker, measure that speed. n follows the measurements until the first
    survivors are promoted, and is fixed then.

    Source: Jamieson and Talwalkar, AISTATS 2016.

    Args:
        eta: Reduction factor, at least 2: one in ``eta`` trials is promoted from a rung.
        first_rung: Epochs to the first rung, at least 1.
        top: Epochs to which the last survivors are trained; None: the study's ``max_epochs``.
        n: Configurations of the bracket; None: as many as fit.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: An argument is too small.

    Example:
        >>> from seer_nb.policies import Halving
        >>> Halving(eta=4, n=64)
        Halving(eta=4, first_rung=1, top=None, n=64)
    """

    def decide(self, view: PolicyView) -> Plan:
        """Train the current stage; its trials share all workers."""
        size, epochs = fixed_cluster_size(view), self.epochs(view)
        n = bracket_size(view, epochs, lambda: self.n or self._largest(view, epochs, size))
        stage = current_stage(view.trials, n, self.eta, epochs, view.mode)
        parallelism = power_of_two(min(view.max_parallelism, max(1, size // max(1, stage.size))))
        return plan_stage(view, stage, parallelism, min(size, stage.size * view.max_parallelism), "halving")

    def _largest(self, view: PolicyView, epochs: Sequence[int], size: int) -> int:
        """Return the most configurations whose stages all end in time."""
        if not speed_is_known(view):
            return pilot_size(view)
        resources, stragglers = Resources.remaining(view), straggler_factors(view)
        left_s = affordable_s(view, size)
        free_s = _free_s(view, resources, epochs[0], size)
        started = len(view.trials) - _interrupted(view, epochs[0])

        def fits(n: int) -> bool:
            first, *later = bracket_stages(n, self.eta, epochs, stragglers)
            leg_s = resources.trial_seconds(first.epochs, 1)
            straggler_s = (first.straggler - 1) * first.epochs * resources.epoch_s
            last_s = _last_end_s(free_s, max(0, n - started), leg_s) + straggler_s
            return last_s + sum(allocate_fairly(work, size, resources).seconds for work in later) <= left_s

        return largest_fitting(fits)


def _interrupted(view: PolicyView, first: int) -> int:
    """Return the number of trials that were interrupted before the first rung."""
    busy = {gang.trial for gang in view.gangs}
    return sum(trial.alive and len(trial.curve) < first and trial.id not in busy for trial in view.trials)


def _free_s(view: PolicyView, resources: Resources, first: int, size: int) -> list[float]:
    """Return for each worker the seconds until it has finished its part of the first stage, ascending."""
    free_s: list[float] = []
    trials = {trial.id: trial for trial in view.trials}
    for gang in view.gangs:
        left = first - len(trials[gang.trial].curve)
        stall_s = resources.scaling.stall_s if gang.last_message_s == gang.started_s else 0.0
        left_s = stall_s + left * resources.epoch_s / resources.scaling.speedup(gang.parallelism)
        free_s += [max(0.0, left_s - (view.now_s - gang.last_message_s))] * gang.parallelism
    ready = sum(machine.slots for machine in view.machines if machine.state == "ready") - len(free_s)
    missing = max(0, size - len(free_s))
    booting = max(0, missing - max(0, ready))
    free_s += [0.0] * (missing - booting) + [resources.scaling.boot_s] * booting
    return sorted(free_s)


def _last_end_s(free_s: Sequence[float], new: int, leg_s: float) -> float:
    """Return when the last of ``new`` trials ends that are trained in waves on workers as they become free."""
    waves, rest = divmod(new, len(free_s))
    last_s = free_s[-1] + waves * leg_s
    return max(last_s, free_s[rest - 1] + (waves + 1) * leg_s) if rest else last_s
