"""The records that pass between the parts: frozen, typed, and alike in memory, in the journal and in views.

Times are study seconds: monotonic seconds consumed since the study began, not counting pauses or times without a
runner. Money is whole micro-dollars. A metric value of None means that it was not finite (the trial diverged).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from seer_nb.core.money import Offer

TrialState: TypeAlias = Literal["waiting", "running", "paused", "completed", "stopped", "failed"]
"""waiting: drawn, not begun. paused: saved, could go on. completed: fully trained. stopped: eliminated or ended."""
MachineState: TypeAlias = Literal["booting", "ready", "retiring", "ended"]
Phase: TypeAlias = Literal["created", "running", "pausing", "paused", "ending", "ended"]
Mode: TypeAlias = Literal["min", "max"]
Outcome: TypeAlias = Literal["target", "stopped", "returned", "failed", "lost"]
"""How a gang ended: reached its target epoch, was told to stop, its function returned, raised, or a worker was lost."""
Config: TypeAlias = dict[str, Any]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records."""


class Settings(Frozen, frozen=True, kw_only=True):
    """What a study was created with. Later changes of budget and deadline are events."""

    name: str
    metric: str
    mode: Mode
    max_epochs: int
    deadline_s: float
    """Study seconds. For a wall-clock deadline the runner keeps it in step by DeadlineMoved."""
    deadline_wall: float | None = None
    """Unix seconds when the deadline was given as a datetime."""
    budget: int
    """Micro-dollars."""
    seed: int
    offers: tuple[Offer, ...]
    max_workers: int
    lease_s: float
    """A machine that has not heard of its runner for so long ends itself."""
    store: str
    """fsspec URL of the checkpoints' folder."""
    policy: str
    report_timeout_s: float | None = None
    """A gang silent for so long is ended as hung; None: judged from the epoch times seen."""
    retries: int = 3
    """How often a trial may lose its workers at the same epoch before it is marked failed."""


class Report(Frozen, frozen=True, kw_only=True):
    """One epoch of one trial."""

    epoch: int
    value: float | None
    metrics: dict[str, float | None]
    seconds: float
    """Duration of the epoch on its gang, without set-up and saving."""
    parallelism: int
    at_s: float
    cost: int
    """Micro-dollars that the trial has cost up to here."""
    checkpoint: str | None
    """Where its state is stored, relative to the store; "" when the function keeps no state; None: not stored."""


class Trial(Frozen, frozen=True, kw_only=True):
    """One configuration being trained."""

    id: int
    config: Config
    state: TrialState = "waiting"
    curve: tuple[Report, ...] = ()
    best: Report | None = None
    """The stored report with the best value."""
    resume: Report | None = None
    """The latest stored report: where training goes on from."""
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
    """Gangs lost in a row without a new report."""

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
        return self.curve[epoch - 1].value


class Machine(Frozen, frozen=True, kw_only=True):
    """One rented machine; its workers are named "<machine>.<slot>"."""

    id: int
    offer: str
    slots: int
    state: MachineState = "booting"
    rented_s: float
    ready_s: float | None = None
    retired_s: float | None = None
    """When it was told to go."""
    ended_s: float | None = None
    unseen_s: float = 0.0
    """Seconds that it may have lived on without a runner; billed as well."""
    reason: str = ""

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of its workers."""
        return tuple(f"{self.id}.{slot}" for slot in range(self.slots))


class Gang(Frozen, frozen=True, kw_only=True):
    """The workers that train one trial together from one checkpoint: a generation."""

    id: int
    trial: int
    workers: tuple[str, ...]
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


# --- Events: what happened ------------------------------------------------------------------------------------------


class EventBase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the events that are fed to the engine."""


class Began(EventBase, frozen=True, kw_only=True):
    """The study was created."""

    settings: Settings


class Ticked(EventBase, frozen=True, kw_only=True):
    """Time has come to look again."""


class RunnerStarted(EventBase, frozen=True, kw_only=True):
    """A runner took the study up; machines of an earlier runner are gone after at most the lease."""

    unseen_s: float = 0.0
    """Wall seconds since the last record of the runner before it."""


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


# --- Actions: what is to be done ------------------------------------------------------------------------------------


class ActionBase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the engine's decisions; each says why."""

    reason: str = ""


class Rent(ActionBase, frozen=True, kw_only=True):
    """Rent a machine."""

    machine: int
    offer: str


class Retire(ActionBase, frozen=True, kw_only=True):
    """Hand a machine back."""

    machine: int
    force: bool = False


class Draw(ActionBase, frozen=True, kw_only=True):
    """Ask the sampler for configurations."""

    count: int


class StartGang(ActionBase, frozen=True, kw_only=True):
    """Train a trial on these workers from its latest checkpoint until an epoch."""

    gang: int
    trial: int
    workers: tuple[str, ...]
    from_epoch: int
    checkpoint: str | None
    until: int


class StopGang(ActionBase, frozen=True, kw_only=True):
    """Have a gang save and end after its epoch in progress."""

    gang: int


class ExtendGang(ActionBase, frozen=True, kw_only=True):
    """Let a gang train on to another epoch than it was started for."""

    gang: int
    until: int


class AbandonGang(ActionBase, frozen=True, kw_only=True):
    """Give a hung gang up: note where its function stands, then end its machines."""

    gang: int


class EndTrial(ActionBase, frozen=True, kw_only=True):
    """A verdict on a trial."""

    trial: int
    state: TrialState
    error: str = ""


class BeginEnd(ActionBase, frozen=True, kw_only=True):
    """Save all trials and hand all machines back; the study ends when they are gone."""

    failed: bool = False


class Finish(ActionBase, frozen=True, kw_only=True):
    """The study has ended; all machines are gone."""


class Note(ActionBase, frozen=True, kw_only=True):
    """Something a person should know that changes nothing by itself."""


Command: TypeAlias = SetBudget | SetDeadline | Pause | Resume | Stop | Pin | StopTrial
Event: TypeAlias = (
    Began
    | Ticked
    | RunnerStarted
    | Drawn
    | SpaceExhausted
    | MachineReady
    | MachineEnded
    | Reported
    | GangEnded
    | WorkerFailed
    | DeadlineMoved
    | Command
)
Action: TypeAlias = (
    Rent | Retire | Draw | StartGang | StopGang | ExtendGang | AbandonGang | EndTrial | BeginEnd | Finish | Note
)


# --- What a policy sees and asks for --------------------------------------------------------------------------------


class Scaling(Frozen, frozen=True, kw_only=True):
    """What has been learned of speed; see core.scaling for how."""

    epoch_s: float | None = None
    """Seconds of an epoch on one worker, averaged over trials; None before the first report."""
    overhead: float = 0.15
    """c in the speedup s(p) = p / (1 + c (p - 1))."""
    stall_s: float = 1.0
    """Seconds from the decision to start or resize a gang to its first step."""
    boot_s: float = 30.0
    """Seconds from renting a machine until it can train."""

    def speedup(self, parallelism: int) -> float:
        """Epochs per second on p workers over epochs per second on one."""
        return parallelism / (1 + self.overhead * (parallelism - 1))


class Snapshot(Frozen, frozen=True, kw_only=True):
    """All that a policy may see."""

    now_s: float
    stop_s: float
    """The last moment at which the deadline leaves time to train: after it trials are saved and machines end."""
    budget: int
    spent: int
    committed: int
    mode: Mode
    max_epochs: int
    seed: int
    trials: tuple[Trial, ...]
    """Those that have begun, in order of their ids."""
    waiting: int = 0
    """Configurations that were drawn and have not begun."""
    gangs: tuple[Gang, ...]
    machines: tuple[Machine, ...]
    """Those that have not ended."""
    offers: tuple[Offer, ...]
    max_workers: int
    lease_s: float
    scaling: Scaling
    exhausted: bool = False
    """The sampler has no further configuration."""

    @property
    def free(self) -> int:
        """Micro-dollars neither spent nor committed."""
        return self.budget - self.spent - self.committed

    @property
    def time_left_s(self) -> float:
        """Seconds in which training is still of use."""
        return max(0.0, self.stop_s - self.now_s)


class Job(Frozen, frozen=True, kw_only=True):
    """A trial (None: the next new one) to be trained on so many workers until an epoch."""

    trial: int | None
    workers: int = 1
    until: int
    reason: str = ""


class Verdict(Frozen, frozen=True, kw_only=True):
    """A trial to be eliminated."""

    trial: int
    reason: str


class Plan(Frozen, frozen=True, kw_only=True):
    """All that a policy may ask for. Running gangs without a job are saved and paused."""

    jobs: tuple[Job, ...] = ()
    """Most urgent first; running gangs that should go on are listed too."""
    verdicts: tuple[Verdict, ...] = ()
    workers: int = 0
    """Wanted size of the cluster, in workers."""
    done: bool = False
    """Nothing useful is left to do with the time and money there is."""
    reason: str = ""
    """The plan in words: survivors, parallelism, finish, cost."""
    wake_s: float | None = None
    """Study seconds at which the policy wants to look again even if nothing happens."""
