"""Invariants of a study, checked after every event and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.testing.adversary.simulator import PromiseError, comparable_state

if TYPE_CHECKING:
    from seer_nb.testing.adversary.simulator import AdverseCloud


DECISIONS = (
    core.Rent,
    core.Retire,
    core.Draw,
    core.StartGang,
    core.StopGang,
    core.AbandonGang,
    core.EndTrial,
    core.BeginEnd,
    core.Finish,
    core.Note,
)


def require(kept: bool, promise: str) -> None:  # noqa: FBT001 - it reads as an assertion
    """Raise `PromiseError` unless the promise was kept."""
    if not kept:
        raise PromiseError(promise)


class InvariantChecker:
    """Checks the invariants of a running study; to be called after every event."""

    def __init__(self) -> None:
        self._best: float | None = None
        self._seen: dict[int, core.Trial] = {}
        self._lengths: dict[int, int] = {}

    def __call__(self, cloud: AdverseCloud) -> None:
        """Check all invariants.

        Raises:
            PromiseError: An invariant is broken; the message names it.
        """
        self._money(cloud)
        self._gangs(cloud)
        self._trials(cloud)
        self._check_best(cloud)

    def _money(self, cloud: AdverseCloud) -> None:
        state = cloud.state
        spent, committed = state.ledger.spent_micro(cloud.now_s), state.ledger.committed_micro(cloud.now_s)
        require(spent + committed <= state.budget_micro, "spent plus committed exceeds the budget")

    def _gangs(self, cloud: AdverseCloud) -> None:
        gangs = cloud.state.gangs.values()
        trials = {gang.trial for gang in gangs}
        workers = [worker for gang in gangs for worker in gang.workers]
        require(len(trials) == len(gangs), "a trial is in two gangs")
        require(len(workers) == len(set(workers)), "a worker is in two gangs")
        require(all(cloud.state.trials[gang.trial].gang == gang.id for gang in gangs), "a trial refers to another gang")

    def _trials(self, cloud: AdverseCloud) -> None:
        for trial in cloud.state.trials.values():
            if self._seen.get(trial.id) is trial:
                continue
            self._seen[trial.id] = trial
            if len(trial.curve) != self._lengths.get(trial.id, 0):
                counted = [report.epoch for report in trial.curve] == list(range(1, len(trial.curve) + 1))
                require(counted, "an epoch is missing or stored twice")
                require(trial.epoch <= cloud.settings.max_epochs, "a trial exceeds the maximum epochs")
                self._lengths[trial.id] = len(trial.curve)
            require(trial.resume_epoch <= trial.epoch, "a checkpoint is ahead of its trial")
            require(trial.state != "running" or trial.gang is not None, "a trial runs without a gang")

    def _check_best(self, cloud: AdverseCloud) -> None:
        best = cloud.state.best
        if cloud.world.damages:
            self._best = None  # the best checkpoint may have been damaged
        if best is None or best.best is None:
            require(self._best is None, "the best checkpoint was lost")
            return
        value = best.best.value
        require(best.best.checkpoint is not None, "the best checkpoint was lost")
        require(self._best is None or (value is not None and value >= self._best), "the best checkpoint was lost")
        self._best = value


def check_ended_study(cloud: AdverseCloud) -> None:
    """Check the invariants of a study that has ended.

    Raises:
        PromiseError: An invariant is broken; the message names it.
    """
    state = cloud.state
    require(not state.live_machines and not state.gangs, "machines or gangs are left over")
    require(all(box.ended_s is not None for box in cloud.machines.values()), "a machine outlives its study")
    spent = state.ledger.spent_micro(cloud.now_s)
    require(
        cloud.provider_bill_micro() <= spent <= state.budget_micro,
        f"{cloud.provider_bill_micro()} billed, {spent} booked of {state.budget_micro}",
    )
    require(all(trial.state != "running" for trial in state.trials.values()), "a trial is still running")
    _check_limits(cloud)
    _check_records(cloud)
    _check_replay(cloud)


def _check_limits(cloud: AdverseCloud) -> None:
    """Check deadline and budget; late timers, a restart or a moved deadline excuse a late machine."""
    excused = any(isinstance(event, core.DeadlineMoved) for event in cloud.events) or _restarted(cloud)
    require(
        excused or cloud.over_deadline_s <= cloud.world.tick_late_s,
        f"a machine is {cloud.over_deadline_s} s over the deadline",
    )
    require(cloud.over_budget_micro <= 0, f"{cloud.over_budget_micro} micro-dollars over the budget")


def _check_records(cloud: AdverseCloud) -> None:
    stored: dict[str | None, int] = {None: 0}
    ended: set[int] = set()
    for _, record in cloud.records():
        if isinstance(record, DECISIONS):
            require(bool(record.reason.strip()), f"{record} has no reason")
        if isinstance(record, core.Reported) and record.checkpoint:
            stored.setdefault(record.checkpoint, record.epoch)
        elif isinstance(record, core.EndTrial):
            ended.add(record.trial)
        elif isinstance(record, core.StartGang):
            require(
                stored.get(record.checkpoint) == record.from_epoch,
                f"{record} does not continue from a stored checkpoint",
            )
            require(
                record.from_epoch < record.until <= cloud.settings.max_epochs, f"{record} trains no epoch, or too many"
            )
            require(record.trial not in ended, f"{record} trains a trial that has ended")


def _check_replay(cloud: AdverseCloud) -> None:
    """Check that the records replay to the same state, and the events to the same actions."""
    replayed = Engine(cloud.settings, cloud.policy).state
    for at_s, record in cloud.records():
        replayed.apply(record, at_s)
    require(comparable_state(replayed) == comparable_state(cloud.state), "the records do not replay to the same state")
    again = Engine(cloud.settings, cloud.policy)
    for at_s, event, actions in cloud.log:
        require(again.handle(event, at_s) == actions, f"{event} led to other actions")


def _restarted(cloud: AdverseCloud) -> bool:
    return sum(isinstance(event, core.RunnerStarted) for event in cloud.events) > 1
