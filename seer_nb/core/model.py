"""Records of a study: settings, trials, machines and gangs, and the names of workers.

Times are study seconds: monotonic seconds since the study began, without pauses and without periods that had no runner.
Money is in whole micro-dollars. A metric value of None means that the value was not finite (the trial diverged).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from seer_nb.core.curve import Report, value_at
from seer_nb.core.money import Offer
from seer_nb.core.types import MOST_WORKERS, Epochs, Frozen, Micro, Seconds, Seed, Slots, Workers

SLACK_S = 1.0
"""Upper bound in seconds on how late a timer fires."""

TrialState: TypeAlias = Literal["waiting", "running", "paused", "completed", "stopped", "failed"]
"""State of a trial.

waiting: drawn, not started. paused: saved, can be resumed. completed: fully trained. stopped: pruned, or stopped by the
user.
"""
MachineState: TypeAlias = Literal["booting", "ready", "retiring", "ended"]
Phase: TypeAlias = Literal["created", "running", "pausing", "paused", "ending", "ended"]
Mode: TypeAlias = Literal["min", "max"]
Outcome: TypeAlias = Literal["target", "stopped", "returned", "failed", "lost", "damaged"]
"""How a gang ended.

target: reached its target epoch. stopped: stopped on request. returned, failed: the training function returned or
raised. lost: a worker or the store was lost. damaged: the checkpoint to resume from is damaged.
"""
Config: TypeAlias = dict[str, Any]


class Settings(Frozen, frozen=True, kw_only=True):
    """Settings that a study was created with. Later changes of budget and deadline are events."""

    name: str
    metric: str
    mode: Mode
    max_epochs: Epochs
    deadline_s: Seconds
    """Deadline in study seconds. The runner adjusts it by `DeadlineMoved` when the deadline is a wall-clock time."""
    deadline_wall: float | None = None
    """Deadline in unix seconds, if it was given as a datetime."""
    budget_micro: Micro
    """Budget in micro-dollars."""
    seed: Seed
    offers: Annotated[tuple[Offer, ...], msgspec.Meta(min_length=1)]
    """Offers of machines that train, the preferred kind first."""
    scheduler_offer: Offer | None = None
    """Offer of the scheduler machine; None if the Dask scheduler needs no machine of its own."""
    max_workers: Workers
    lease_s: Seconds
    """Seconds without a renewed lease after which a machine terminates itself."""
    store: str
    """fsspec URL of the folder that holds the checkpoints."""
    policy: str
    report_timeout_s: float | None = None
    """Seconds without a report after which a gang counts as hung; None: derived from measured epoch times."""
    retries: int = 3
    """Number of times a trial may lose its workers at the same epoch before it is marked failed."""
    max_parallelism: Annotated[int, msgspec.Meta(ge=1, le=MOST_WORKERS)] | None = None
    """Most workers that may train one trial together; None: no limit."""
    keeps_failures: bool = False
    """Whether a failed trial counts as a result, so that failures of the first trials do not end the study."""


class Trial(Frozen, frozen=True, kw_only=True):
    """One configuration being trained."""

    id: int
    config: Config
    state: TrialState = "waiting"
    curve: Sequence[Report] = ()
    """Immutable sequence of reports; each new report creates a new sequence."""
    best: Report | None = None
    """Report with the best value among those whose checkpoint is stored."""
    resume: Report | None = None
    """Latest report whose checkpoint is stored; training resumes from there."""
    fallback: Report | None = None
    """Report stored before `resume`, used if the checkpoint of `resume` is damaged."""
    gang: int | None = None
    batch_size: int | None = None
    """Global batch size passed to `run.loader`; the parallelism must divide it."""
    worker_seconds: float = 0.0
    cost_nano: int = 0
    """Cost in nano-dollars, because many epochs cost less than a micro-dollar."""
    max_parallelism: int = 0
    """Most workers that have trained the trial together."""
    shares: bool | None = None
    """Whether workers share the trial's work, or each do all of it; None: unknown."""
    started_s: float | None = None
    ended_s: float | None = None
    reason: str = ""
    error: str = ""
    pinned: bool = False
    losses: int = 0
    """Gangs lost in a row without a new report; gangs that were stopping do not count."""

    @property
    def epoch(self) -> int:
        """The last reported epoch; 0 before the first report."""
        return self.curve[-1].epoch if self.curve else 0

    @property
    def resume_epoch(self) -> int:
        """The last stored epoch, after which training resumes; 0 if none is stored."""
        return self.resume.epoch if self.resume else 0

    @property
    def diverged(self) -> bool:
        """Whether the last reported value was not finite."""
        return bool(self.curve) and self.curve[-1].value is None

    @property
    def cost_micro(self) -> int:
        """Cost in micro-dollars: the trial's share of the machines' rent."""
        return round(self.cost_nano / 1000)

    @property
    def alive(self) -> bool:
        """Whether the trial has not ended."""
        return self.state in {"waiting", "running", "paused"}

    def value_at(self, epoch: int) -> float | None:
        """Return the value reported at an epoch; None if it was not finite.

        Raises:
            KeyError: The epoch was not reported.
        """
        # Reports have consecutive epochs, so the index follows from the epoch.
        if not 1 <= epoch <= len(self.curve):
            raise KeyError(epoch)
        return value_at(self.curve, epoch - 1)


class Machine(Frozen, frozen=True, kw_only=True):
    """A rented machine; `worker_name` defines the names of its workers."""

    id: int
    offer: str
    slots: Slots
    state: MachineState = "booting"
    rented_s: float
    ready_s: float | None = None
    retired_s: float | None = None
    """Time at which it was retired."""
    leaves_s: float | None = None
    """Time at which the provider will preempt it, if the provider sent a notice."""
    ended_s: float | None = None
    unseen_s: float = 0.0
    """Seconds that it may have lived without a runner; they are billed too."""
    lost: bool = False
    """Whether it ended unexpectedly after it was ready."""
    reason: str = ""

    @property
    def runs_scheduler(self) -> bool:
        """Whether it is the scheduler machine, which has no workers."""
        return self.slots == 0

    @property
    def keeps_training(self) -> bool:
        """Whether it will keep training: it has workers, is not retiring and received no preemption notice."""
        return not self.runs_scheduler and self.leaves_s is None and self.state != "retiring"

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of its workers."""
        return _worker_names(self.id, self.slots)


class Gang(Frozen, frozen=True, kw_only=True):
    """The workers that train one trial together from one checkpoint."""

    id: int
    trial: int
    workers: Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_WORKERS)]
    from_epoch: int
    until: int
    started_s: float
    last_message_s: float
    """Time of its last report; its start time before the first report."""
    stopping: str = ""
    """Why its stop was requested; empty while it trains."""
    abandoned: bool = False
    """Whether it was abandoned as hung; its machines are retired with it."""

    @property
    def parallelism(self) -> int:
        """Number of workers."""
        return len(self.workers)


def worker_name(machine: int, slot: int) -> str:
    """Return the name of the worker in one slot of a machine."""
    return f"{machine}.{slot}"


@lru_cache(maxsize=1 << 16)
def machine_of_worker(name: str) -> int:
    """Return the id of the machine that a worker runs on; the inverse of `worker_name`."""
    return int(name.partition(".")[0])


@lru_cache(maxsize=1 << 13)
def _worker_names(machine: int, slots: int) -> tuple[str, ...]:
    return tuple(worker_name(machine, slot) for slot in range(slots))
