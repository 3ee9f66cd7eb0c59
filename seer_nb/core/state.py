"""The state of a study, reduced from its records. Engine and views share it: the same records give the same state."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb.core import reducers
from seer_nb.core.money import Ledger, Offer
from seer_nb.core.scaling import SpeedTracker, usual_s

if TYPE_CHECKING:
    from seer_nb.core.actions import Action
    from seer_nb.core.events import Event
    from seer_nb.core.model import Gang, Machine, Mode, Phase, Settings, Trial
    from seer_nb.core.offer_choice import Refusals


@dataclass
class StateIndex:
    """Counts and sets."""

    waiting: dict[int, None] = field(default_factory=dict)
    """Trials that were drawn and have not begun, in that order."""
    best: tuple[float, int] | None = None
    """(value, the lower the better; trial) of the best stored report of all."""
    reported: bool = False
    """Whether any trial has."""
    idle: set[int] = field(default_factory=set)
    """Ready machines that stay, with a worker that no gang uses."""
    leaving: set[int] = field(default_factory=set)
    """Machines that live, and that their provider will take away."""
    retiring: set[int] = field(default_factory=set)
    """Machines that live, and were told to go."""
    live_of: Counter[str] = field(default_factory=Counter)
    """Machines that live, by offer."""
    slots: int = 0
    """Workers of machines that live."""
    ready_slots: int = 0
    """Workers of ready machines."""
    staying_slots: int = 0
    """Workers of machines that can be counted on to train."""
    booting: int = 0
    """Machines that boot."""
    training: int = 0
    """Workers that gangs use."""

    @classmethod
    def of(cls, state: State) -> StateIndex:
        """Counted anew."""
        tally = cls()
        tally.waiting = {trial.id: None for trial in state.trials.values() if trial.state == "waiting"}
        for trial in state.trials.values():
            tally.trial(trial, state.settings.mode)
        for machine in state.live.values():
            tally.machine(None, machine, state.busy)
        tally.training = sum(gang.parallelism for gang in state.gangs.values())
        return tally

    def trial(self, trial: Trial, mode: Mode) -> None:
        """A trial has changed."""
        if trial.state != "waiting":
            self.waiting.pop(trial.id, None)
        self.reported = self.reported or bool(trial.curve)
        # A trial's best report is followed by a worse one only when its checkpoint is damaged: see ``rank``.
        if trial.best is not None and trial.best.value is not None:
            key = (trial.best.value if mode == "min" else -trial.best.value, trial.id)
            self.best = key if self.best is None else min(self.best, key)

    def rank(self, state: State) -> None:
        """Find the best anew, as a trial has lost its best report."""
        self.best = None
        for trial in state.trials.values():
            self.trial(trial, state.settings.mode)

    def machine(self, old: Machine | None, new: Machine, busy: set[str]) -> None:
        """A machine has changed, or (without an old one) is new."""
        if old is not None:
            self._count(old, -1)
        self._count(new, 1)
        _keep(self.leaving, new.id, new.state != "ended" and new.leaves_s is not None)
        _keep(self.retiring, new.id, new.state != "ended" and new.retired_s is not None)
        self._settle(new, busy)

    def gang(self, gang: Gang, change: int, state: State) -> None:
        """A gang has begun (1), or has ended (-1)."""
        self.training += change * gang.parallelism
        for machine in state.machines_of(gang):
            self._settle(state.machines[machine], state.busy)

    def _count(self, machine: Machine, change: int) -> None:
        if machine.state != "ended":
            self.live_of[machine.offer] += change
            self.slots += change * machine.slots
            self.ready_slots += change * machine.slots * (machine.state == "ready")
            self.staying_slots += change * machine.slots * machine.stays
            self.booting += change * (machine.state == "booting")

    def _settle(self, machine: Machine, busy: set[str]) -> None:
        able = machine.state == "ready" and machine.leaves_s is None
        _keep(self.idle, machine.id, able and not busy.issuperset(machine.workers))


def _keep(members: set[int], number: int, belongs: bool) -> None:  # noqa: FBT001 - private
    if belongs:
        members.add(number)
    else:
        members.discard(number)


HEARTBEAT = 1 / 3
"""As long as machines live, something is recorded at least every so many leases: so a later runner knows how long its
predecessor lived, and with it the machines."""
HANDLERS = reducers.MACHINE_HANDLERS | reducers.TRIAL_HANDLERS | reducers.STUDY_HANDLERS
LIVE_MACHINE = frozenset({"booting", "ready", "retiring"})


class State:
    """Mutable; changes only through ``apply``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        host = () if settings.host is None else (settings.host,)
        self.offers: dict[str, Offer] = {offer.name: offer for offer in (*settings.offers, *host)}
        self.ledger = Ledger(settings.budget, settings.lease_s)
        self.speed = SpeedTracker(boot_s=settings.offers[0].boot_s)
        self.trials: dict[int, Trial] = {}
        self.machines: dict[int, Machine] = {}
        self.gangs: dict[int, Gang] = {}
        """Those that have not ended."""
        self.ended_gangs: dict[int, Gang] = {}
        self.live: dict[int, Machine] = {}
        """Machines that have not ended."""
        self.silent: dict[int, str] = {}
        """Where those of the gangs stand that were found to be silent, in words."""
        self.busy: set[str] = set()
        """Workers that a gang uses."""
        self.tally = StateIndex()
        """Who of them all is what, so that nobody has to ask each one."""
        self.free_s: dict[int, float] = {}
        """By live machine: when it was rented, was ready or last ended a gang, whichever came last."""
        self.phase: Phase = "created"
        self.reason = ""
        """Why the study is ending, or has ended."""
        self.failed = False
        self.now_s = 0.0
        self.before_s = 0.0
        """Time of the record before the latest."""
        self.deadline_s = settings.deadline_s
        self.deadline_wall = settings.deadline_wall
        self.exhausted = False
        self.n_gangs = 0
        self.n_drawn = 0
        self.draws_pending = 0
        self.boot_failures = 0
        """Machines in a row that ended before they were ready, though the provider had some to give."""
        self.left_behind: tuple[int, ...] = ()
        """Machines that the last runner could not end, and that may still be billed."""
        self.refusals: dict[str, Refusals] = {}
        """By offer, for whatever reason."""
        self.ending_s = 0.0
        """When it began to pause or to end."""
        self.plan_reason = ""
        self.noted_s = float("-inf")
        """When that reason was noted."""
        self.wanted: dict[int, int] = {}
        """Workers that the last plan wants for each trial that had begun."""
        self.wanted_workers = 0
        """Size of the cluster that the last plan wants."""

    @property
    def budget(self) -> int:
        """Micro-dollars."""
        return self.ledger.budget

    @property
    def best(self) -> Trial | None:
        """The trial with the best stored report."""
        return None if self.tally.best is None else self.trials[self.tally.best[1]]

    def apply(self, record: Event | Action, now_s: float) -> None:
        """Take one record in."""
        self.before_s, self.now_s = self.now_s, max(self.now_s, now_s)
        handler = HANDLERS.get(type(record))
        if handler is not None:
            handler(self, record, self.now_s)

    @property
    def heartbeat_s(self) -> float:
        """At least so often something is recorded while machines live."""
        return HEARTBEAT * self.settings.lease_s

    def idle_workers(self) -> list[str]:
        """Workers of ready machines that no gang uses, in order of age."""
        ready = (self.live[machine] for machine in sorted(self.tally.idle))
        return [worker for machine in ready for worker in machine.workers if worker not in self.busy]

    def in_use(self, machine: Machine) -> bool:
        """Whether a gang uses one of its workers."""
        return not self.busy.isdisjoint(machine.workers)

    def machine_of(self, worker: str) -> Machine:
        """The machine that a worker runs on."""
        return self.machines[_machine_of(worker)]

    def epoch_s(self, trial: int | None, parallelism: int) -> float | None:
        """Seconds that a trial's next epoch (None: a new trial's) should take; None when nothing is known."""
        curve = self.trials[trial].curve if trial is not None else ()
        if curve:
            seconds = usual_s(curve)
            if curve[-1].parallelism == parallelism == 1:
                return seconds
            scaling = self.speed.estimate()
            return seconds * scaling.speedup(curve[-1].parallelism) / scaling.speedup(parallelism)
        scaling = self.speed.estimate()
        return None if scaling.epoch_s is None else scaling.epoch_s / scaling.speedup(parallelism)

    def machines_of(self, gang: Gang) -> set[int]:
        """Where its members are."""
        return {_machine_of(worker) for worker in gang.workers}

    # --- for what records change ---

    def update_trial(self, trial: int, **changes: Any) -> Trial:
        """Change it in everything that knows of it."""
        changed = replace(self.trials[trial], **changes)
        self.trials[trial] = changed
        self.tally.trial(changed, self.settings.mode)
        return changed

    def update_machine(self, machine: int, **changes: Any) -> None:
        """Change it in everything that knows of it."""
        old = self.machines[machine]
        changed = replace(old, **changes)
        self.machines[machine] = changed
        self.tally.machine(old, changed, self.busy)
        if changed.state in LIVE_MACHINE:
            self.live[machine] = changed
        else:
            self.live.pop(machine, None)
            self.free_s.pop(machine, None)

    def charge(self, gang: Gang, now_s: float) -> Trial:
        """Book the gang's worker-seconds since it was last heard of on its trial."""
        seconds = max(0.0, now_s - gang.heard_s)
        price = sum(self.offers[self.machine_of(w).offer].worker_price_s() for w in gang.workers)
        trial = self.trials[gang.trial]
        return self.update_trial(
            gang.trial,
            worker_seconds=trial.worker_seconds + seconds * gang.parallelism,
            nanos=trial.nanos + round(1000 * seconds * price),
        )

    def end_gang(self, gang: Gang, now_s: float, reason: str) -> Trial:
        """Its workers are free, and its trial waits if it has not ended; without a reason, for the one it was told."""
        trial = self.charge(gang, now_s)
        del self.gangs[gang.id]
        self.silent.pop(gang.id, None)
        self.busy.difference_update(gang.workers)
        self.tally.gang(gang, -1, self)
        self.ended_gangs[gang.id] = gang
        self.free_s |= {machine: now_s for machine in self.machines_of(gang) if machine in self.live}
        if trial.state == "running":
            why = reason or gang.stopping or f"waits at epoch {trial.epoch}"
            return self.update_trial(trial.id, gang=None, state="paused", reason=why)
        return self.update_trial(trial.id, gang=None)


@lru_cache(maxsize=1 << 16)
def _machine_of(worker: str) -> int:
    return int(worker.partition(".")[0])
