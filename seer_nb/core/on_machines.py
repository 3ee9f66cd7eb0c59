"""What records of machines change in the state of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seer_nb.core import model as m
from seer_nb.core.market import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.state import State


def _runner_started(state: State, event: m.RunnerStarted, now_s: float) -> None:
    """Other machines of the runner before this one are gone, by the end of the leases that it last renewed."""
    last_s = state.before_s
    # It was silent for a heartbeat at most, and would have had all machines go when the money ended.
    lived_s = state.ledger.exhausted_s(last_s, last_s + state.heartbeat_s + m.SLACK_S)
    for machine in list(state.live.values()):
        if machine.id in event.adopted:
            _outlived(state, machine, event.unseen_s)
        elif machine.id in event.left:
            _left(state, machine, event, lived_s)
        else:
            _gone(state, machine, event, lived_s)
    for gang in list(state.gangs.values()):
        state.end_gang(gang, now_s, "its runner died")
    state.draws_pending = state.boot_failures = 0
    state.refusals, state.left_behind = {}, ()
    if state.phase == "pausing" and not state.live:
        state.phase = "paused"


def _left(state: State, machine: m.Machine, event: m.RunnerStarted, lived_s: float) -> None:
    """It is told to go by this runner, but its lease is from its own, which lived until ``lived_s`` at most."""
    if state.offers[machine.offer].billed_until_deleted:
        # To delete it is for this runner, whatever the one before had begun.
        _outlived(state, machine, event.unseen_s)
        state.ledger.retire(machine.id, state.now_s, again=True)
    else:
        unseen_s = _unseen_s(state, machine, event, lived_s)
        _outlived(state, machine, unseen_s)
        state.ledger.retire(machine.id, min(lived_s, state.before_s + event.unseen_s) - unseen_s)
    state.update_machine(machine.id, state="retiring", retired_s=state.now_s, reason="its runner died")


def _gone(state: State, machine: m.Machine, event: m.RunnerStarted, lived_s: float) -> None:
    """It ended unseen, at some time after its runner's last record."""
    last_s = state.before_s
    if state.offers[machine.offer].billed_until_deleted:
        # It would still be there: its own runner has seen it deleted, or has never asked for it.
        unseen_s = min(event.unseen_s, lived_s - last_s)
    else:
        unseen_s = _unseen_s(state, machine, event, lived_s)
    state.ledger.close(machine.id, last_s, unseen_s)
    unseen_s += machine.unseen_s
    state.update_machine(machine.id, state="ended", ended_s=last_s, unseen_s=unseen_s, reason="its runner died")


def _unseen_s(state: State, machine: m.Machine, event: m.RunnerStarted, lived_s: float) -> float:
    """How long it has lived since the last record, at most until the end of its lease."""
    return min(event.unseen_s, max(0.0, state.ledger.lives_s(machine.id, lived_s) - state.before_s))


def _outlived(state: State, machine: m.Machine, unseen_s: float) -> None:
    """It has lived on without a runner's clock."""
    state.ledger.outlived(machine.id, unseen_s)
    state.update_machine(machine.id, unseen_s=machine.unseen_s + unseen_s)


def _machine_ready(state: State, event: m.MachineReady, now_s: float) -> None:
    machine = state.machines[event.machine]
    if machine.state == "booting":
        if not machine.hosts:
            state.speed.boot(event.boot_s)
            state.boot_failures = 0
        state.refusals.pop(machine.offer, None)
        state.ledger.join(event.machine)
        state.update_machine(event.machine, state="ready", ready_s=now_s)
        state.free_s[event.machine] = now_s


def _machine_ended(state: State, event: m.MachineEnded, now_s: float) -> None:
    if event.machine not in state.live:
        return
    state.ledger.close(event.machine, now_s, lived_s=event.lived_s)
    machine = state.machines[event.machine]
    if machine.state == "booting":
        _boot_failed(state, machine, now_s, scarce=event.scarce)
    reason = event.reason or machine.reason
    lost = machine.state == "ready" and not event.expected
    state.update_machine(event.machine, state="ended", ended_s=now_s, reason=reason, lost=lost)


def _machine_billed(state: State, event: m.MachineBilled, _: float) -> None:
    if event.machine in state.machines and event.machine not in state.live:
        state.ledger.correct(event.machine, event.lived_s)


def _left_behind(state: State, event: m.MachinesLeftBehind, _: float) -> None:
    state.left_behind = event.machines


def _machine_leaving(state: State, event: m.MachineLeaving, now_s: float) -> None:
    if event.machine in state.live:
        state.update_machine(event.machine, leaves_s=now_s + event.left_s, reason=event.reason)


def _boot_failed(state: State, machine: m.Machine, now_s: float, *, scarce: bool = False) -> None:
    state.boot_failures += not scarce
    before = state.refusals.get(machine.offer)
    # Several that were asked for together, and that there were none of, are one refusal; others cost money each.
    if before is None or not scarce or machine.rented_s >= before.again_s:
        state.refusals[machine.offer] = Refusals(1 if before is None else before.times + 1, now_s)


def _rent(state: State, action: m.Rent, now_s: float) -> None:
    offer = state.offers[action.offer]
    state.ledger.open(action.machine, offer, now_s)
    machine = m.Machine(id=action.machine, offer=offer.name, slots=offer.workers_per_machine, rented_s=now_s)
    state.machines[machine.id] = state.live[machine.id] = machine
    state.tally.machine(None, machine, state.busy)
    state.free_s[machine.id] = now_s


def _retire(state: State, action: m.Retire, now_s: float) -> None:
    machine = state.live.get(action.machine)
    if machine is not None and machine.state != "retiring":
        if machine.state == "booting" and action.force:
            # For booting too long; a machine that is just one too many is not forced.
            _boot_failed(state, machine, now_s)
        state.ledger.retire(action.machine, now_s)
        state.update_machine(action.machine, state="retiring", retired_s=now_s, reason=action.reason)


HANDLERS: dict[type, Callable[[State, Any, float], None]] = {
    m.RunnerStarted: _runner_started,
    m.MachineReady: _machine_ready,
    m.MachineEnded: _machine_ended,
    m.MachineBilled: _machine_billed,
    m.MachinesLeftBehind: _left_behind,
    m.MachineLeaving: _machine_leaving,
    m.Rent: _rent,
    m.Retire: _retire,
}
