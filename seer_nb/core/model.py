"""What a study consists of: its settings, trials with their reports, machines and gangs.

Times are study seconds: monotonic seconds consumed since the study began, not counting pauses or times without a
runner. Money is whole micro-dollars. A metric value of None means that it was not finite (the trial diverged).
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
"""Timers are late by less."""

TrialState: TypeAlias = Literal["waiting", "running", "paused", "completed", "stopped", "failed"]
"""waiting: drawn, not begun. paused: saved, could go on. completed: fully trained. stopped: eliminated or ended."""
MachineState: TypeAlias = Literal["booting", "ready", "retiring", "ended"]
Phase: TypeAlias = Literal["created", "running", "pausing", "paused", "ending", "ended"]
Mode: TypeAlias = Literal["min", "max"]
Outcome: TypeAlias = Literal["target", "stopped", "returned", "failed", "lost", "damaged"]
"""How a gang ended: it reached its target epoch, was told to stop, its function returned or raised, a worker or the
store was lost, or the checkpoint that it was to go on from is damaged."""
Config: TypeAlias = dict[str, Any]


class Settings(Frozen, frozen=True, kw_only=True):
    """What a study was created with. Later changes of budget and deadline are events."""

    name: str
    metric: str
    mode: Mode
    max_epochs: Epochs
    deadline_s: Seconds
    """Study seconds. For a wall-clock deadline the runner keeps it in step by DeadlineMoved."""
    deadline_wall: float | None = None
    """Unix seconds when the deadline was given as a datetime."""
    budget: Micro
    """Micro-dollars."""
    seed: Seed
    offers: Annotated[tuple[Offer, ...], msgspec.Meta(min_length=1)]
    """That train, the preferred kind first."""
    host: Offer | None = None
    """A machine for the Dask scheduler, where that needs one of its own."""
    max_workers: Workers
    lease_s: Seconds
    """A machine that has not heard of its runner for so long ends itself."""
    store: str
    """fsspec URL of the checkpoints' folder."""
    policy: str
    report_timeout_s: float | None = None
    """A gang silent for so long is ended as hung; None: judged from the epoch times seen."""
    retries: int = 3
    """How often a trial may lose its workers at the same epoch before it is marked failed."""
    keeps_failures: bool = False
    """Whether a failed trial is a result like any other, so that the study goes on however many first ones fail."""


class Trial(Frozen, frozen=True, kw_only=True):
    """One configuration being trained."""

    id: int
    config: Config
    state: TrialState = "waiting"
    curve: Sequence[Report] = ()
    """Never changes: a longer one takes its place."""
    best: Report | None = None
    """The stored report with the best value."""
    resume: Report | None = None
    """The latest stored report: where training goes on from."""
    spare: Report | None = None
    """The one stored before it, for the case that it turns out to be damaged."""
    gang: int | None = None
    batch_size: int | None = None
    """Global batch that the function asked of run.loader; a parallelism must divide it."""
    worker_seconds: float = 0.0
    nanos: int = 0
    """What it has cost in billionths of a dollar: many epochs are shorter than a micro-dollar is long."""
    max_parallelism: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    reason: str = ""
    error: str = ""
    pinned: bool = False
    losses: int = 0
    """Gangs lost in a row without a new report, other than while they were told to stop."""

    @property
    def epoch(self) -> int:
        """The last epoch reported; 0 before the first."""
        return self.curve[-1].epoch if self.curve else 0

    @property
    def resume_epoch(self) -> int:
        """The last epoch stored; training goes on with the one after it."""
        return self.resume.epoch if self.resume else 0

    @property
    def diverged(self) -> bool:
        """Whether the last value was not finite."""
        return bool(self.curve) and self.curve[-1].value is None

    @property
    def cost(self) -> int:
        """Micro-dollars that it has cost: its share of the machines' rent."""
        return round(self.nanos / 1000)

    @property
    def alive(self) -> bool:
        """Whether it is still in the running."""
        return self.state in {"waiting", "running", "paused"}

    def value_at(self, epoch: int) -> float | None:
        """The value reported at an epoch, None if not finite. Raises KeyError if that epoch was not reported."""
        # Reports have consecutive epochs, so the index is known.
        if not 1 <= epoch <= len(self.curve):
            raise KeyError(epoch)
        return value_at(self.curve, epoch - 1)


class Machine(Frozen, frozen=True, kw_only=True):
    """One rented machine; its workers are named "<machine>.<slot>"."""

    id: int
    offer: str
    slots: Slots
    state: MachineState = "booting"
    rented_s: float
    ready_s: float | None = None
    retired_s: float | None = None
    """When it was told to go."""
    leaves_s: float | None = None
    """When its provider will take it away, if it has said so."""
    ended_s: float | None = None
    unseen_s: float = 0.0
    """Seconds that it may have lived on without a runner; billed as well."""
    lost: bool = False
    """Whether it ended without being told to, once it was ready."""
    reason: str = ""

    @property
    def hosts(self) -> bool:
        """Whether it hosts the Dask scheduler."""
        return self.slots == 0

    @property
    def stays(self) -> bool:
        """Whether it can be counted on to train: it was not told to go, and its provider has not said so either."""
        return not self.hosts and self.leaves_s is None and self.state != "retiring"

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of its workers."""
        return _names(self.id, self.slots)


@lru_cache(maxsize=1 << 13)
def _names(machine: int, slots: int) -> tuple[str, ...]:
    return tuple(f"{machine}.{slot}" for slot in range(slots))


class Gang(Frozen, frozen=True, kw_only=True):
    """The workers that train one trial together from one checkpoint: a generation."""

    id: int
    trial: int
    workers: Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_WORKERS)]
    from_epoch: int
    until: int
    started_s: float
    heard_s: float
    """When it last reported, or began."""
    stopping: str = ""
    """Why it was told to stop; empty while it trains."""
    abandoned: bool = False
    """Whether it was given up as hung; its machines go with it."""

    @property
    def parallelism(self) -> int:
        """Number of workers."""
        return len(self.workers)
