"""The state of a study, reduced from its records: equal records give equal states, in the engine and in every view."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb.core.model import machine_of_worker
from seer_nb.core.money import Ledger, Offer
from seer_nb.core.reducers import REDUCERS
from seer_nb.core.scaling import SpeedTracker, usual_s

if TYPE_CHECKING:
    from seer_nb.core.actions import Action
    from seer_nb.core.events import Event
    from seer_nb.core.model import Gang, Machine, Mode, Phase, Settings, Trial
    from seer_nb.core.offer_choice import Refusals


HEARTBEAT = 1 / 3
"""Longest time between two records while machines are alive, in leases.

A later runner infers from the last record how long its predecessor lived, and with it the machines.
"""


@dataclass
class StateIndex:
    """Counts and sets that answer frequent questions about a state without a scan."""

    waiting: dict[int, None] = field(default_factory=dict)
    """Trials that were drawn and have not started, in that order."""
    best: tuple[float, int] | None = None
    """Best stored report of the study, as (value, lower is better; trial)."""
    reported: bool = False
    """Whether any trial has reported."""
    shared: set[int] = field(default_factory=set)
    """Trials whose work is shared among workers."""
    unshared: set[int] = field(default_factory=set)
    """Trials whose work is not shared among workers."""
    idle: set[int] = field(default_factory=set)
    """Ready machines, without preemption notice, that have a free worker."""
    leaving: set[int] = field(default_factory=set)
    """Live machines with a preemption notice."""
    retiring: set[int] = field(default_factory=set)
    """Live machines that were retired."""
    n_live_by_offer: Counter[str] = field(default_factory=Counter)
    """Number of live machines, by offer."""
    slots: int = 0
    """Workers of live machines."""
    ready_slots: int = 0
    """Workers of ready machines."""
    staying_slots: int = 0
    """Workers of machines that will keep training."""
    booting: int = 0
    """Number of booting machines."""
    training: int = 0
    """Workers that gangs use."""

    @classmethod
    def of(cls, state: State) -> StateIndex:
        """Return the index of a state, computed from scratch."""
        index = cls()
        index.waiting = {trial.id: None for trial in state.trials.values() if trial.state == "waiting"}
        index.rank_trials(state)
        for machine in state.live_machines.values():
            index.update_machine(None, machine, state.busy)
        index.training = sum(gang.parallelism for gang in state.gangs.values())
        return index

    def update_trial(self, trial: Trial, mode: Mode) -> None:
        """Update the index after a change of a trial."""
        if trial.state != "waiting":
            self.waiting.pop(trial.id, None)
        self.reported = self.reported or bool(trial.curve)
        if trial.shares is not None:
            _set_member(self.shared, trial.id, trial.shares)
            _set_member(self.unshared, trial.id, not trial.shares)
        # A trial's best report gets worse only when its checkpoint is damaged; `rank_trials` handles that.
        if trial.best is not None and trial.best.value is not None:
            key = (trial.best.value if mode == "min" else -trial.best.value, trial.id)
            self.best = key if self.best is None else min(self.best, key)

    def rank_trials(self, state: State) -> None:
        """Find the best report again, because a trial has lost its best report."""
        self.best = None
        for trial in state.trials.values():
            self.update_trial(trial, state.settings.mode)

    def update_machine(self, old: Machine | None, new: Machine, busy: set[str]) -> None:
        """Update the index after a change of a machine.

        Args:
            old: The machine before the change; None for a new machine.
            new: The machine after the change.
            busy: Workers that gangs use.
        """
        if old is not None:
            self._count_machine(old, -1)
        self._count_machine(new, 1)
        _set_member(self.leaving, new.id, new.state != "ended" and new.leaves_s is not None)
        _set_member(self.retiring, new.id, new.state != "ended" and new.retired_s is not None)
        self._update_idle(new, busy)

    def update_gang(self, gang: Gang, change: int, state: State) -> None:
        """Update the index after a gang has started (change=1) or ended (change=-1)."""
        self.training += change * gang.parallelism
        for machine in state.machines_of(gang):
            self._update_idle(state.machines[machine], state.busy)

    def _count_machine(self, machine: Machine, change: int) -> None:
        if machine.state != "ended":
            self.n_live_by_offer[machine.offer] += change
            self.slots += change * machine.slots
            self.ready_slots += change * machine.slots * (machine.state == "ready")
            self.staying_slots += change * machine.slots * machine.keeps_training
            self.booting += change * (machine.state == "booting")

    def _update_idle(self, machine: Machine, busy: set[str]) -> None:
        usable = machine.state == "ready" and machine.leaves_s is None
        _set_member(self.idle, machine.id, usable and not busy.issuperset(machine.workers))


def _set_member(members: set[int], number: int, belongs: bool) -> None:  # noqa: FBT001 - private
    if belongs:
        members.add(number)
    else:
        members.discard(number)


class State:
    """The mutable state of a study. It changes only through `apply`.

    Args:
        settings: The settings that the study was created with.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        scheduler = () if settings.scheduler_offer is None else (settings.scheduler_offer,)
        self.offers: dict[str, Offer] = {offer.name: offer for offer in (*settings.offers, *scheduler)}
        self.ledger = Ledger(settings.budget_micro, settings.lease_s)
        self.speed = SpeedTracker(boot_s=settings.offers[0].boot_s)
        self.trials: dict[int, Trial] = {}
        self.machines: dict[int, Machine] = {}
        self.gangs: dict[int, Gang] = {}
        """Gangs that have not ended."""
        self.ended_gangs: dict[int, Gang] = {}
        self.live_machines: dict[int, Machine] = {}
        """Machines that have not ended."""
        self.silent: dict[int, str] = {}
        """Code locations of the members of silent gangs, as text, by gang."""
        self.busy: set[str] = set()
        """Workers that gangs use."""
        self.index = StateIndex()
        self.idle_since_s: dict[int, float] = {}
        """Time at which each live machine was rented, became ready or last ended a gang, whichever came last."""
        self.phase: Phase = "created"
        self.reason = ""
        """Why the study is ending or has ended."""
        self.failed = False
        self.now_s = 0.0
        self.previous_s = 0.0
        """Time of the record before the latest."""
        self.deadline_s = settings.deadline_s
        self.deadline_wall = settings.deadline_wall
        self.exhausted = False
        """Whether the sampler has no configuration left."""
        self.n_gangs = 0
        self.n_drawn = 0
        self.pending_draws = 0
        """Configurations that were requested from the sampler and have not arrived."""
        self.boot_failures = 0
        """Consecutive machines that ended before they were ready although the provider had capacity."""
        self.left_behind: tuple[int, ...] = ()
        """Machines that the last runner could not terminate and that may still be billed."""
        self.refusals: dict[str, Refusals] = {}
        """Consecutive failed rentals, by offer."""
        self.ending_s = 0.0
        """Time at which the study began to pause or to end."""
        self.plan_reason = ""
        """Text of the last noted plan; `noted_s` is its time."""
        self.noted_s = float("-inf")
        self.wanted: dict[int, int] = {}
        """Workers that the last plan wants for each started trial."""
        self.wanted_workers = 0
        """Size of the cluster that the last plan wants, in workers."""

    @property
    def budget_micro(self) -> int:
        """Budget in micro-dollars."""
        return self.ledger.budget_micro

    @property
    def max_parallelism(self) -> int:
        """Most workers of a trial that is not known to be unshared.

        One function trains all trials, so it is 1 as soon as one trial is unshared, unless another one is shared.
        """
        most = self.settings.max_parallelism or self.settings.max_workers
        return 1 if self.index.unshared and not self.index.shared else min(most, self.settings.max_workers)

    @property
    def best(self) -> Trial | None:
        """The trial with the best stored report."""
        return None if self.index.best is None else self.trials[self.index.best[1]]

    @property
    def heartbeat_s(self) -> float:
        """Longest time in seconds between two records while machines are alive."""
        return HEARTBEAT * self.settings.lease_s

    def apply(self, record: Event | Action, now_s: float) -> None:
        """Apply one record to the state.

        Args:
            record: An event or an action.
            now_s: Study seconds; time never runs backwards, so an earlier time counts as the latest one.
        """
        self.previous_s, self.now_s = self.now_s, max(self.now_s, now_s)
        reduce = REDUCERS.get(type(record))
        if reduce is not None:
            reduce(self, record, self.now_s)

    def idle_workers(self) -> list[str]:
        """Return the free workers of ready machines, ordered by machine."""
        ready = (self.live_machines[machine] for machine in sorted(self.index.idle))
        return [worker for machine in ready for worker in machine.workers if worker not in self.busy]

    def in_use(self, machine: Machine) -> bool:
        """Return whether a gang uses a worker of the machine."""
        return not self.busy.isdisjoint(machine.workers)

    def machine_of(self, worker: str) -> Machine:
        """Return the machine that a worker runs on."""
        return self.machines[machine_of_worker(worker)]

    def machines_of(self, gang: Gang) -> set[int]:
        """Return the ids of the machines that a gang's workers run on."""
        return {machine_of_worker(worker) for worker in gang.workers}

    def epoch_s(self, trial: int | None, parallelism: int) -> float | None:
        """Return the expected seconds of a trial's next epoch.

        Args:
            trial: Id of the trial; None: a new trial.
            parallelism: Number of workers.

        Returns:
            Seconds; None if no epoch has been measured.
        """
        curve = self.trials[trial].curve if trial is not None else ()
        if curve:
            seconds = usual_s(curve)
            if curve[-1].parallelism == parallelism == 1:
                return seconds
            scaling = self.speed.estimate()
            return seconds * scaling.speedup(curve[-1].parallelism) / scaling.speedup(parallelism)
        scaling = self.speed.estimate()
        return None if scaling.epoch_s is None else scaling.epoch_s / scaling.speedup(parallelism)

    # --- used by reducers ---

    def update_trial(self, trial: int, **changes: Any) -> Trial:
        """Change fields of a trial, and return the new trial."""
        changed = replace(self.trials[trial], **changes)
        self.trials[trial] = changed
        self.index.update_trial(changed, self.settings.mode)
        return changed

    def update_machine(self, machine: int, **changes: Any) -> None:
        """Change fields of a machine."""
        old = self.machines[machine]
        changed = replace(old, **changes)
        self.machines[machine] = changed
        self.index.update_machine(old, changed, self.busy)
        if changed.state != "ended":
            self.live_machines[machine] = changed
        else:
            self.live_machines.pop(machine, None)
            self.idle_since_s.pop(machine, None)

    def charge(self, gang: Gang, now_s: float) -> Trial:
        """Charge a gang's worker-seconds since its last message to its trial, and return the new trial."""
        seconds = max(0.0, now_s - gang.last_message_s)
        price = sum(self.offers[self.machine_of(w).offer].worker_price_s() for w in gang.workers)
        trial = self.trials[gang.trial]
        return self.update_trial(
            gang.trial,
            worker_seconds=trial.worker_seconds + seconds * gang.parallelism,
            cost_nano=trial.cost_nano + round(1000 * seconds * price),
        )

    def end_gang(self, gang: Gang, now_s: float, reason: str) -> Trial:
        """Remove a gang, free its workers, and pause its trial if the trial has not ended.

        Args:
            gang: The gang that has ended.
            now_s: Study seconds.
            reason: Why the trial is paused; empty: the reason for which the gang was stopped.

        Returns:
            The gang's trial.
        """
        trial = self.charge(gang, now_s)
        del self.gangs[gang.id]
        self.silent.pop(gang.id, None)
        self.busy.difference_update(gang.workers)
        self.index.update_gang(gang, -1, self)
        self.ended_gangs[gang.id] = gang
        self.idle_since_s |= {machine: now_s for machine in self.machines_of(gang) if machine in self.live_machines}
        if trial.state == "running":
            why = reason or gang.stopping or f"waits at epoch {trial.epoch}"
            return self.update_trial(trial.id, gang=None, state="paused", reason=why)
        return self.update_trial(trial.id, gang=None)
