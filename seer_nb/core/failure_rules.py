"""What follows from trials that end, fail, diverge or hang, and from machines that do not boot: rules, not policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb._utils.text import headline, kind
from seer_nb.core.actions import Action, BeginEnd, EndTrial, Retire, StopGang
from seer_nb.core.events import Event, GangEnded, MachineEnded, Reported, RunnerStarted, Stop, StopTrial, WorkerFailed
from seer_nb.core.reconcile import end_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.model import Gang, Trial
    from seer_nb.core.state import State


QUIET = frozenset({"created", "paused", "ended"})
"""Phases in which nothing trains."""
ALIKE = 3
"""So many first trials that fail alike end the study."""
ALL_FAIL = 10
"""So many first trials that fail, each in its own way, end it too."""
BOOT_FAILURES = 4
"""So many machines in a row that do not boot end the study."""


def react(state: State, event: Event) -> Iterator[Action]:
    """What an event calls for whatever the policy wants."""
    if isinstance(event, Stop) and state.phase != "ended":
        yield from _begin_end(state, "stopped by hand")
    if isinstance(event, StopTrial):
        # Also while nothing trains: what was asked for then holds once the study goes on.
        yield from _stopped(state, event)
    if state.phase in QUIET:
        return
    if isinstance(event, Reported):
        yield from _diverged(state, event)
    elif isinstance(event, GangEnded):
        yield from _gang_ended(state, event)
        yield from _all_alike(state)
    elif isinstance(event, RunnerStarted):
        yield from _fully_trained(state)
    elif isinstance(event, WorkerFailed):
        yield from _begin_end(
            state, f"a worker could not load the training function: {headline(event.error)}", failed=True
        )
    elif isinstance(event, MachineEnded):
        yield from _no_scheduler(state, event)
        yield from _no_machines(state, event)


def _begin_end(state: State, reason: str, *, failed: bool = False) -> Iterator[Action]:
    if state.phase != "ending":
        yield BeginEnd(reason=reason, failed=failed)


def _stopped(state: State, event: StopTrial) -> Iterator[Action]:
    trial = state.trials.get(event.trial)
    if trial is not None and trial.alive:
        yield from end_trial(state, trial, "stopped", "stopped by hand")


def _diverged(state: State, event: Reported) -> Iterator[Action]:
    gang = state.gangs.get(event.gang)
    trial = state.trials[gang.trial] if gang else None
    if trial is not None and trial.alive and event.value is None:
        yield from end_trial(state, trial, "stopped", f"diverged: its value was not finite at epoch {event.epoch}")


def _gang_ended(state: State, event: GangEnded) -> Iterator[Action]:
    gang = state.ended_gangs.get(event.gang)
    if gang is None:
        return
    if gang.abandoned:
        yield from _end_machines(state, gang)
    trial = state.trials[gang.trial]
    if not trial.alive:
        return
    if event.outcome == "failed" or (event.outcome == "lost" and event.own_fault):
        yield EndTrial(trial=trial.id, state="failed", reason=headline(event.error), error=event.error)
    elif event.outcome == "lost" and trial.losses > state.settings.retries:
        reason = f"lost its workers {trial.losses} times after epoch {trial.resume_epoch}"
        yield EndTrial(trial=trial.id, state="failed", reason=reason, error=event.error or reason)
    elif event.outcome == "returned" and not trial.curve:
        reason = "its function returned without a report"
        yield EndTrial(trial=trial.id, state="failed", reason=reason, error=reason)
    elif event.outcome == "returned" and trial.epoch < state.settings.max_epochs:
        yield EndTrial(trial=trial.id, state="completed", reason=f"its function returned after epoch {trial.epoch}")
    elif trial.epoch >= state.settings.max_epochs:
        yield _completed(trial)


def _fully_trained(state: State) -> Iterator[Action]:
    """Trials whose last epoch was reported, but whose runner died before their gangs had ended."""
    for trial in state.trials.values():
        if trial.state == "paused" and trial.epoch >= state.settings.max_epochs:
            yield _completed(trial)


def _completed(trial: Trial) -> EndTrial:
    return EndTrial(trial=trial.id, state="completed", reason=f"trained all {trial.epoch} epochs")


def _end_machines(state: State, gang: Gang) -> Iterator[Action]:
    """A thread that hangs cannot be freed, so its worker goes, and the machine with it."""
    for machine in sorted(state.machines_of(gang)):
        if machine in state.live:
            yield Retire(machine=machine, force=True, reason=gang.stopping)


def _no_machines(state: State, event: MachineEnded) -> Iterator[Action]:
    """End the study when machine after machine does not boot, unless it can go on with others that do."""
    machine = state.machines.get(event.machine)
    others = any(other.stays for other in state.live.values())
    if machine is None or machine.ready_s is not None or others or state.boot_failures < BOOT_FAILURES:
        return
    why = machine.reason or "no reason was given"
    yield from _begin_end(state, f"{state.boot_failures} machines in a row did not boot: {why}", failed=True)


def _no_scheduler(state: State, event: MachineEnded) -> Iterator[Action]:
    """Workers cannot join another scheduler than the one that they were started for."""
    lost = state.machines.get(event.machine)
    if lost is not None and lost.hosts and not event.expected:
        for machine in list(state.live.values()):
            if machine.state != "retiring":
                yield Retire(machine=machine.id, force=True, reason="the scheduler's machine was lost")


def leave(state: State) -> Iterator[Action]:
    """Have what trains on a machine that will be taken away saved, and hand that machine back."""
    for machine in [state.live[number] for number in sorted(state.tally.leaving)]:
        for gang in [gang for gang in state.gangs.values() if machine.id in state.machines_of(gang)]:
            if not gang.stopping:
                yield StopGang(gang=gang.id, reason=f"machine {machine.id} is taken away: {machine.reason}")
        if machine.state != "retiring" and not state.in_use(machine):
            yield Retire(machine=machine.id, reason=machine.reason)


def _all_alike(state: State) -> Iterator[Action]:
    """End the study when the first trials all fail before any report: in the same way, or every one of many."""
    if state.tally.reported or state.settings.keeps_failures:
        return
    begun = [t for t in state.trials.values() if t.state not in {"waiting", "running"}]
    if len(begun) < ALIKE or any(t.state != "failed" for t in begun):
        return
    last = headline(begun[-1].error)
    if len({kind(t.error) for t in begun}) == 1:
        yield from _begin_end(state, f"the first {len(begun)} trials all failed alike: {last}", failed=True)
    elif len(begun) >= ALL_FAIL:
        why = f"the first {len(begun)} trials all failed before any report; the last one: {last}"
        yield from _begin_end(state, why, failed=True)


def outcome(state: State, reason: str) -> BeginEnd:
    """The end of a study that has nothing left to do: a failure when its trials failed rather than came through.

    That is when none has ever reported and one failed, or when none was trained as far as was wanted and half failed:
    those that were ruled out beside them say nothing of the function, for they were ended before it got that far.
    """
    begun = [trial for trial in state.trials.values() if trial.state != "waiting"]
    failed = sorted((t for t in begun if t.state == "failed"), key=lambda t: t.ended_s or 0.0)
    if not failed or state.settings.keeps_failures:
        return BeginEnd(reason=reason)
    last = headline(failed[-1].error)
    if not state.tally.reported:
        return BeginEnd(reason=f"no trial has reported, {len(failed)} failed; the last one: {last}", failed=True)
    if any(trial.state not in {"failed", "stopped"} for trial in begun):
        return BeginEnd(reason=reason)
    if len(failed) == len(begun):
        return BeginEnd(reason=f"all {len(failed)} trials failed, the last with {last}", failed=True)
    why = f"no trial came through: {len(failed)} of {len(begun)} failed, the last with {last}"
    return BeginEnd(reason=why, failed=2 * len(failed) >= len(begun))


def limit(state: State, reason: str) -> BeginEnd:
    """The end that a limit calls for: a failure, as without one, where no trial is left that more would have helped."""
    left = any(trial.alive and trial.state != "waiting" for trial in state.trials.values())
    return BeginEnd(reason=reason) if left else outcome(state, reason)


# --- silence ---
