"""Whether a study that runs gets on, and why not: to be told, nothing follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb._utils.units import format_duration
from seer_nb.core import offer_choice
from seer_nb.core.actions import AbandonGang, Action, Retire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.model import Gang
    from seer_nb.core.state import State


SILENT_S = 60.0
"""A gang is never given up before so many silent seconds, unless the user set report_timeout ..."""
SILENT_EPOCHS = 10.0
"""... and not before so many of its usual epochs ..."""
SILENT_SHARE = 0.5
"""... nor, as long as no epoch was seen at all, before so much of the deadline."""


EPOCHS = 2.0
"""A gang that has not reported for so many of the epochs that it should take ..."""
LEAST_S = 2.0
"""... and for so many seconds is stuck: very short epochs are never quite alike."""
LEAST_FIRST_S = 10.0
"""The same for a gang's first epoch, which begins with imports and data."""
UNKNOWN_S, UNKNOWN_SHARE = (20.0, 60.0), 0.1
"""As long as no epoch was seen at all: that share of the deadline, but neither less nor more than so many seconds."""
LEAST_BOOT_S = 10.0
ACTIVE = frozenset({"running", "pausing", "ending"})
"""Phases in which something should happen."""


def late_s(state: State, gang: Gang) -> float:
    """Study seconds from which on a gang that has not reported is stuck."""
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    if epoch_s is None:
        least_s, most_s = UNKNOWN_S
        return gang.heard_s + max(least_s, min(most_s, UNKNOWN_SHARE * state.deadline_s))
    if gang.heard_s > gang.started_s:
        return gang.heard_s + max(LEAST_S, EPOCHS * epoch_s)
    return gang.heard_s + max(LEAST_FIRST_S, EPOCHS * (state.speed.estimate().stall_s + epoch_s))


def silent(state: State, now_s: float) -> list[Gang]:
    """The gangs that are stuck, that which has been silent for longest first."""
    found = [gang for gang in state.gangs.values() if now_s >= late_s(state, gang)]
    return sorted(found, key=lambda gang: gang.heard_s)


def why(state: State, now_s: float) -> str:
    """Why a study does not get on, in a sentence; empty if it does.

    Args:
        state: Of the study.
        now_s: Study seconds; a stopped clock is the caller's affair.
    """
    if state.phase not in ACTIVE:
        return ""
    found = silent(state, now_s)
    if found:
        more = f"; {len(found) - 1} more silent" if len(found) > 1 else ""
        return _silence(state, found[0], now_s) + more
    if state.gangs or state.phase != "running":
        return ""
    return next(_waiting(state, now_s), "")


def _silence(state: State, gang: Gang, now_s: float) -> str:
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    usual = "no epoch was seen so far" if epoch_s is None else f"an epoch should take {format_duration(epoch_s)}"
    where = state.silent.get(gang.id)
    told = f"trial {gang.trial} has not reported for {format_duration(now_s - gang.heard_s)}, and {usual}"
    return f"{told}: {where}" if where else told


def _waiting(state: State, now_s: float) -> Iterator[str]:
    """Why nothing trains."""
    again_s = offer_choice.rent_again_s(state)
    if again_s > now_s and not state.tally.booting:
        reason = next((x.reason for x in reversed(state.machines.values()) if x.state == "ended" and x.reason), "")
        told = f"no machine can be had, and none trains: asked again in {format_duration(again_s - now_s)}"
        yield f"{told} ({reason})" if reason else told
    for machine in state.live.values():
        usual_s = max(state.speed.estimate().boot_s, state.offers[machine.offer].boot_s if machine.hosts else 0.0)
        age_s = now_s - machine.rented_s
        if machine.state == "booting" and age_s >= max(LEAST_BOOT_S, EPOCHS * usual_s):
            left_s = max(0.0, state.offers[machine.offer].boot_timeout_s - age_s)
            yield (
                f"nothing trains, for machine {machine.id} has been booting for {format_duration(age_s)}, "
                f"{format_duration(usual_s)} are usual: it is given up in {format_duration(left_s)}"
            )


def alarms(state: State, awake_s: float = 0.0) -> Iterator[float]:
    """Study seconds at which something will be overdue; nobody was heard before ``awake_s``."""
    for gang in state.gangs.values():
        if not gang.abandoned:
            yield max(gang.heard_s, awake_s) + _patience_s(state, gang)
    for machine in state.live.values():
        if machine.state == "booting":
            yield machine.rented_s + state.offers[machine.offer].boot_timeout_s


def silent_s(state: State, gang: Gang) -> float:
    """Study seconds at which a gang that does not report until then is given up."""
    return gang.heard_s + _patience_s(state, gang)


def overdue(state: State, awake_s: float = 0.0) -> Iterator[Action]:
    """Give up the gangs and the machines that have been silent for too long; nobody was heard before ``awake_s``."""
    for gang in list(state.gangs.values()):
        patience_s = _patience_s(state, gang)
        if not gang.abandoned and state.now_s >= max(gang.heard_s, awake_s) + patience_s:
            yield AbandonGang(gang=gang.id, reason=f"hung: no report for {patience_s:.0f} s")
    for machine in list(state.live.values()):
        timeout_s = state.offers[machine.offer].boot_timeout_s
        if machine.state == "booting" and state.now_s >= machine.rented_s + timeout_s:
            yield Retire(machine=machine.id, force=True, reason=f"did not boot within {timeout_s:.0f} s")


def _patience_s(state: State, gang: Gang) -> float:
    given = state.settings.report_timeout_s
    if given is not None:
        return given
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    if epoch_s is None:
        return max(SILENT_S, SILENT_SHARE * state.deadline_s)
    return max(SILENT_S, SILENT_EPOCHS * (state.speed.estimate().stall_s + epoch_s))
