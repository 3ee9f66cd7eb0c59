"""What a policy sees and what it may ask for."""

from __future__ import annotations

from typing import Any, Protocol

from seer_nb.core.model import Gang, Machine, Mode, Trial
from seer_nb.core.money import Offer
from seer_nb.core.types import Frozen


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
    carry: Any = None
    """What the policy's last plan gave it to remember; None at first, and after a new runner took the study up."""

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
    proposed: bool = False
    """Whether a new trial's configuration may be chosen by what earlier trials have shown; else at random."""


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
    each_report: bool = False
    """Whether the policy wants to look at every report; else it is asked when a gang has its first one, when gangs
    and machines come and go, when speed leaves its estimate, and when a person moves the limits."""
    carry: Any = None
    """What the policy wants to find in the next snapshot. Immutable, and a function of the snapshot like all else."""


class Policy(Protocol):
    """A pure function from what there is to what is wanted."""

    def decide(self, snapshot: Snapshot) -> Plan:
        """Must not depend on anything but the snapshot."""
        ...
