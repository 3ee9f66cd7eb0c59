"""The state of a study, reduced from its records. Engine and views share it: the same records give the same state."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb.core import model as m
from seer_nb.core import on_machines, on_study, on_trials
from seer_nb.core.money import Ledger, Offer
from seer_nb.core.scaling import SpeedTracker, usual_s
from seer_nb.core.tally import Tally

if TYPE_CHECKING:
    from seer_nb.core.market import Refusals

HEARTBEAT = 1 / 3
"""As long as machines live, something is recorded at least every so many leases: so a later runner knows how long its
predecessor lived, and with it the machines."""
HANDLERS = on_machines.HANDLERS | on_trials.HANDLERS | on_study.HANDLERS
LIVE_MACHINE = frozenset({"booting", "ready", "retiring"})


class State:
    """Mutable; changes only through ``apply``."""

    def __init__(self, settings: m.Settings) -> None:
        self.settings = settings
        host = () if settings.host is None else (settings.host,)
        self.offers: dict[str, Offer] = {offer.name: offer for offer in (*settings.offers, *host)}
        self.ledger = Ledger(settings.budget, settings.lease_s)
        self.speed = SpeedTracker(boot_s=settings.offers[0].boot_s)
        self.trials: dict[int, m.Trial] = {}
        self.machines: dict[int, m.Machine] = {}
        self.gangs: dict[int, m.Gang] = {}
        """Those that have not ended."""
        self.ended_gangs: dict[int, m.Gang] = {}
        self.live: dict[int, m.Machine] = {}
        """Machines that have not ended."""
        self.silent: dict[int, str] = {}
        """Where those of the gangs stand that were found to be silent, in words."""
        self.busy: set[str] = set()
        """Workers that a gang uses."""
        self.tally = Tally()
        """Who of them all is what, so that nobody has to ask each one."""
        self.free_s: dict[int, float] = {}
        """By live machine: when it was rented, was ready or last ended a gang, whichever came last."""
        self.phase: m.Phase = "created"
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
    def best(self) -> m.Trial | None:
        """The trial with the best stored report."""
        return None if self.tally.best is None else self.trials[self.tally.best[1]]

    def apply(self, record: m.Event | m.Action, now_s: float) -> None:
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

    def in_use(self, machine: m.Machine) -> bool:
        """Whether a gang uses one of its workers."""
        return not self.busy.isdisjoint(machine.workers)

    def machine_of(self, worker: str) -> m.Machine:
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

    def machines_of(self, gang: m.Gang) -> set[int]:
        """Where its members are."""
        return {_machine_of(worker) for worker in gang.workers}

    # --- for what records change ---

    def update_trial(self, trial: int, **changes: Any) -> m.Trial:
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

    def charge(self, gang: m.Gang, now_s: float) -> m.Trial:
        """Book the gang's worker-seconds since it was last heard of on its trial."""
        seconds = max(0.0, now_s - gang.heard_s)
        price = sum(self.offers[self.machine_of(w).offer].worker_price_s() for w in gang.workers)
        trial = self.trials[gang.trial]
        return self.update_trial(
            gang.trial,
            worker_seconds=trial.worker_seconds + seconds * gang.parallelism,
            nanos=trial.nanos + round(1000 * seconds * price),
        )

    def end_gang(self, gang: m.Gang, now_s: float, reason: str) -> m.Trial:
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
