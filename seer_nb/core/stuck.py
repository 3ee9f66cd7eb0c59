"""Whether a study that runs gets on, and why not: to be told, nothing follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb.core import market
from seer_nb.core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core import model as m
    from seer_nb.core.state import State

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


def late_s(state: State, gang: m.Gang) -> float:
    """Study seconds from which on a gang that has not reported is stuck."""
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    if epoch_s is None:
        least_s, most_s = UNKNOWN_S
        return gang.heard_s + max(least_s, min(most_s, UNKNOWN_SHARE * state.deadline_s))
    if gang.heard_s > gang.started_s:
        return gang.heard_s + max(LEAST_S, EPOCHS * epoch_s)
    return gang.heard_s + max(LEAST_FIRST_S, EPOCHS * (state.speed.estimate().stall_s + epoch_s))


def silent(state: State, now_s: float) -> list[m.Gang]:
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


def _silence(state: State, gang: m.Gang, now_s: float) -> str:
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    usual = "no epoch was seen so far" if epoch_s is None else f"an epoch should take {format_duration(epoch_s)}"
    where = state.silent.get(gang.id)
    told = f"trial {gang.trial} has not reported for {format_duration(now_s - gang.heard_s)}, and {usual}"
    return f"{told}: {where}" if where else told


def _waiting(state: State, now_s: float) -> Iterator[str]:
    """Why nothing trains."""
    again_s = market.rent_again_s(state)
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
