"""The state of a study, reduced from its records. Engine and views share it: the same records give the same state."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from seer_nb.core import model as m
from seer_nb.core.curve import longer, mended
from seer_nb.core.market import Refusals
from seer_nb.core.money import Ledger, Offer
from seer_nb.core.scaling import SpeedTracker
from seer_nb.core.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

SLACK_S = 1.0
"""Timers are late by less."""
HEARTBEAT = 1 / 3
"""As long as machines live, something is recorded at least every so many leases: so a later runner knows how long its
predecessor lived, and with it the machines."""
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
        handler = _HANDLERS.get(type(record))
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
            if curve[-1].parallelism == parallelism == 1:
                return curve[-1].seconds
            scaling = self.speed.estimate()
            return curve[-1].seconds * scaling.speedup(curve[-1].parallelism) / scaling.speedup(parallelism)
        scaling = self.speed.estimate()
        return None if scaling.epoch_s is None else scaling.epoch_s / scaling.speedup(parallelism)

    def machines_of(self, gang: m.Gang) -> set[int]:
        """Where its members are."""
        return {_machine_of(worker) for worker in gang.workers}

    def _update(self, trial: int, **changes: Any) -> m.Trial:
        changed = replace(self.trials[trial], **changes)
        self.trials[trial] = changed
        self.tally.trial(changed, self.settings.mode)
        return changed

    def _machine(self, machine: int, **changes: Any) -> None:
        old = self.machines[machine]
        changed = replace(old, **changes)
        self.machines[machine] = changed
        self.tally.machine(old, changed, self.busy)
        if changed.state in LIVE_MACHINE:
            self.live[machine] = changed
        else:
            self.live.pop(machine, None)
            self.free_s.pop(machine, None)

    def _charge(self, gang: m.Gang, now_s: float) -> m.Trial:
        """Book the gang's worker-seconds since it was last heard of on its trial."""
        seconds = max(0.0, now_s - gang.heard_s)
        price = sum(self.offers[self.machine_of(w).offer].worker_price_s() for w in gang.workers)
        trial = self.trials[gang.trial]
        return self._update(
            gang.trial,
            worker_seconds=trial.worker_seconds + seconds * gang.parallelism,
            nanos=trial.nanos + round(1000 * seconds * price),
        )

    # --- events ---

    def _on_began(self, _: m.Began, __: float) -> None:
        self.phase = "running"

    def _on_runner_started(self, event: m.RunnerStarted, now_s: float) -> None:
        """Other machines of the runner before this one are gone, by the end of the leases that it last renewed."""
        last_s = self.before_s
        # It was silent for a heartbeat at most, and would have had all machines go when the money ended.
        lived_s = self.ledger.exhausted_s(last_s, last_s + self.heartbeat_s + SLACK_S)
        for machine in list(self.live.values()):
            if machine.id in event.adopted:
                self._outlived(machine, event.unseen_s)
                continue
            told_s = lived_s if machine.retired_s is None else machine.retired_s
            unseen_s = min(event.unseen_s, max(0.0, self.ledger.lives_s(machine.id, told_s) - last_s))
            if self.offers[machine.offer].billed_until_deleted:
                unseen_s = event.unseen_s
            if machine.id in event.left:
                self._outlived(machine, unseen_s)
                self.ledger.retire(machine.id, now_s)
                self._machine(machine.id, state="retiring", retired_s=now_s, reason="its runner died")
                continue
            self.ledger.close(machine.id, last_s, unseen_s)
            unseen_s += machine.unseen_s
            self._machine(machine.id, state="ended", ended_s=last_s, unseen_s=unseen_s, reason="its runner died")
        for gang in list(self.gangs.values()):
            self._end_gang(gang, now_s, "its runner died")
        self.draws_pending = self.boot_failures = 0
        self.refusals, self.left_behind = {}, ()
        if self.phase == "pausing" and not self.live:
            self.phase = "paused"

    def _outlived(self, machine: m.Machine, unseen_s: float) -> None:
        """It has lived on without a runner's clock."""
        self.ledger.outlived(machine.id, unseen_s)
        self._machine(machine.id, unseen_s=machine.unseen_s + unseen_s)

    def _on_drawn(self, event: m.Drawn, _: float) -> None:
        self.trials[event.trial] = m.Trial(id=event.trial, config=event.config)
        self.tally.waiting[event.trial] = None
        self.n_drawn += 1
        self.draws_pending = max(0, self.draws_pending - 1)

    def _on_exhausted(self, _: m.SpaceExhausted, __: float) -> None:
        self.exhausted = True
        self.draws_pending = 0

    def _on_machine_ready(self, event: m.MachineReady, now_s: float) -> None:
        machine = self.machines[event.machine]
        if machine.state == "booting":
            if not machine.hosts:
                self.speed.boot(event.boot_s)
                self.boot_failures = 0
            self.refusals.pop(machine.offer, None)
            self.ledger.join(event.machine)
            self._machine(event.machine, state="ready", ready_s=now_s)
            self.free_s[event.machine] = now_s

    def _on_machine_ended(self, event: m.MachineEnded, now_s: float) -> None:
        if event.machine not in self.live:
            return
        self.ledger.close(event.machine, now_s, lived_s=event.lived_s)
        machine = self.machines[event.machine]
        if machine.state == "booting":
            self._boot_failed(machine, now_s, scarce=event.scarce)
        reason = event.reason or machine.reason
        lost = machine.state == "ready" and not event.expected
        self._machine(event.machine, state="ended", ended_s=now_s, reason=reason, lost=lost)

    def _on_machine_billed(self, event: m.MachineBilled, _: float) -> None:
        if event.machine in self.machines and event.machine not in self.live:
            self.ledger.correct(event.machine, event.lived_s)

    def _on_left_behind(self, event: m.MachinesLeftBehind, _: float) -> None:
        self.left_behind = event.machines

    def _on_machine_leaving(self, event: m.MachineLeaving, now_s: float) -> None:
        if event.machine in self.live:
            self._machine(event.machine, leaves_s=now_s + event.left_s, reason=event.reason)

    def _boot_failed(self, machine: m.Machine, now_s: float, *, scarce: bool = False) -> None:
        self.boot_failures += not scarce
        before = self.refusals.get(machine.offer)
        # Several that were asked for together, and that there were none of, are one refusal; others cost money each.
        if before is None or not scarce or machine.rented_s >= before.again_s:
            self.refusals[machine.offer] = Refusals(1 if before is None else before.times + 1, now_s)

    def _on_reported(self, event: m.Reported, now_s: float) -> None:
        gang = self.gangs.get(event.gang)
        if gang is None:
            return
        trial = self._charge(gang, now_s)
        self.silent.pop(gang.id, None)
        first = gang.heard_s == gang.started_s
        self.gangs[gang.id] = replace(gang, heard_s=now_s)
        if first:
            self.speed.stall(now_s - gang.started_s - event.seconds - event.save_s)
        if event.epoch != trial.epoch + 1:
            # An epoch trained again after a loss: the first report stands. Its checkpoint may be the newer one.
            self._restore_point(trial, event)
            return
        self.speed.epoch(trial.id, gang.parallelism, event.seconds)
        report = m.Report(
            epoch=event.epoch,
            value=event.value,
            metrics=event.metrics,
            seconds=event.seconds,
            parallelism=gang.parallelism,
            at_s=now_s,
            cost=trial.cost,
            checkpoint=event.checkpoint,
        )
        stored = event.checkpoint is not None
        self._update(
            trial.id,
            curve=longer(trial.curve, report),
            resume=report if stored else trial.resume,
            spare=trial.resume if stored else trial.spare,
            best=self._better(trial.best, report) if stored else trial.best,
            batch_size=event.batch_size or trial.batch_size,
            losses=0,
        )

    def _restore_point(self, trial: m.Trial, event: m.Reported) -> None:
        if event.checkpoint is None or event.epoch <= trial.resume_epoch or event.epoch > trial.epoch:
            return
        report = replace(trial.curve[event.epoch - 1], checkpoint=event.checkpoint)
        best = self._better(trial.best, report)
        self._update(trial.id, curve=mended(trial.curve, report), resume=report, spare=trial.resume, best=best)

    def _better(self, best: m.Report | None, report: m.Report) -> m.Report | None:
        if report.value is None:
            return best
        if best is None or best.value is None:
            return report
        less = report.value < best.value
        better = less if self.settings.mode == "min" else report.value > best.value
        return report if better else best

    def _on_silent(self, event: m.Silent, _: float) -> None:
        if event.gang in self.gangs:
            self.silent[event.gang] = event.where

    def _on_gang_ended(self, event: m.GangEnded, now_s: float) -> None:
        gang = self.gangs.get(event.gang)
        if gang is None:
            return
        trial = self._end_gang(gang, now_s, "")
        if event.outcome == "lost":
            self._update(trial.id, losses=trial.losses + 1)
        elif event.outcome == "damaged" and trial.resume is not None and trial.resume_epoch == gang.from_epoch:
            self._fall_back(trial, trial.resume)

    def _fall_back(self, trial: m.Trial, damaged: m.Report) -> None:
        """Go on from the checkpoint before the damaged one, or anew."""
        kept = [x for x in (trial.spare, trial.best) if x is not None and x.checkpoint != damaged.checkpoint]
        bare = replace(damaged, checkpoint=None)
        best: m.Report | None = None
        for report in kept:
            best = self._better(best, report)
        self._update(
            trial.id,
            curve=mended(trial.curve, bare),
            resume=max(kept, key=lambda report: report.epoch, default=None),
            spare=None,
            best=best,
        )
        self.tally.rank(self)

    def _end_gang(self, gang: m.Gang, now_s: float, reason: str) -> m.Trial:
        trial = self._charge(gang, now_s)
        del self.gangs[gang.id]
        self.silent.pop(gang.id, None)
        self.busy.difference_update(gang.workers)
        self.tally.gang(gang, -1, self)
        self.ended_gangs[gang.id] = gang
        self.free_s |= {machine: now_s for machine in self.machines_of(gang) if machine in self.live}
        if trial.state == "running":
            why = reason or gang.stopping or f"waits at epoch {trial.epoch}"
            return self._update(trial.id, gang=None, state="paused", reason=why)
        return self._update(trial.id, gang=None)

    def _on_deadline_moved(self, event: m.DeadlineMoved, _: float) -> None:
        self.deadline_s = event.deadline_s

    # --- commands ---

    def _on_set_budget(self, event: m.SetBudget, now_s: float) -> None:
        # What is spent and committed cannot be taken back.
        self.ledger.budget = max(event.budget, self.ledger.floor(now_s))

    def _on_set_deadline(self, event: m.SetDeadline, now_s: float) -> None:
        # Machines that live cannot be gone before they are told to go.
        release_s = max((self.offers[machine.offer].release_s for machine in self.live.values()), default=0.0)
        self.deadline_s = max(event.deadline_s, now_s + release_s)
        self.deadline_wall = event.deadline_wall

    def _on_pause(self, _: m.Pause, now_s: float) -> None:
        if self.phase == "running":
            self.ending_s = now_s
            self.phase = "pausing" if self.live or self.gangs else "paused"

    def _on_resume(self, _: m.Resume, __: float) -> None:
        if self.phase in {"pausing", "paused", "ending", "ended"}:
            self.phase, self.reason, self.failed = "running", "", False

    def _on_pin(self, event: m.Pin, _: float) -> None:
        if event.trial in self.trials:
            self._update(event.trial, pinned=event.pinned)

    # --- actions ---

    def _on_rent(self, action: m.Rent, now_s: float) -> None:
        offer = self.offers[action.offer]
        self.ledger.open(action.machine, offer, now_s)
        machine = m.Machine(id=action.machine, offer=offer.name, slots=offer.workers_per_machine, rented_s=now_s)
        self.machines[machine.id] = self.live[machine.id] = machine
        self.tally.machine(None, machine, self.busy)
        self.free_s[machine.id] = now_s

    def _on_retire(self, action: m.Retire, now_s: float) -> None:
        machine = self.live.get(action.machine)
        if machine is not None and machine.state != "retiring":
            if machine.state == "booting" and action.force:
                # For booting too long; a machine that is just one too many is not forced.
                self._boot_failed(machine, now_s)
            self.ledger.retire(action.machine, now_s)
            self._machine(action.machine, state="retiring", retired_s=now_s, reason=action.reason)

    def _on_start_gang(self, action: m.StartGang, now_s: float) -> None:
        gang = m.Gang(
            id=action.gang,
            trial=action.trial,
            workers=action.workers,
            from_epoch=action.from_epoch,
            until=action.until,
            started_s=now_s,
            heard_s=now_s,
        )
        self.gangs[gang.id] = gang
        self.busy.update(gang.workers)
        self.tally.gang(gang, 1, self)
        self.n_gangs += 1
        trial = self.trials[action.trial]
        self._update(
            trial.id,
            state="running",
            gang=gang.id,
            reason=action.reason,
            started_s=now_s if trial.started_s is None else trial.started_s,
            max_parallelism=max(trial.max_parallelism, gang.parallelism),
        )

    def _on_stop_gang(self, action: m.StopGang, _: float) -> None:
        self.gangs[action.gang] = replace(self.gangs[action.gang], stopping=action.reason or "told to")

    def _on_extend_gang(self, action: m.ExtendGang, _: float) -> None:
        self.gangs[action.gang] = replace(self.gangs[action.gang], until=action.until)

    def _on_abandon_gang(self, action: m.AbandonGang, _: float) -> None:
        self.gangs[action.gang] = replace(self.gangs[action.gang], stopping=action.reason, abandoned=True)

    def _on_draw(self, action: m.Draw, _: float) -> None:
        self.draws_pending += action.count

    def _on_end_trial(self, action: m.EndTrial, now_s: float) -> None:
        self._update(action.trial, state=action.state, reason=action.reason, error=action.error, ended_s=now_s)

    def _on_begin_end(self, action: m.BeginEnd, now_s: float) -> None:
        self.phase, self.reason, self.failed, self.ending_s = "ending", action.reason, action.failed, now_s

    def _on_finish(self, _: m.Finish, __: float) -> None:
        self.phase = "paused" if self.phase == "pausing" else "ended"
        for trial in list(self.tally.waiting):
            self._update(trial, reason="drawn, but not started before the study " + self.phase)

    def _on_note(self, action: m.Note, now_s: float) -> None:
        if action.reason != self.plan_reason:
            self.plan_reason, self.noted_s = action.reason, now_s
        if action.changes:
            wanted = {**self.wanted, **action.wanted}
            self.wanted = {trial: count for trial, count in wanted.items() if count}
        else:
            self.wanted = action.wanted
        self.wanted_workers = action.workers


@lru_cache(maxsize=1 << 16)
def _machine_of(worker: str) -> int:
    return int(worker.partition(".")[0])


_HANDLERS: dict[type, Callable[[State, Any, float], None]] = {
    m.Began: State._on_began,
    m.RunnerStarted: State._on_runner_started,
    m.Drawn: State._on_drawn,
    m.SpaceExhausted: State._on_exhausted,
    m.MachineReady: State._on_machine_ready,
    m.MachineEnded: State._on_machine_ended,
    m.MachineBilled: State._on_machine_billed,
    m.MachinesLeftBehind: State._on_left_behind,
    m.MachineLeaving: State._on_machine_leaving,
    m.Reported: State._on_reported,
    m.Silent: State._on_silent,
    m.GangEnded: State._on_gang_ended,
    m.DeadlineMoved: State._on_deadline_moved,
    m.SetBudget: State._on_set_budget,
    m.SetDeadline: State._on_set_deadline,
    m.Pause: State._on_pause,
    m.Resume: State._on_resume,
    m.Pin: State._on_pin,
    m.Rent: State._on_rent,
    m.Retire: State._on_retire,
    m.StartGang: State._on_start_gang,
    m.StopGang: State._on_stop_gang,
    m.ExtendGang: State._on_extend_gang,
    m.AbandonGang: State._on_abandon_gang,
    m.Draw: State._on_draw,
    m.EndTrial: State._on_end_trial,
    m.BeginEnd: State._on_begin_end,
    m.Finish: State._on_finish,
    m.Note: State._on_note,
}
