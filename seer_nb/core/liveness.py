"""Liveness: which gangs are silent or hung, which machines do not boot, and why a study is stalled.

- A gang is *silent* after about two expected epochs without a report. The user is informed; nothing else happens.
- A study is *stalled* when a gang is silent, or when nothing trains. `explain_stall` explains it.
- A gang or a booting machine is *hung* past its timeout. The engine abandons the gang, or retires the machine.

All times are study seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from seer_nb._utils.units import format_duration
from seer_nb.core import offer_choice
from seer_nb.core.actions import AbandonGang, Action, Retire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seer_nb.core.model import Gang, Machine
    from seer_nb.core.state import State


class Timers(NamedTuple):
    """All limits by which a gang or a machine counts as silent or hung."""

    silent_epochs: float = 2.0
    """Expected epoch times without a report after which a gang is silent, and usual boot times for a machine."""
    silent_min_s: float = 2.0
    """Least seconds until a gang is silent, because very short epochs vary in length."""
    silent_first_min_s: float = 10.0
    """Least seconds until a gang is silent before its first report; imports and data loading come first."""
    silent_boot_min_s: float = 10.0
    """Least seconds until a booting machine is reported as slow."""
    silent_unmeasured_share: float = 0.1
    """Share of the deadline until a gang is silent while no epoch has been measured, within the next two bounds."""
    silent_unmeasured_min_s: float = 20.0
    silent_unmeasured_max_s: float = 60.0
    hung_epochs: float = 10.0
    """Expected epoch times without a report after which a gang is hung, unless the user set report_timeout."""
    hung_min_s: float = 60.0
    """Least seconds until a gang is hung, unless the user set report_timeout."""
    hung_unmeasured_share: float = 0.5
    """Share of the deadline until a gang is hung while no epoch has been measured."""


TIMERS = Timers()
ACTIVE = frozenset({"running", "pausing", "ending"})
"""Phases in which a study should make progress."""


# --- silent ---


def silent_from_s(state: State, gang: Gang) -> float:
    """Return the time from which a gang is silent if it does not report before."""
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    if epoch_s is None:
        share_s = TIMERS.silent_unmeasured_share * state.deadline_s
        return gang.last_message_s + max(TIMERS.silent_unmeasured_min_s, min(TIMERS.silent_unmeasured_max_s, share_s))
    if gang.last_message_s > gang.started_s:
        return gang.last_message_s + max(TIMERS.silent_min_s, TIMERS.silent_epochs * epoch_s)
    first_s = state.speed.estimate().stall_s + epoch_s
    return gang.last_message_s + max(TIMERS.silent_first_min_s, TIMERS.silent_epochs * first_s)


def silent_gangs(state: State, now_s: float) -> list[Gang]:
    """Return the silent gangs, the one that has been silent for longest first."""
    found = [gang for gang in state.gangs.values() if now_s >= silent_from_s(state, gang)]
    return sorted(found, key=lambda gang: gang.last_message_s)


# --- stalled ---


def explain_stall(state: State, now_s: float) -> str:
    """Explain in a sentence why a study is stalled.

    Args:
        state: State of the study.
        now_s: Study seconds; the caller must check that the study clock runs.

    Returns:
        The sentence; empty if the study makes progress or is not meant to.
    """
    if state.phase not in ACTIVE:
        return ""
    found = silent_gangs(state, now_s)
    if found:
        more = f"; {len(found) - 1} more silent" if len(found) > 1 else ""
        return _explain_silence(state, found[0], now_s) + more
    if state.gangs or state.phase != "running":
        return ""
    return _explain_refusals(state, now_s) or next(_explain_slow_boots(state, now_s), "")


def _explain_silence(state: State, gang: Gang, now_s: float) -> str:
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    usual = "no epoch has been measured" if epoch_s is None else f"an epoch should take {format_duration(epoch_s)}"
    text = f"trial {gang.trial} has not reported for {format_duration(now_s - gang.last_message_s)}, and {usual}"
    where = state.silent.get(gang.id)
    return f"{text}: {where}" if where else text


def _explain_refusals(state: State, now_s: float) -> str:
    again_s = offer_choice.rent_again_s(state)
    if again_s <= now_s or state.index.booting:
        return ""
    reason = next((x.reason for x in reversed(state.machines.values()) if x.state == "ended" and x.reason), "")
    text = f"nothing trains because no machine is available; next attempt in {format_duration(again_s - now_s)}"
    return f"{text} ({reason})" if reason else text


def _explain_slow_boots(state: State, now_s: float) -> Iterator[str]:
    for machine in _booting(state):
        offer, age_s = state.offers[machine.offer], now_s - machine.rented_s
        usual_s = max(state.speed.estimate().boot_s, offer.boot_s if machine.runs_scheduler else 0.0)
        if age_s >= max(TIMERS.silent_boot_min_s, TIMERS.silent_epochs * usual_s):
            left_s = max(0.0, offer.boot_timeout_s - age_s)
            yield (
                f"nothing trains because machine {machine.id} has been booting for {format_duration(age_s)} instead of "
                f"{format_duration(usual_s)}; its boot timeout ends in {format_duration(left_s)}"
            )


# --- hung ---


def hung_from_s(state: State, gang: Gang, receiving_since_s: float = 0.0) -> float:
    """Return the time from which a gang is hung if it does not report before.

    Args:
        state: State of the study.
        gang: A gang that has not ended.
        receiving_since_s: Time before which no message could arrive, because the runner was suspended.
    """
    return max(gang.last_message_s, receiving_since_s) + _report_timeout_s(state, gang)


def hang_times(state: State, receiving_since_s: float = 0.0) -> Iterator[float]:
    """Yield the times at which gangs and booting machines will count as hung; arguments as in `hung_from_s`."""
    for gang in state.gangs.values():
        if not gang.abandoned:
            yield hung_from_s(state, gang, receiving_since_s)
    for machine in _booting(state):
        yield machine.rented_s + state.offers[machine.offer].boot_timeout_s


def end_hung(state: State, receiving_since_s: float = 0.0) -> Iterator[Action]:
    """Abandon hung gangs, and retire machines that did not boot in time; arguments as in `hung_from_s`."""
    for gang in list(state.gangs.values()):
        if not gang.abandoned and state.now_s >= hung_from_s(state, gang, receiving_since_s):
            timeout_s = _report_timeout_s(state, gang)
            yield AbandonGang(gang=gang.id, reason=f"hung: no report for {timeout_s:.0f} s")
    for machine in _booting(state):
        timeout_s = state.offers[machine.offer].boot_timeout_s
        if state.now_s >= machine.rented_s + timeout_s:
            yield Retire(machine=machine.id, force=True, reason=f"did not boot within {timeout_s:.0f} s")


def _report_timeout_s(state: State, gang: Gang) -> float:
    """Return the seconds without a report after which a gang is hung."""
    if state.settings.report_timeout_s is not None:
        return state.settings.report_timeout_s
    epoch_s = state.epoch_s(gang.trial, gang.parallelism)
    if epoch_s is None:
        return max(TIMERS.hung_min_s, TIMERS.hung_unmeasured_share * state.deadline_s)
    return max(TIMERS.hung_min_s, TIMERS.hung_epochs * (state.speed.estimate().stall_s + epoch_s))


def _booting(state: State) -> list[Machine]:
    return [machine for machine in state.live_machines.values() if machine.state == "booting"]
