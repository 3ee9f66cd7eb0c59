"""The state machine of a study: events in, actions out.

The engine uses no clock, process or cluster, so that its records can be replayed. `Engine.handle` takes one event and
returns the actions to carry out. `Engine.next_call_s` is the time by which the engine must be called again; if no
event has arrived by then, the driver passes `Ticked`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from seer_nb.core import failure_rules, liveness, offer_choice, reconcile
from seer_nb.core.actions import Action, Finish, Note, Rent, Retire, StartGang, StopGang
from seer_nb.core.events import Began, Drawn, Event, MachineEnded, MachineReady, Reported, RunnerStarted, Silent, Ticked
from seer_nb.core.model import SLACK_S, Gang, Settings
from seer_nb.core.policy import Job, Plan, Policy, PolicyView, Scaling, check_plan
from seer_nb.core.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


NEAR_S = 2.0
"""Seconds before a due time within which it is awaited exactly; a later one is checked again halfway."""
SAVE_S = 0.5
"""Seconds reserved for saving, between the last epoch's report and the retirement of its machines."""
NOTE_EVERY_S = 1.0
"""Least seconds between two changes of the plan's text, which the user reads."""
GRACE_S = 10.0
"""Least seconds that a gang may continue its epoch after the user paused or stopped the study."""
DRIFT = 0.1
"""Relative change of the estimated speed that requires a decision."""
SLOW_EPOCH_S = 0.5
"""Seconds of an epoch from which on each report may require a decision; faster gangs decide at their end."""


class NextCheck:
    """Schedules checks of many due times, each of which may still move a little.

    Checking all due times at every event would dominate the cost of the engine. A check halfway to the earliest one is
    early enough to notice that it has moved nearer, and rare enough to be cheap.
    """

    def __init__(self) -> None:
        self.at_s = -math.inf
        """Time of the next check."""

    def restart(self, now_s: float, due_times: Iterable[float]) -> None:
        """Schedule the next check after all due times have been checked."""
        self.at_s = math.inf
        self.add(now_s, min(due_times, default=math.inf))

    def add(self, now_s: float, due_s: float) -> None:
        """Schedule a check for one more due time."""
        left_s = due_s - now_s
        self.at_s = min(self.at_s, due_s if left_s <= NEAR_S else now_s + left_s / 2)


class Engine:
    """Drives one study. Two engines that receive the same events at the same times return the same actions.

    Args:
        settings: Settings of the study.
        policy: Decides which trials to train, and on how many workers.
    """

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self.state = State(settings)
        self.policy = policy
        self.policy_error: BaseException | None = None
        """What the policy has raised, which ends the study; a driver logs or raises it."""
        self._receiving_since_s = 0.0
        """Time before which no message could arrive, because the runner was suspended."""
        self._reset()

    def _reset(self) -> None:
        """Forget everything but the records, because a new runner knows nothing else."""
        self._policy_wake_s: float | None = None
        self._each_report = False
        self._wake_s: float | None = None
        """Result of `next_call_s`, valid until the next event."""
        self._carry: Any = None
        self._checked_due_s = 0.0
        """Time of the last event at which due decisions were checked."""
        self._decided: Scaling | None = None
        """Estimated speed at the last decision."""
        self._retire_s: float | None = None
        """Time at which an idle machine is retired unless it is needed again."""
        self._jobs: list[Job] = []
        """Jobs of the last plan."""
        self._hang_check = NextCheck()
        """For gangs and machines that may count as hung."""
        self._last_epoch_check = NextCheck()
        """For gangs whose next epoch would end too late."""
        self._queued = 0
        """Number of events that are known to follow at once."""
        self._checked_kill_s = 0.0
        """`force_retire_s` at the last check of last epochs."""

    # --- interface of drivers ---

    def handle(self, event: Event, now_s: float) -> tuple[Action, ...]:
        """Apply an event, and return the actions that it requires, in order.

        Args:
            event: What happened, or a command of the user.
            now_s: Study seconds.
        """
        state, self._wake_s = self.state, None
        if isinstance(event, RunnerStarted):
            self._reset()
        state.apply(event, now_s)
        done = list(self._apply(failure_rules.react(state, event)))
        done += self._apply(failure_rules.vacate_leaving(state))
        done += self._apply(self._end_hung())
        if self._defers(event):
            return tuple(done)
        done += self._apply(self._enforce_limits())
        if state.phase == "running":
            if self._needs_decision(event):
                done += self._decide()
            elif isinstance(event, MachineReady | Drawn):
                done += self._apply(reconcile.start_jobs(state, self._jobs, self._first_epoch_by_s()))
                if self._deadlocked():
                    done += self._decide()
        if state.phase in {"ending", "pausing"}:
            done += self._apply(self._wind_down())
        return tuple(done)

    def reset_silence_timers(self, now_s: float) -> None:
        """Reset silence timers: no message could arrive before now_s."""
        self._receiving_since_s = max(self._receiving_since_s, now_s)

    def policy_view(self) -> PolicyView:
        """Return the policy view: all that the policy may depend on."""
        state = self.state
        started = tuple(trial for trial in state.trials.values() if trial.state != "waiting")
        return PolicyView(
            now_s=state.now_s,
            stop_s=self.retire_by_s() - SAVE_S,
            budget_micro=state.budget_micro - self._scheduler_reserve_micro(),
            spent_micro=state.ledger.spent_micro(state.now_s),
            committed_micro=state.ledger.committed_micro(state.now_s),
            mode=state.settings.mode,
            max_epochs=state.settings.max_epochs,
            seed=state.settings.seed,
            trials=started,
            waiting=len(state.trials) - len(started),
            gangs=tuple(state.gangs.values()),
            machines=tuple(x for x in state.live_machines.values() if not x.runs_scheduler and x.leaves_s is None),
            offers=offer_choice.ordered(state),
            max_workers=state.settings.max_workers,
            max_parallelism=state.max_parallelism,
            lease_s=state.settings.lease_s,
            scaling=state.speed.estimate(),
            exhausted=state.exhausted,
            carry=self._carry,
        )

    def retire_by_s(self) -> float:
        """Return the time at which machines must be retired so that all are gone by the deadline."""
        return self.state.deadline_s - max(offer.release_s for offer in self.state.offers.values())

    def force_retire_s(self) -> float:
        """Return the time at which all live machines are retired, because of the deadline or the budget."""
        return self._retire_by_s(None)

    def next_call_s(self) -> float:
        """Return the time at which the engine must be called again if no event arrives before; inf: never."""
        if self._wake_s is None:
            self._wake_s = self._next_wake_s()
        return self._wake_s

    # --- times ---

    def _retire_by_s(self, leaving: dict[int, float] | None) -> float:
        """Return the time at which the remaining machines must be retired.

        Args:
            leaving: Times at which some machines will be gone, by machine; the money then lasts longer for the others.
        """
        state, end_s = self.state, self.retire_by_s()
        # Bills grow in whole seconds: with this slack, a late timer does not run into the next second.
        return min(end_s, state.ledger.budget_lasts_until_s(state.now_s, end_s + SLACK_S, leaving) - SLACK_S)

    def _first_epoch_by_s(self) -> float:
        """Return the time by which a gang that starts now must have reported its first epoch."""
        return self._retire_by_s(reconcile.gone_times(self.state)) - SAVE_S

    def _last_epoch_by_s(self) -> float:
        """Return the time by which running gangs must have reported, if machines that are done are retired."""
        return self._retire_by_s({**reconcile.done_times(self.state), **reconcile.gone_times(self.state)}) - SAVE_S

    def _next_wake_s(self) -> float:
        state = self.state
        times = [] if state.phase in failure_rules.INACTIVE else [self._hang_check.at_s]
        if state.phase == "running":
            times += [self.force_retire_s(), self._last_epoch_check.at_s]
            if state.refusals:
                times.append(offer_choice.rent_again_s(state))
            times += [time for time in (self._policy_wake_s, self._retire_s) if time is not None]
        elif state.phase in {"ending", "pausing"}:
            times.append(self._force_s())
        if state.live_machines:
            times.append(state.now_s + state.heartbeat_s)
        # Past due times were handled, or are impossible to handle: waking for them again would be a busy loop.
        return min((time for time in times if time > state.now_s), default=float("inf"))

    def _force_s(self) -> float:
        """Return the time at which a study that pauses or ends retires machines although their gangs still train."""
        state = self.state
        slowest_s = max((_epoch_s(state, gang) for gang in state.gangs.values()), default=0.0)
        return min(self.force_retire_s(), state.ending_s + max(GRACE_S, 2 * slowest_s))

    # --- actions ---

    def _apply(self, actions: Iterable[Action]) -> Iterator[Action]:
        """Apply each action to the state before the next one is computed."""
        for action in actions:
            self.state.apply(action, self.state.now_s)
            if isinstance(action, StartGang):
                self._watch(self.state.gangs[action.gang])
            elif isinstance(action, Rent):
                timeout_s = self.state.offers[action.offer].boot_timeout_s
                self._hang_check.add(self.state.now_s, self.state.now_s + timeout_s)
            yield action

    def _watch(self, gang: Gang) -> None:
        """Schedule the checks of a gang that has started."""
        now_s = self.state.now_s
        self._hang_check.add(now_s, liveness.hung_from_s(self.state, gang))
        self._last_epoch_check.add(now_s, self._checked_kill_s - SAVE_S - _epoch_s(self.state, gang))

    def _end_hung(self) -> Iterator[Action]:
        """Abandon hung gangs and retire machines that do not boot, if a check is due."""
        state = self.state
        if state.phase not in failure_rules.INACTIVE and state.now_s >= self._hang_check.at_s:
            yield from liveness.end_hung(state, self._receiving_since_s)
            self._hang_check.restart(state.now_s, liveness.hang_times(state, self._receiving_since_s))

    def _enforce_limits(self) -> Iterator[Action]:
        """Keep the deadline and the budget, whatever the policy wants."""
        state = self.state
        if state.phase != "running":
            return
        kill_s, now_s = self.force_retire_s(), state.now_s
        limit = "deadline" if kill_s >= self.retire_by_s() else "budget"
        if now_s >= kill_s:
            yield failure_rules.limit_end(state, f"the {limit} was reached")
            return
        if now_s < self._last_epoch_check.at_s and kill_s >= self._checked_kill_s:
            return
        last_starts = list(self._last_epoch_starts())
        late = [gang for gang, last_s in last_starts if now_s >= last_s]
        for gang in late:
            yield StopGang(gang=gang, reason=f"another epoch would not end before the {limit}")
        self._checked_kill_s = kill_s
        remaining = self._last_epoch_starts() if late else last_starts
        self._last_epoch_check.restart(now_s, (last_s for _, last_s in remaining))

    def _last_epoch_starts(self) -> Iterator[tuple[int, float]]:
        """Yield each gang that keeps training, with the last time at which it can start an epoch."""
        state, by_s = self.state, self._last_epoch_by_s()
        for gang in state.gangs.values():
            if not gang.stopping:
                yield gang.id, by_s - _epoch_s(state, gang)

    def _wind_down(self) -> Iterator[Action]:
        """Stop all gangs, retire idle machines, and after the grace period retire all machines."""
        state = self.state
        why = "paused" if state.phase == "pausing" else state.reason
        force = state.now_s >= self._force_s()
        for gang in list(state.gangs.values()):
            if not gang.stopping:
                yield StopGang(gang=gang.id, reason=why)
        for machine in list(state.live_machines.values()):
            # The scheduler machine is the last to go, because workers cannot outlive their scheduler.
            needed = state.in_use(machine) or (machine.runs_scheduler and len(state.live_machines) > 1)
            if machine.state != "retiring" and (force or not needed):
                yield Retire(machine=machine.id, reason=why, force=state.in_use(machine))
        if not state.live_machines and not state.gangs:
            yield Finish(reason=why)

    # --- when to decide ---

    def _defers(self, event: Event) -> bool:
        """Return whether more events are known to follow, so that limits and decisions must wait for the last one.

        Commands that were queued without a runner all apply at the same moment. A limit that one of them moves must not
        end the study before, and nothing is started and no money spent until the last one has been applied.
        """
        if isinstance(event, RunnerStarted):
            self._queued = event.waiting
        elif self._queued:
            self._queued -= 1
        return self._queued > 0

    def _needs_decision(self, event: Event) -> bool:
        """Return whether the event may change what the policy wants."""
        if self._decision_due():
            return True
        if isinstance(event, Reported):
            slow = event.seconds >= SLOW_EPOCH_S
            return event.shares is False or (slow and (self._each_report or self._is_news(event)))
        if isinstance(event, MachineReady | Drawn):
            # The plan is unchanged and can now be carried out. A new scheduler machine allows renting.
            hosts = isinstance(event, MachineReady) and self.state.machines[event.machine].runs_scheduler
            return hosts or self._decided is None or self._drifted(self._decided)
        if isinstance(event, MachineEnded) and event.expected:
            return self._end_matters()
        return not isinstance(event, Began | Ticked | Silent)

    def _decision_due(self) -> bool:
        """Return whether the time of a scheduled decision has come."""
        state = self.state
        again_s = offer_choice.rent_again_s(state) if state.refusals else 0.0
        checked_s, self._checked_due_s = self._checked_due_s, state.now_s
        # Only at the first event after that time: an offer that is not needed stays refused until it boots.
        return checked_s < again_s <= state.now_s or any(
            time is not None and time <= state.now_s for time in (self._policy_wake_s, self._retire_s)
        )

    def _end_matters(self) -> bool:
        """Return whether the end of a retired machine frees quota or money, or leaves nothing that would report."""
        state = self.state
        short = self.force_retire_s() < self.retire_by_s()
        return offer_choice.full(state) or short or not (state.gangs or state.index.booting)

    def _is_news(self, event: Reported) -> bool:
        """Return whether a report contains more than expected progress."""
        gang = self.state.gangs.get(event.gang)
        if gang is None or event.epoch >= gang.until:
            return False  # GangEnded follows.
        return event.epoch == gang.from_epoch + 1 or self._decided is None or self._drifted(self._decided)

    def _drifted(self, old: Scaling) -> bool:
        """Return whether the estimated speed has changed by more than DRIFT since the last decision."""
        new = self.state.speed.estimate()
        return (old.epoch_s is None) != (new.epoch_s is None) or any(
            abs(after - before) > DRIFT * before
            for before, after in (
                (old.epoch_s or 0.0, new.epoch_s or 0.0),
                (1 + old.overhead, 1 + new.overhead),
                (old.boot_s + old.stall_s, new.boot_s + new.stall_s),
            )
        )

    def _deadlocked(self) -> bool:
        """Return whether nothing trains, boots or is awaited, so that no further event would arrive."""
        state = self.state
        active = state.gangs or any(machine.state != "ready" for machine in state.live_machines.values())
        waits = active or state.pending_draws or state.now_s < offer_choice.rent_again_s(state)
        return not waits and self._policy_wake_s is None

    # --- decisions ---

    def _decide(self) -> list[Action]:
        """Ask the policy for a plan, and return the actions that carry it out."""
        state = self.state
        view = self.policy_view()
        try:
            plan = reconcile.limit_parallelism(state, check_plan(self.policy.decide(view), state.trials))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the policy may be the user's code
            self.policy_error = error
            return list(self._apply([failure_rules.part_end("policy", self.policy, error)]))
        self._policy_wake_s, self._each_report, self._carry = plan.wake_s, plan.each_report, plan.carry
        self._decided, self._jobs = state.speed.estimate(), list(plan.jobs)
        done = list(self._apply(self._note(plan)))
        for step in (reconcile.prune_trials, reconcile.update_gangs):
            done += self._apply(step(state, plan))
        done += self._apply(reconcile.start_jobs(state, self._jobs, self._first_epoch_by_s()))
        # If the money ends before the deadline, no machine is kept in case it is needed again.
        retire_idle = self.force_retire_s() < self.retire_by_s()
        done += self._apply(reconcile.resize_cluster(state, plan, self.retire_by_s() - SAVE_S, retire_idle=retire_idle))
        if retire_idle:
            done += self._apply(self._retire_unaffordable())
            # The retirement times of other machines have changed.
            self._last_epoch_check.add(state.now_s, state.now_s)
        surplus = reconcile.surplus(state, plan)
        self._retire_s = min((reconcile.keep_until_s(state, x, retire_idle=retire_idle) for x in surplus), default=None)
        if self._deadlocked():
            # A gang may wait for workers that time, money or quota will never allow.
            done += self._apply(reconcile.start_jobs(state, self._jobs, self._first_epoch_by_s(), shrink=True))
        if plan.done and not plan.jobs and not state.gangs:
            done += self._apply([failure_rules.idle_end(state, plan.reason or "nothing useful is left to do")])
        elif self._deadlocked():
            why = f"the {self._binding_limit()} leaves no room for another epoch"
            done += self._apply([failure_rules.limit_end(state, why)])
        return done

    def _retire_unaffordable(self) -> Iterator[Action]:
        """Retire idle machines on which the budget allows no further epoch, so that it lasts longer for the others."""
        state = self.state
        while (idle := reconcile.idle_machines(state)) and self._no_job_fits():
            yield Retire(machine=idle[-1].id, reason="the budget leaves no room for another epoch on it")
            yield from reconcile.start_jobs(state, self._jobs, self._first_epoch_by_s())

    def _no_job_fits(self) -> bool:
        return reconcile.no_job_fits(self.state, self._jobs, self._first_epoch_by_s())

    def _note(self, plan: Plan) -> Iterator[Action]:
        """Record the plan for the user, if it has changed."""
        state = self.state
        reason = plan.reason if state.now_s - state.noted_s >= NOTE_EVERY_S else state.plan_reason
        wanted = {job.trial: job.workers for job in plan.jobs if job.trial is not None}
        if (reason, wanted, plan.workers) != (state.plan_reason, state.wanted, state.wanted_workers):
            # Among many trials only few change, so a note may hold only the changes.
            changed = {trial: count for trial, count in wanted.items() if state.wanted.get(trial) != count}
            changed |= dict.fromkeys(state.wanted.keys() - wanted.keys(), 0)
            fewer = len(changed) < len(wanted)
            yield Note(reason=reason, workers=plan.workers, wanted=changed if fewer else wanted, changes=fewer)

    def _scheduler_reserve_micro(self) -> int:
        """Return the micro-dollars that the scheduler machine will cost, beyond what is spent and committed for it."""
        state, scheduler = self.state, self.state.settings.scheduler_offer
        if scheduler is None:
            return 0
        hold_s, left_s = state.ledger.hold_s(scheduler), max(0.0, self.retire_by_s() - state.now_s)
        live = next((machine for machine in state.live_machines.values() if machine.runs_scheduler), None)
        if live is None:
            return scheduler.bill(left_s + hold_s)
        lived_s = state.now_s - live.rented_s + live.unseen_s
        return max(0, scheduler.bill(lived_s + left_s + scheduler.release_s) - scheduler.bill(lived_s + hold_s))

    def _binding_limit(self) -> str:
        """Return which limit leaves no room for another epoch: "deadline" or "budget"."""
        state, end_s = self.state, self.retire_by_s()
        late = state.now_s + reconcile.shortest_use_s(state, self._jobs) > end_s - SAVE_S
        return "deadline" if (self.force_retire_s() >= end_s if state.live_machines else late) else "budget"


def _epoch_s(state: State, gang: Gang) -> float:
    """Return the expected seconds of the gang's next epoch; 0 if no epoch has been measured."""
    return state.epoch_s(gang.trial, gang.parallelism) or 0.0
