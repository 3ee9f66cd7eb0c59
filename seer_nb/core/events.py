"""Events: what happened to a study, and commands of the user. The engine handles them; the journal stores them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from seer_nb.core.model import Config, Outcome, Settings
from seer_nb.core.types import Number


class EventBase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base class of events."""


class Began(EventBase, frozen=True, kw_only=True):
    """The study was created."""

    settings: Settings


class Ticked(EventBase, frozen=True, kw_only=True):
    """A timer of the engine fired."""


class RunnerStarted(EventBase, frozen=True, kw_only=True):
    """A runner started to drive the study.

    Machines of an earlier runner that are not listed here terminate themselves when their lease expires.
    """

    unseen_s: float = 0.0
    """Wall-clock seconds since the last record of the previous runner."""
    adopted: tuple[int, ...] = ()
    """Machines of the previous runner that are alive and will be used again."""
    retired: tuple[int, ...] = ()
    """Machines of the previous runner that still exist and were retired."""
    waiting: int = 0
    """Number of queued events that follow; the engine decides nothing before the last of them."""


class Drawn(EventBase, frozen=True, kw_only=True):
    """The sampler drew a configuration."""

    trial: Number
    config: Config


class SpaceExhausted(EventBase, frozen=True, kw_only=True):
    """The sampler has no configuration left."""


class MachineReady(EventBase, frozen=True, kw_only=True):
    """All workers of a machine joined the scheduler, warmed up and can train."""

    machine: int
    boot_s: float
    """Seconds from renting the machine until it was ready."""


class MachineEnded(EventBase, frozen=True, kw_only=True):
    """A machine is gone and its billing has ended."""

    machine: int
    expected: bool
    """Whether it was retired."""
    exit_code: int | None = None
    reason: str = ""
    lived_s: float | None = None
    """Lifetime in seconds by the provider's clock, if known; 0: the machine never existed and is not billed."""
    scarce: bool = False
    """Whether the provider had no capacity, so that a later request may succeed."""


class MachineBilled(EventBase, frozen=True, kw_only=True):
    """The lifetime of a machine that had already ended became known, or was corrected."""

    machine: int
    lived_s: float
    """Lifetime in seconds by the provider's clock; 0: the machine never existed."""


class MachinesLeftBehind(EventBase, frozen=True, kw_only=True):
    """The runner exits but could not terminate these machines."""

    machines: tuple[int, ...]


class MachineLeaving(EventBase, frozen=True, kw_only=True):
    """The provider will preempt a machine, or one of its workers can no longer train."""

    machine: int
    left_s: float
    """Seconds until the machine is gone."""
    reason: str = ""


class Reported(EventBase, frozen=True, kw_only=True):
    """A gang finished an epoch."""

    gang: int
    epoch: int
    value: float | None
    metrics: dict[str, float | None] = {}
    seconds: float
    setup_s: float | None = None
    """Seconds from the gang's start to its first step; only in its first report."""
    save_s: float = 0.0
    checkpoint: str | None = None
    batch_size: int | None = None
    parallelism: int | None = None
    """Number of workers, if an earlier gang trained the epoch and could not report it; None: all of this gang."""
    shares: bool | None = None
    """Whether workers share the work, or each do all of it; None: unknown, or not a gang's first report."""


class Silent(EventBase, frozen=True, kw_only=True):
    """A gang has been silent for twice its expected epoch time. The user is informed; nothing else happens."""

    gang: int
    silent_s: float
    where: str = ""
    """Code locations that its members are executing, as text."""


class GangEnded(EventBase, frozen=True, kw_only=True):
    """All members of a gang ended."""

    gang: int
    outcome: Outcome
    error: str = ""
    own_fault: bool = True
    """For outcomes failed and lost: whether the training function caused it; otherwise the machine did."""


class WorkerFailed(EventBase, frozen=True, kw_only=True):
    """A worker could not load the training function, so no trial can run."""

    worker: str
    error: str


class PartFailed(EventBase, frozen=True, kw_only=True):
    """An object that the user gave to the study raised, so that the study cannot continue."""

    part: str
    """What it is, and the name of its class, such as "sampler TPESampler"."""
    error: str
    """Traceback."""


class DeadlineMoved(EventBase, frozen=True, kw_only=True):
    """A wall-clock deadline has a new value in study seconds."""

    deadline_s: float


class SetBudget(EventBase, frozen=True, kw_only=True):
    """Command: set the budget, in micro-dollars."""

    budget_micro: int


class SetDeadline(EventBase, frozen=True, kw_only=True):
    """Command: set the deadline, in study seconds and, if it is a wall-clock time, in unix seconds."""

    deadline_s: float
    deadline_wall: float | None = None


class Pause(EventBase, frozen=True, kw_only=True):
    """Command: save all trials, retire all machines, stop the clock."""


class Resume(EventBase, frozen=True, kw_only=True):
    """Command: resume after a pause, or after the end if time or money was added."""


class Stop(EventBase, frozen=True, kw_only=True):
    """Command: save all trials, retire all machines, end the study."""


class Pin(EventBase, frozen=True, kw_only=True):
    """Command: pin a trial, so that it is never pruned; or unpin it."""

    trial: int
    pinned: bool = True


class StopTrial(EventBase, frozen=True, kw_only=True):
    """Command: stop one trial."""

    trial: int


Command: TypeAlias = SetBudget | SetDeadline | Pause | Resume | Stop | Pin | StopTrial
Event: TypeAlias = (
    Began
    | Ticked
    | RunnerStarted
    | Drawn
    | SpaceExhausted
    | MachineReady
    | MachineEnded
    | MachineBilled
    | MachinesLeftBehind
    | MachineLeaving
    | Reported
    | Silent
    | GangEnded
    | WorkerFailed
    | PartFailed
    | DeadlineMoved
    | Command
)
