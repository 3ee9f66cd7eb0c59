"""The interface of policies: the view that a policy receives, and the plan that it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from seer_nb._utils.text import short_repr
from seer_nb.core.model import Gang, Machine, Mode, Trial
from seer_nb.core.money import Offer
from seer_nb.core.types import MOST_EPOCHS, MOST_WORKERS, Frozen

if TYPE_CHECKING:
    from collections.abc import Container


class Scaling(Frozen, frozen=True, kw_only=True):
    """Estimated training speed; `core.scaling` computes it."""

    epoch_s: float | None = None
    """Seconds of an epoch on one worker, averaged over trials; None before the first report."""
    overhead: float = 0.15
    """Overhead c in the speedup s(p) = p / (1 + c (p - 1))."""
    stall_s: float = 1.0
    """Seconds from the decision to start or resize a gang until its first step."""
    boot_s: float = 30.0
    """Seconds from renting a machine until it can train."""

    def speedup(self, parallelism: int) -> float:
        """Return s(p): epochs per second on p workers, relative to one worker."""
        return parallelism / (1 + self.overhead * (parallelism - 1))


class PolicyView(Frozen, frozen=True, kw_only=True):
    """All that a policy may depend on; immutable. Money is in micro-dollars, time in study seconds."""

    now_s: float
    stop_s: float
    """Last moment that the deadline leaves for training; afterwards trials are saved and machines terminate."""
    budget_micro: int
    spent_micro: int
    committed_micro: int
    mode: Mode
    max_epochs: int
    seed: int
    trials: tuple[Trial, ...]
    """Started trials, ordered by id."""
    waiting: int = 0
    """Number of trials that were drawn and have not started."""
    gangs: tuple[Gang, ...]
    machines: tuple[Machine, ...]
    """Machines with workers that have not ended, without those that will be preempted."""
    offers: tuple[Offer, ...]
    """Offers, the one to rent from first."""
    max_workers: int
    max_parallelism: int = MOST_WORKERS
    """Most workers of one trial; 1 if `Trial.shares` is False. The engine reduces larger jobs."""
    lease_s: float
    scaling: Scaling
    exhausted: bool = False
    """Whether the sampler has no configuration left."""
    carry: Any = None
    """`Plan.carry` of the policy's last plan; None at first, and after a new runner has started."""

    @property
    def free_micro(self) -> int:
        """Micro-dollars that are neither spent nor committed."""
        return self.budget_micro - self.spent_micro - self.committed_micro

    @property
    def time_left_s(self) -> float:
        """Seconds until `stop_s`."""
        return max(0.0, self.stop_s - self.now_s)


class Job(Frozen, frozen=True, kw_only=True):
    """A trial to train on a number of workers until an epoch."""

    trial: int | None
    """Id of the trial; None: the next new trial."""
    workers: int = 1
    until: int
    """Last epoch to train."""
    reason: str = ""
    proposed: bool = False
    """Whether a new trial's configuration may depend on the results of earlier trials; otherwise it is random."""


class Verdict(Frozen, frozen=True, kw_only=True):
    """A trial to prune."""

    trial: int
    reason: str


class Plan(Frozen, frozen=True, kw_only=True):
    """All that a policy may request. Gangs that train without a job are saved and paused."""

    jobs: tuple[Job, ...] = ()
    """Jobs, the most urgent first, including those of gangs that train and should continue."""
    verdicts: tuple[Verdict, ...] = ()
    """Trials to prune."""
    workers: int = 0
    """Wanted size of the cluster, in workers."""
    done: bool = False
    """Whether the remaining time and money allow nothing useful."""
    reason: str = ""
    """The plan as text: survivors, parallelism, finish time, cost."""
    wake_s: float | None = None
    """Study seconds at which the policy must be called again even if no event arrives."""
    each_report: bool = False
    """Whether the policy must be called at every report.

    Otherwise it is called at the first report of a gang, when gangs or machines start or end, when the measured speed
    leaves its estimate, and when the user changes a limit.
    """
    carry: Any = None
    """Memory of the policy, passed to its next call. Must be immutable and depend only on the policy view."""


def check_plan(plan: Any, trials: Container[int]) -> Plan:
    """Return the plan of a policy if an engine can carry it out.

    Args:
        plan: What ``decide`` has returned.
        trials: Ids of the study's trials.

    Raises:
        TypeError, ValueError: It is no plan, or has a field that is invalid.
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"decide() returned {short_repr(plan)}; expected a Plan")
    _check_integer("workers", plan.workers, 0)
    _check_field("reason", plan.reason, isinstance(plan.reason, str), "a string")
    _check_field("wake_s", plan.wake_s, isinstance(plan.wake_s, int | float | None), "seconds or None")
    for job in plan.jobs:
        if job.trial is not None:
            _check_field("job.trial", job.trial, job.trial in trials, "the id of a trial, or None")
        _check_integer("job.workers", job.workers, 1)
        _check_integer("job.until", job.until, 1)
        _check_field("job.reason", job.reason, isinstance(job.reason, str), "a string")
    for verdict in plan.verdicts:
        _check_field("verdict.trial", verdict.trial, verdict.trial in trials, "the id of a trial")
        _check_field("verdict.reason", verdict.reason, isinstance(verdict.reason, str), "a string")
    return plan


def _check_integer(name: str, value: Any, least: int) -> None:
    valid = isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_EPOCHS
    _check_field(name, value, valid, f"an integer from {least} to {MOST_EPOCHS}")


def _check_field(name: str, value: Any, valid: bool, expected: str) -> None:  # noqa: FBT001 - private
    if not valid:
        raise ValueError(f"{name}={short_repr(value)} in the plan of decide(); expected {expected}")


class Policy(Protocol):
    """A pure function from a policy view to a plan."""

    def decide(self, view: PolicyView) -> Plan:
        """Return the plan. It must depend on nothing but the policy view."""
        ...
