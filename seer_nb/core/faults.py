"""What follows from trials that end, fail, diverge or hang, and from machines that do not boot: rules, not policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb.core import model as m
from seer_nb.core.headline import headline, kind
from seer_nb.core.reconcile import end_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.state import State

QUIET = frozenset({"created", "paused", "ended"})
"""Phases in which nothing trains."""
ALIKE = 3
"""So many first trials that fail alike end the study."""
ALL_FAIL = 10
"""So many first trials that fail, each in its own way, end it too."""
BOOT_FAILURES = 4
"""So many machines in a row that do not boot end the study."""
SILENT_S = 60.0
"""A gang is never given up before so many silent seconds, unless the user set report_timeout ..."""
SILENT_EPOCHS = 10.0
"""... and not before so many of its usual epochs ..."""
SILENT_SHARE = 0.5
"""... nor, as long as no epoch was seen at all, before so much of the deadline."""


def react(state: State, event: m.Event) -> Iterator[m.Action]:
    """What an event calls for whatever the policy wants."""
    if isinstance(event, m.Stop) and state.phase != "ended":
        yield from _begin_end(state, "stopped by hand")
    if isinstance(event, m.StopTrial):
        # Also while nothing trains: what was asked for then holds once the study goes on.
        yield from _stopped(state, event)
    if state.phase in QUIET:
        return
    if isinstance(event, m.Reported):
        yield from _diverged(state, event)
    elif isinstance(event, m.GangEnded):
        yield from _gang_ended(state, event)
        yield from _all_alike(state)
    elif isinstance(event, m.RunnerStarted):
        yield from _fully_trained(state)
    elif isinstance(event, m.WorkerFailed):
        yield from _begin_end(
            state, f"a worker could not load the training function: {headline(event.error)}", failed=True
        )
    elif isinstance(event, m.MachineEnded):
        yield from _no_scheduler(state, event)
        yield from _no_machines(state, event)


def _begin_end(state: State, reason: str, *, failed: bool = False) -> Iterator[m.Action]:
    if state.phase != "ending":
        yield m.BeginEnd(reason=reason, failed=failed)


def _stopped(state: State, event: m.StopTrial) -> Iterator[m.Action]:
    trial = state.trials.get(event.trial)
    if trial is not None and trial.alive:
        yield from end_trial(state, trial, "stopped", "stopped by hand")


def _diverged(state: State, event: m.Reported) -> Iterator[m.Action]:
    gang = state.gangs.get(event.gang)
    trial = state.trials[gang.trial] if gang else None
    if trial is not None and trial.alive and event.value is None:
        yield from end_trial(state, trial, "stopped", f"diverged: its value was not finite at epoch {event.epoch}")


def _gang_ended(state: State, event: m.GangEnded) -> Iterator[m.Action]:
    gang = state.ended_gangs.get(event.gang)
    if gang is None:
        return
    if gang.abandoned:
        yield from _end_machines(state, gang)
    trial = state.trials[gang.trial]
    if not trial.alive:
        return
    if event.outcome == "failed" or (event.outcome == "lost" and event.own_fault):
        yield m.EndTrial(trial=trial.id, state="failed", reason=headline(event.error), error=event.error)
    elif event.outcome == "lost" and trial.losses > state.settings.retries:
        reason = f"lost its workers {trial.losses} times after epoch {trial.resume_epoch}"
        yield m.EndTrial(trial=trial.id, state="failed", reason=reason, error=event.error or reason)
    elif event.outcome == "returned" and not trial.curve:
        reason = "its function returned without a report"
        yield m.EndTrial(trial=trial.id, state="failed", reason=reason, error=reason)
    elif event.outcome == "returned" and trial.epoch < state.settings.max_epochs:
        yield m.EndTrial(trial=trial.id, state="completed", reason=f"its function returned after epoch {trial.epoch}")
    elif trial.epoch >= state.settings.max_epochs:
        yield _completed(trial)


def _fully_trained(state: State) -> Iterator[m.Action]:
    """Trials whose last epoch was reported, but whose runner died before their gangs had ended."""
    for trial in state.trials.values():
        if trial.state == "paused" and trial.epoch >= state.settings.max_epochs:
            yield _completed(trial)


def _completed(trial: m.Trial) -> m.EndTrial:
    return m.EndTrial(trial=trial.id, state="completed", reason=f"trained all {trial.epoch} epochs")


def _end_machines(state: State, gang: m.Gang) -> Iterator[m.Action]:
    """A thread that hangs cannot be freed, so its worker goes, and the machine with it."""
    for machine in sorted(state.machines_of(gang)):
        if machine in state.live:
            yield m.Retire(machine=machine, force=True, reason=gang.stopping)


def _no_machines(state: State, event: m.MachineEnded) -> Iterator[m.Action]:
    """End the study when machine after machine does not boot, unless it can go on with others that do."""
    machine = state.machines.get(event.machine)
    others = any(other.stays for other in state.live.values())
    if machine is None or machine.ready_s is not None or others or state.boot_failures < BOOT_FAILURES:
        return
    why = machine.reason or "no reason was given"
    yield from _begin_end(state, f"{state.boot_failures} machines in a row did not boot: {why}", failed=True)


def _no_scheduler(state: State, event: m.MachineEnded) -> Iterator[m.Action]:
    """Workers cannot join another scheduler than the one that they were started for."""
    lost = state.machines.get(event.machine)
    if lost is not None and lost.hosts and not event.expected:
        for machine in list(state.live.values()):
            if machine.state != "retiring":
                yield m.Retire(machine=machine.id, force=True, reason="the scheduler's machine was lost")


def leave(state: State) -> Iterator[m.Action]:
    """Have what trains on a machine that will be taken away saved, and hand that machine back."""
    for machine in [state.live[number] for number in sorted(state.tally.leaving)]:
        for gang in [gang for gang in state.gangs.values() if machine.id in state.machines_of(gang)]:
            if not gang.stopping:
                yield m.StopGang(gang=gang.id, reason=f"machine {machine.id} is taken away: {machine.reason}")
        if machine.state != "retiring" and not state.in_use(machine):
            yield m.Retire(machine=machine.id, reason=machine.reason)


def _all_alike(state: State) -> Iterator[m.Action]:
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


def outcome(state: State, reason: str) -> m.BeginEnd:
    """The end of a study that has nothing left to do: a failure when its trials failed rather than came through.

    That is when none has ever reported and one failed, or when none was trained as far as was wanted and half failed:
    those that were ruled out beside them say nothing of the function, for they were ended before it got that far.
    """
    begun = [trial for trial in state.trials.values() if trial.state != "waiting"]
    failed = sorted((t for t in begun if t.state == "failed"), key=lambda t: t.ended_s or 0.0)
    if not failed or state.settings.keeps_failures:
        return m.BeginEnd(reason=reason)
    last = headline(failed[-1].error)
    if not state.tally.reported:
        return m.BeginEnd(reason=f"no trial has reported, {len(failed)} failed; the last one: {last}", failed=True)
    if any(trial.state not in {"failed", "stopped"} for trial in begun):
        return m.BeginEnd(reason=reason)
    if len(failed) == len(begun):
        return m.BeginEnd(reason=f"all {len(failed)} trials failed, the last with {last}", failed=True)
    why = f"no trial came through: {len(failed)} of {len(begun)} failed, the last with {last}"
    return m.BeginEnd(reason=why, failed=2 * len(failed) >= len(begun))


def limit(state: State, reason: str) -> m.BeginEnd:
    """The end that a limit calls for: a failure, as without one, where no trial is left that more would have helped."""
    left = any(trial.alive and trial.state != "waiting" for trial in state.trials.values())
    return m.BeginEnd(reason=reason) if left else outcome(state, reason)


# --- silence ---


def alarms(state: State, awake_s: float = 0.0) -> Iterator[float]:
    """Study seconds at which something will be overdue; nobody was heard before ``awake_s``."""
    for gang in state.gangs.values():
        if not gang.abandoned:
            yield max(gang.heard_s, awake_s) + _patience_s(state, gang)
    for machine in state.live.values():
        if machine.state == "booting":
            yield machine.rented_s + state.offers[machine.offer].boot_timeout_s


def silent_s(state: State, gang: m.Gang) -> float:
    """Study seconds at which a gang that does not report until then is given up."""
    return gang.heard_s + _patience_s(state, gang)


def overdue(state: State, awake_s: float = 0.0) -> Iterator[m.Action]:
    """Give up the gangs and the machines that have been silent for too long; nobody was heard before ``awake_s``."""
    for gang in list(state.gangs.values()):
        patience_s = _patience_s(state, gang)
        if not gang.abandoned and state.now_s >= max(gang.heard_s, awake_s) + patience_s:
            yield m.AbandonGang(gang=gang.id, reason=f"hung: no report for {patience_s:.0f} s")
    for machine in list(state.live.values()):
        timeout_s = state.offers[machine.offer].boot_timeout_s
        if machine.state == "booting" and state.now_s >= machine.rented_s + timeout_s:
            yield m.Retire(machine=machine.id, force=True, reason=f"did not boot within {timeout_s:.0f} s")


def _patience_s(state: State, gang: m.Gang) -> float:
    given = state.settings.report_timeout_s
    if given is not None:
        return given
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    if epoch_s is None:
        return max(SILENT_S, SILENT_SHARE * state.deadline_s)
    return max(SILENT_S, SILENT_EPOCHS * (state.speed.estimate().stall_s + epoch_s))
