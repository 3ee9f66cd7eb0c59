"""Fixed rules, independent of the policy, for trials that end or fail and machines that are lost or do not boot."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from seer_nb._utils.text import error_kind, headline
from seer_nb.core.actions import Action, BeginEnd, EndTrial, Retire, StopGang
from seer_nb.core.events import (
    Event,
    GangEnded,
    MachineEnded,
    PartFailed,
    Reported,
    RunnerStarted,
    Stop,
    StopTrial,
    WorkerFailed,
)
from seer_nb.core.reconcile import end_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.model import Gang, Trial
    from seer_nb.core.state import State


INACTIVE = frozenset({"created", "paused", "ended"})
"""Phases in which nothing trains."""
SAME_FAILURES = 3
"""Number of first trials that end the study if they all fail with the same error."""
ANY_FAILURES = 10
"""Number of first trials that end the study if they all fail, with whatever errors."""
BOOT_FAILURES = 4
"""Number of consecutive machines that end the study if they do not boot."""


def react(state: State, event: Event) -> Iterator[Action]:
    """Yield the actions that an event requires whatever the policy wants."""
    if isinstance(event, Stop) and state.phase != "ended":
        yield from _begin_end(state, "stopped by hand")
    if isinstance(event, StopTrial):
        # Also while nothing trains, so that the trial stays stopped when the study resumes.
        yield from _stop_trial(state, event)
    if state.phase in INACTIVE:
        return
    if isinstance(event, Reported):
        yield from _stop_diverged(state, event)
    elif isinstance(event, GangEnded):
        yield from _end_trial_of(state, event)
        yield from _end_if_all_fail(state)
    elif isinstance(event, RunnerStarted):
        yield from _complete_trained(state)
    elif isinstance(event, WorkerFailed):
        yield from _begin_end(
            state, f"a worker could not load the training function: {headline(event.error)}", failed=True
        )
    elif isinstance(event, PartFailed):
        yield from _begin_end(state, f"the {event.part} raised {headline(event.error)}", failed=True)
    elif isinstance(event, MachineEnded):
        yield from _retire_without_scheduler(state, event)
        yield from _end_without_machines(state, event)


def part_end(kind: str, part: object, error: BaseException) -> BeginEnd:
    """Return the end of a study of which an object that the user gave has raised.

    Args:
        kind: What the object is, such as "policy".
        part: The object.
        error: What it raised.
    """
    what = headline("".join(traceback.format_exception_only(error)))
    return BeginEnd(reason=f"the {kind} {type(part).__name__} raised {what}", failed=True)


def _begin_end(state: State, reason: str, *, failed: bool = False) -> Iterator[Action]:
    if state.phase != "ending":
        yield BeginEnd(reason=reason, failed=failed)


def _stop_trial(state: State, event: StopTrial) -> Iterator[Action]:
    trial = state.trials.get(event.trial)
    if trial is not None and trial.alive:
        yield from end_trial(state, trial, "stopped", "stopped by hand")


def _stop_diverged(state: State, event: Reported) -> Iterator[Action]:
    gang = state.gangs.get(event.gang)
    trial = state.trials[gang.trial] if gang else None
    if trial is not None and trial.alive and event.value is None:
        yield from end_trial(state, trial, "stopped", f"diverged: its value was not finite at epoch {event.epoch}")


def _end_trial_of(state: State, event: GangEnded) -> Iterator[Action]:
    gang = state.ended_gangs.get(event.gang)
    if gang is None:
        return
    if gang.abandoned:
        yield from _retire_machines_of(state, gang)
    trial = state.trials[gang.trial]
    if not trial.alive:
        return
    if event.outcome == "failed" or (event.outcome == "lost" and event.own_fault):
        yield EndTrial(trial=trial.id, state="failed", reason=headline(event.error), error=event.error)
    elif event.outcome == "lost" and trial.losses > state.settings.retries:
        reason = f"lost its workers {trial.losses} times after epoch {trial.resume_epoch}"
        yield EndTrial(trial=trial.id, state="failed", reason=reason, error=event.error or reason)
    elif event.outcome == "returned" and not trial.curve:
        reason = "the training function returned without a report"
        yield EndTrial(trial=trial.id, state="failed", reason=reason, error=reason)
    elif event.outcome == "returned" and trial.epoch < state.settings.max_epochs:
        yield EndTrial(
            trial=trial.id, state="completed", reason=f"the training function returned after epoch {trial.epoch}"
        )
    elif trial.epoch >= state.settings.max_epochs:
        yield _completed(trial)


def _complete_trained(state: State) -> Iterator[Action]:
    """Complete trials whose last epoch was reported, but whose runner died before their gangs ended."""
    for trial in state.trials.values():
        if trial.state == "paused" and trial.epoch >= state.settings.max_epochs:
            yield _completed(trial)


def _completed(trial: Trial) -> EndTrial:
    return EndTrial(trial=trial.id, state="completed", reason=f"trained all {trial.epoch} epochs")


def _retire_machines_of(state: State, gang: Gang) -> Iterator[Action]:
    """Retire the machines of an abandoned gang, because a hung thread cannot be freed."""
    for machine in sorted(state.machines_of(gang)):
        if machine in state.live_machines:
            yield Retire(machine=machine, force=True, reason=gang.stopping)


def _end_without_machines(state: State, event: MachineEnded) -> Iterator[Action]:
    """End the study when consecutive machines do not boot, unless it can continue on other machines."""
    machine = state.machines.get(event.machine)
    others = any(other.keeps_training for other in state.live_machines.values())
    if machine is None or machine.ready_s is not None or others or state.boot_failures < BOOT_FAILURES:
        return
    why = machine.reason or "no reason given"
    yield from _begin_end(state, f"{state.boot_failures} machines in a row did not boot: {why}", failed=True)


def _retire_without_scheduler(state: State, event: MachineEnded) -> Iterator[Action]:
    """Retire all machines when the scheduler machine is lost, because workers cannot join another scheduler."""
    lost = state.machines.get(event.machine)
    if lost is not None and lost.runs_scheduler and not event.expected:
        for machine in list(state.live_machines.values()):
            if machine.state != "retiring":
                yield Retire(machine=machine.id, force=True, reason="the scheduler machine was lost")


def vacate_leaving(state: State) -> Iterator[Action]:
    """Save the trials on machines that will be preempted, and retire these machines."""
    for machine in [state.live_machines[number] for number in sorted(state.index.leaving)]:
        for gang in [gang for gang in state.gangs.values() if machine.id in state.machines_of(gang)]:
            if not gang.stopping:
                yield StopGang(gang=gang.id, reason=f"machine {machine.id} is preempted: {machine.reason}")
        if machine.state != "retiring" and not state.in_use(machine):
            yield Retire(machine=machine.id, reason=machine.reason)


def _end_if_all_fail(state: State) -> Iterator[Action]:
    """End the study when its first trials all fail before any report: a few with the same error, or many with any."""
    if state.index.reported or state.settings.keeps_failures:
        return
    started = [t for t in state.trials.values() if t.state not in {"waiting", "running"}]
    if len(started) < SAME_FAILURES or any(t.state != "failed" for t in started):
        return
    last = headline(started[-1].error)
    if len({error_kind(t.error) for t in started}) == 1:
        yield from _begin_end(
            state, f"the first {len(started)} trials all failed with the same error: {last}", failed=True
        )
    elif len(started) >= ANY_FAILURES:
        why = f"the first {len(started)} trials all failed before any report, the last with {last}"
        yield from _begin_end(state, why, failed=True)


def idle_end(state: State, reason: str) -> BeginEnd:
    """Return the end of a study that has nothing left to do.

    The study failed if no trial ever reported and one failed. It also failed if every trial failed or was stopped, and
    at least half of them failed: a stopped trial does not show that the training function works to its end.

    Args:
        state: State of the study.
        reason: Why nothing is left to do; used unless failures are the reason.
    """
    started = [trial for trial in state.trials.values() if trial.state != "waiting"]
    failed = sorted((t for t in started if t.state == "failed"), key=lambda t: t.ended_s or 0.0)
    if not failed or state.settings.keeps_failures:
        return BeginEnd(reason=reason)
    last = headline(failed[-1].error)
    if not state.index.reported:
        return BeginEnd(reason=f"no trial has reported, and {len(failed)} failed, the last with {last}", failed=True)
    if any(trial.state not in {"failed", "stopped"} for trial in started):
        return BeginEnd(reason=reason)
    if len(failed) == len(started):
        return BeginEnd(reason=f"all {len(failed)} trials failed, the last with {last}", failed=True)
    why = f"no trial completed: {len(failed)} of {len(started)} failed, the last with {last}"
    return BeginEnd(reason=why, failed=2 * len(failed) >= len(started))


def limit_end(state: State, reason: str) -> BeginEnd:
    """Return the end of a study at a limit; if no started trial is left, failures count as in `idle_end`."""
    left = any(trial.alive and trial.state != "waiting" for trial in state.trials.values())
    return BeginEnd(reason=reason) if left else idle_end(state, reason)
