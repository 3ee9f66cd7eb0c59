"""What happened to a study, and what a person asked for: these are fed to the engine, and journalled."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from seer_nb.core.model import Config, Outcome, Settings


class EventBase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the events that are fed to the engine."""


class Began(EventBase, frozen=True, kw_only=True):
    """The study was created."""

    settings: Settings


class Ticked(EventBase, frozen=True, kw_only=True):
    """Time has come to look again."""


class RunnerStarted(EventBase, frozen=True, kw_only=True):
    """A runner took the study up; other machines of an earlier runner are gone after at most the lease."""

    unseen_s: float = 0.0
    """Wall seconds since the last record of the runner before it."""
    adopted: tuple[int, ...] = ()
    """Machines of the earlier runner that still live, and go on."""
    left: tuple[int, ...] = ()
    """Those that still exist, and have been told to go."""
    waiting: int = 0
    """Events that come next, for they have waited for a runner: nothing is decided before the last of them."""


class Drawn(EventBase, frozen=True, kw_only=True):
    """The sampler proposed a configuration."""

    trial: int
    config: Config


class SpaceExhausted(EventBase, frozen=True, kw_only=True):
    """The sampler has no further configuration."""


class MachineReady(EventBase, frozen=True, kw_only=True):
    """A machine's workers have joined, warmed up, and can train."""

    machine: int
    boot_s: float


class MachineEnded(EventBase, frozen=True, kw_only=True):
    """A machine is gone: its billing has ended."""

    machine: int
    expected: bool
    """Whether it was told to go."""
    exit_code: int | None = None
    reason: str = ""
    lived_s: float | None = None
    """How long it has lived by its provider's clock, if that is known; 0: there was none, and nothing is billed."""
    scarce: bool = False
    """Whether the provider had none to give, so that there may be one later."""


class MachineBilled(EventBase, frozen=True, kw_only=True):
    """What is known by now of how long a machine has lived that was thought to have ended before."""

    machine: int
    lived_s: float


class MachinesLeftBehind(EventBase, frozen=True, kw_only=True):
    """The runner ends, but could not end these machines."""

    machines: tuple[int, ...]


class MachineLeaving(EventBase, frozen=True, kw_only=True):
    """The provider will take a machine away, or one of its workers cannot train any more."""

    machine: int
    left_s: float
    """Seconds until then."""
    reason: str = ""


class Reported(EventBase, frozen=True, kw_only=True):
    """A gang finished an epoch."""

    gang: int
    epoch: int
    value: float | None
    metrics: dict[str, float | None] = {}
    seconds: float
    setup_s: float | None = None
    """On a gang's first report: seconds from its start to its first step."""
    save_s: float = 0.0
    checkpoint: str | None = None
    batch_size: int | None = None
    parallelism: int | None = None
    """Workers that trained it, if that was an earlier gang, of which nobody had heard; None: all of this one."""


class Silent(EventBase, frozen=True, kw_only=True):
    """A gang has not reported in twice the time that its epoch should take: a person is told, nothing else follows."""

    gang: int
    silent_s: float
    where: str = ""
    """Where its members stand, in words."""


class GangEnded(EventBase, frozen=True, kw_only=True):
    """All members of a gang have ended."""

    gang: int
    outcome: Outcome
    error: str = ""
    own_fault: bool = True
    """For failed and lost: whether the training function brought it about (else: the machine did)."""


class WorkerFailed(EventBase, frozen=True, kw_only=True):
    """A worker could not load the training function: no trial can run."""

    worker: str
    error: str


class DeadlineMoved(EventBase, frozen=True, kw_only=True):
    """A wall-clock deadline, expressed anew in study seconds."""

    deadline_s: float


class SetBudget(EventBase, frozen=True, kw_only=True):
    """Command: a new budget in micro-dollars."""

    budget: int


class SetDeadline(EventBase, frozen=True, kw_only=True):
    """Command: a new deadline, as study seconds from the start, or wall clock."""

    deadline_s: float
    deadline_wall: float | None = None


class Pause(EventBase, frozen=True, kw_only=True):
    """Command: save all trials, hand back all machines, keep time and money."""


class Resume(EventBase, frozen=True, kw_only=True):
    """Command: go on after a pause, or after the end when time and money were added."""


class Stop(EventBase, frozen=True, kw_only=True):
    """Command: save, hand back, end the study."""


class Pin(EventBase, frozen=True, kw_only=True):
    """Command: keep a trial in the running whatever its rank; or let it go again."""

    trial: int
    pinned: bool = True


class StopTrial(EventBase, frozen=True, kw_only=True):
    """Command: end one trial."""

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
    | DeadlineMoved
    | Command
)
