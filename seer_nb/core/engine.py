"""The state machine of a study: events in, actions out. It knows no clock, process or cluster, so it can be replayed.

``handle(event, now_s)`` takes one event in and returns what is to be done. ``wake_s`` says until when the next event
must have come at the latest; a driver feeds ``Ticked`` then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from seer_nb.core import failure_rules, liveness, offer_choice, reconcile
from seer_nb.core.actions import Action, Finish, Note, Rent, Retire, StartGang, StopGang
from seer_nb.core.events import Began, Drawn, Event, MachineEnded, MachineReady, Reported, RunnerStarted, Silent, Ticked
from seer_nb.core.model import SLACK_S, Gang, Settings
from seer_nb.core.policy import Job, Plan, Policy, Scaling, Snapshot
from seer_nb.core.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


NEAR_S = 2.0
"""What is due within so long is waited for; what is due later is looked at again halfway."""


class NextCheck:
    """Watches for the first of many moments, each of which may still move a little.

    Looking at all of them at every event would cost more than all else. Halfway to the first one is early enough to see
    that it has come nearer, and seldom enough to cost nothing.
    """

    def __init__(self) -> None:
        self.at_s = -math.inf
        """When to look again."""

    def sight(self, now_s: float, moments: Iterable[float]) -> None:
        """All of them were looked at."""
        self.at_s = math.inf
        self.sooner(now_s, min(moments, default=math.inf))

    def sooner(self, now_s: float, moment: float) -> None:
        """There is one more."""
        left_s = moment - now_s
        self.at_s = min(self.at_s, moment if left_s <= NEAR_S else now_s + left_s / 2)


SAVE_S = 0.5
"""Seconds before the machines' end at which the last epoch should have been reported, for saving."""
NOTE_EVERY_S = 1.0
"""The plan in words changes at most so often: a person reads it."""
GRACE_S = 10.0
"""At least so long a gang may train on to the end of its epoch after a person paused or stopped the study."""
DRIFT = 0.1
"""A change of the estimated speed by this share is worth a decision."""
SLOW_EPOCH_S = 0.5
"""Epochs as long as this are worth a decision each; faster ones wait for the end of the gang."""


class Engine:
    """Drives one study. Two engines fed the same events at the same times take the same actions."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self.state = State(settings)
        self.policy = policy
        self._awake_s = 0.0
        """Since when it has been listening without a pause."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        """A runner knows nothing but the records: nor may an engine that has known the one before it."""
        self._policy_wake_s: float | None = None
        self._each_report = False
        self._wake_s: float | None = None
        """Kept until the next event."""
        self._carry: Any = None
        self._looked_s = 0.0
        """When it was last asked whether there was something to decide."""
        self._decided: Scaling | None = None
        """The speed that the last decision was made for."""
        self._retire_s: float | None = None
        """When an idle machine is to be handed back unless it is needed again."""
        self._jobs: list[Job] = []
        """Of the last plan."""
        self._silence = NextCheck()
        """For gangs and machines that have been silent for too long."""
        self._endings = NextCheck()
        """For gangs whose next epoch would end too late."""
        self._waiting = 0
        """Events that are known to come next."""
        self._seen_kill_s = 0.0
        """``kill_s`` when these were looked at."""

    # --- the face ---

    def handle(self, event: Event, now_s: float) -> tuple[Action, ...]:
        """Take an event in; return the actions it calls for, in order."""
        state, self._wake_s = self.state, None
        if isinstance(event, RunnerStarted):
            self._begin_anew()
        state.apply(event, now_s)
        done = list(self._do(failure_rules.react(state, event)))
        done += self._do(failure_rules.leave(state))
        done += self._do(self._hung())
        if self._holds_back(event):
            return tuple(done)
        done += self._do(self._limits())
        if state.phase == "running":
            if self._decides(event):
                done += self._decide()
            elif isinstance(event, MachineReady | Drawn):
                done += self._do(reconcile.starts(state, self._jobs, self._start_by_s()))
                if self._stuck():
                    done += self._decide()
        if state.phase in {"ending", "pausing"}:
            done += self._do(self._wind_down())
        return tuple(done)

    def woke(self, now_s: float) -> None:
        """Nothing could be heard until now, so that nobody's silence began before."""
        self._awake_s = max(self._awake_s, now_s)

    def snapshot(self) -> Snapshot:
        """All that the policy may see now."""
        state = self.state
        begun = tuple(trial for trial in state.trials.values() if trial.state != "waiting")
        return Snapshot(
            now_s=state.now_s,
            stop_s=self.end_s() - SAVE_S,
            budget=state.budget - self._overhead(),
            spent=state.ledger.spent(state.now_s),
            committed=state.ledger.committed(state.now_s),
            mode=state.settings.mode,
            max_epochs=state.settings.max_epochs,
            seed=state.settings.seed,
            trials=begun,
            waiting=len(state.trials) - len(begun),
            gangs=tuple(state.gangs.values()),
            machines=tuple(x for x in state.live.values() if not x.hosts and x.leaves_s is None),
            offers=offer_choice.ordered(state),
            max_workers=state.settings.max_workers,
            lease_s=state.settings.lease_s,
            scaling=state.speed.estimate(),
            exhausted=state.exhausted,
            carry=self._carry,
        )

    def _overhead(self) -> int:
        """Micro-dollars that the scheduler's machine will cost beyond what it has and is committed for."""
        state, host = self.state, self.state.settings.host
        if host is None:
            return 0
        hold_s, left_s = state.ledger.hold_s(host), max(0.0, self.end_s() - state.now_s)
        live = next((machine for machine in state.live.values() if machine.hosts), None)
        if live is None:
            return host.bill(left_s + hold_s)
        lived_s = state.now_s - live.rented_s + live.unseen_s
        return max(0, host.bill(lived_s + left_s + host.release_s) - host.bill(lived_s + hold_s))

    def end_s(self) -> float:
        """Study seconds at which machines must be told to go so that all are gone by the deadline."""
        return self.state.deadline_s - max(offer.release_s for offer in self.state.offers.values())

    def kill_s(self) -> float:
        """Study seconds at which whatever still lives is ended: for the deadline, or for the budget."""
        end_s = self.end_s()
        # A bill grows by whole seconds: a timer that is late must not meet the next one.
        return min(end_s, self.state.ledger.exhausted_s(self.state.now_s, end_s + SLACK_S) - SLACK_S)

    def _start_by_s(self) -> float:
        """When the first epoch of what begins now must have been reported."""
        return self._kept_s(reconcile.retiring(self.state)) - SAVE_S

    def _epoch_by_s(self) -> float:
        """When the last epochs of what runs must have been reported: others are handed back when they are done."""
        return self._kept_s({**reconcile.done(self.state), **reconcile.retiring(self.state)}) - SAVE_S

    def _kept_s(self, leaving: dict[int, float]) -> float:
        """``kill_s`` for the others, if those that leave will have gone by then."""
        state, end_s = self.state, self.end_s()
        return min(end_s, state.ledger.exhausted_s(state.now_s, end_s + SLACK_S, leaving) - SLACK_S)

    def wake_s(self) -> float:
        """Study seconds at which the engine must be called again, if no event comes before; inf: never."""
        if self._wake_s is None:
            self._wake_s = self._next_wake_s()
        return self._wake_s

    def _next_wake_s(self) -> float:
        state = self.state
        times = [] if state.phase in failure_rules.QUIET else [self._silence.at_s]
        if state.phase == "running":
            times += [self.kill_s(), self._endings.at_s]
            if state.refusals:
                times.append(offer_choice.rent_again_s(state))
            times += [time for time in (self._policy_wake_s, self._retire_s) if time is not None]
        elif state.phase in {"ending", "pausing"}:
            times.append(self._force_s())
        if state.live:
            times.append(state.now_s + state.heartbeat_s)
        # What is due already was done at the last event, or cannot be done: never wake in a hot loop for it.
        return min((time for time in times if time > state.now_s), default=float("inf"))

    # --- inside ---

    def _do(self, actions: Iterable[Action]) -> Iterator[Action]:
        """Apply each action before the next is thought of."""
        for action in actions:
            self.state.apply(action, self.state.now_s)
            if isinstance(action, StartGang):
                self._watch(self.state.gangs[action.gang])
            elif isinstance(action, Rent):
                timeout_s = self.state.offers[action.offer].boot_timeout_s
                self._silence.sooner(self.state.now_s, self.state.now_s + timeout_s)
            yield action

    def _watch(self, gang: Gang) -> None:
        """A gang that has begun."""
        now_s = self.state.now_s
        self._silence.sooner(now_s, liveness.silent_s(self.state, gang))
        self._endings.sooner(now_s, self._seen_kill_s - SAVE_S - _epoch_s(self.state, gang))

    def _hung(self) -> Iterator[Action]:
        """Look for what has been silent for too long."""
        state = self.state
        if state.phase not in failure_rules.QUIET and state.now_s >= self._silence.at_s:
            yield from liveness.overdue(state, self._awake_s)
            self._silence.sight(state.now_s, liveness.alarms(state, self._awake_s))

    def _holds_back(self, event: Event) -> bool:
        """Whether more is known to come: what was asked for while no runner lived must be known before one decides.

        Nor may limits that were moved meanwhile end anything. What waits is taken in at one moment, in which nothing is
        begun: no money is spent before the limits are looked at with the last of it.
        """
        if isinstance(event, RunnerStarted):
            self._waiting = event.waiting
        elif self._waiting:
            self._waiting -= 1
        return self._waiting > 0

    def _decides(self, event: Event) -> bool:
        """Whether the event can change what the policy wants."""
        if self._due():
            return True
        if isinstance(event, Reported):
            return event.seconds >= SLOW_EPOCH_S and (self._each_report or self._is_news(event))
        if isinstance(event, MachineReady | Drawn):
            # The plan stands; only now can it be carried out. Where there is a host now, machines can be rented.
            hosts = isinstance(event, MachineReady) and self.state.machines[event.machine].hosts
            return hosts or self._decided is None or self._drifted(self._decided)
        if isinstance(event, MachineEnded) and event.expected:
            return self._missed()
        return not isinstance(event, Began | Ticked | Silent)

    def _due(self) -> bool:
        """Whether it was said that by now there would be something to decide."""
        state = self.state
        again_s = offer_choice.rent_again_s(state) if state.refusals else 0.0
        looked_s, self._looked_s = self._looked_s, state.now_s
        # Only at the first event after it: an offer that is not needed stays refused until it boots.
        return looked_s < again_s <= state.now_s or any(
            time is not None and time <= state.now_s for time in (self._policy_wake_s, self._retire_s)
        )

    def _missed(self) -> bool:
        """Whether a machine that was handed back has left a place in the quota, money, or nobody who would report."""
        state = self.state
        short = self.kill_s() < self.end_s()
        return offer_choice.full(state) or short or not (state.gangs or state.tally.booting)

    def _is_news(self, event: Reported) -> bool:
        """Whether a report tells more than that training goes on as it did."""
        gang = self.state.gangs.get(event.gang)
        if gang is None or event.epoch >= gang.until:
            return False  # the end of the gang follows
        return event.epoch == gang.from_epoch + 1 or self._decided is None or self._drifted(self._decided)

    def _drifted(self, old: Scaling) -> bool:
        """Whether the speed that the last decision was made for is not that of now."""
        new = self.state.speed.estimate()
        return (old.epoch_s is None) != (new.epoch_s is None) or any(
            abs(after - before) > DRIFT * before
            for before, after in (
                (old.epoch_s or 0.0, new.epoch_s or 0.0),
                (1 + old.overhead, 1 + new.overhead),
                (old.boot_s + old.stall_s, new.boot_s + new.stall_s),
            )
        )

    def _decide(self) -> list[Action]:
        state = self.state
        plan = self.policy.decide(self.snapshot())
        self._policy_wake_s, self._each_report, self._carry = plan.wake_s, plan.each_report, plan.carry
        self._decided, self._jobs = state.speed.estimate(), list(plan.jobs)
        done = list(self._do(self._note(plan)))
        for step in (reconcile.verdicts, reconcile.running):
            done += self._do(step(state, plan))
        done += self._do(reconcile.starts(state, self._jobs, self._start_by_s()))
        # Money that does not last until the deadline is not for machines that may be of use.
        thrifty = self.kill_s() < self.end_s()
        done += self._do(reconcile.cluster(state, plan, self.end_s() - SAVE_S, thrifty=thrifty))
        if thrifty:
            done += self._do(self._thin_out())
            # When others will be handed back has changed.
            self._endings.sooner(state.now_s, state.now_s)
        idle = reconcile.surplus(state, plan)
        self._retire_s = min((reconcile.kept_s(state, machine, thrifty=thrifty) for machine in idle), default=None)
        if self._stuck():
            # A gang may wait for workers that time, money or quota will never give it.
            done += self._do(reconcile.starts(state, self._jobs, self._start_by_s(), shrink=True))
        if plan.done and not plan.jobs and not state.gangs:
            done += self._do([failure_rules.outcome(state, plan.reason or "nothing useful is left to do")])
        elif self._stuck():
            done += self._do([failure_rules.limit(state, f"the {self._scarce()} leaves no room for another epoch")])
        return done

    def _thin_out(self) -> Iterator[Action]:
        """Hand back machines for which the money leaves no time, so that it lasts longer for the others."""
        state = self.state
        while (idle := reconcile.idle(state)) and reconcile.hopeless(state, self._jobs, self._start_by_s()):
            yield Retire(machine=idle[-1].id, reason="the budget leaves no room for another epoch on it")
            yield from reconcile.starts(state, self._jobs, self._start_by_s())

    def _note(self, plan: Plan) -> Iterator[Action]:
        state = self.state
        told = plan.reason if state.now_s - state.noted_s >= NOTE_EVERY_S else state.plan_reason
        wanted = {job.trial: job.workers for job in plan.jobs if job.trial is not None}
        if (told, wanted, plan.workers) != (state.plan_reason, state.wanted, state.wanted_workers):
            # Of a thousand trials few change.
            changed = {trial: count for trial, count in wanted.items() if state.wanted.get(trial) != count}
            changed |= dict.fromkeys(state.wanted.keys() - wanted.keys(), 0)
            fewer = len(changed) < len(wanted)
            yield Note(reason=told, workers=plan.workers, wanted=changed if fewer else wanted, changes=fewer)

    def _stuck(self) -> bool:
        """Whether nothing trains, boots or is awaited, so that no event would ever come."""
        state = self.state
        comes = state.gangs or any(machine.state != "ready" for machine in state.live.values())
        waits = comes or state.draws_pending or state.now_s < offer_choice.rent_again_s(state)
        return not waits and self._policy_wake_s is None

    def _limits(self) -> Iterator[Action]:
        """Keep the deadline and the budget, whatever the policy thinks."""
        state = self.state
        if state.phase != "running":
            return
        kill_s, now_s = self.kill_s(), state.now_s
        word = "deadline" if kill_s >= self.end_s() else "budget"
        if now_s >= kill_s:
            yield failure_rules.limit(state, f"the {word} has come")
            return
        if now_s < self._endings.at_s and kill_s >= self._seen_kill_s:
            return
        last = list(self._last_epochs())
        late = [gang for gang, last_s in last if now_s >= last_s]
        for gang in late:
            yield StopGang(gang=gang, reason=f"another epoch would not end before the {word}")
        self._seen_kill_s = kill_s
        self._endings.sight(now_s, (last_s for _, last_s in (self._last_epochs() if late else last)))

    def _scarce(self) -> str:
        """Which of the two leaves no room for another epoch."""
        state, end_s = self.state, self.end_s()
        late = state.now_s + reconcile.useful_s(state, self._jobs) > end_s - SAVE_S
        return "deadline" if (self.kill_s() >= end_s if state.live else late) else "budget"

    def _last_epochs(self) -> Iterator[tuple[int, float]]:
        """The gangs that train on, and when each can begin its last epoch that is saved in time."""
        state, by_s = self.state, self._epoch_by_s()
        for gang in state.gangs.values():
            if not gang.stopping:
                yield gang.id, by_s - _epoch_s(state, gang)

    def _force_s(self) -> float:
        """When machines are ended while their gangs still train."""
        state = self.state
        slowest = max((_epoch_s(state, gang) for gang in state.gangs.values()), default=0.0)
        return min(self.kill_s(), state.ending_s + max(GRACE_S, 2 * slowest))

    def _wind_down(self) -> Iterator[Action]:
        """Save what trains, hand back what is idle; when the time is up, hand back everything."""
        state = self.state
        why = "paused" if state.phase == "pausing" else state.reason
        force = state.now_s >= self._force_s()
        for gang in list(state.gangs.values()):
            if not gang.stopping:
                yield StopGang(gang=gang.id, reason=why)
        for machine in list(state.live.values()):
            # The scheduler's machine goes last: workers would go with it.
            needed = state.in_use(machine) or (machine.hosts and len(state.live) > 1)
            if machine.state != "retiring" and (force or not needed):
                yield Retire(machine=machine.id, reason=why, force=state.in_use(machine))
        if not state.live and not state.gangs:
            yield Finish(reason=why)


def _epoch_s(state: State, gang: Gang) -> float:
    """Expected seconds of the gang's next epoch; 0 when nothing is known."""
    return state.epoch_s(gang.trial, gang.parallelism) or 0.0
