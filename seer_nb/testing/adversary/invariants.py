"""Looks at a study after every event, and at its end: is all kept that seer_nb promises?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb import core
from seer_nb.core.engine import Engine
from seer_nb.testing.adversary.simulator import PromiseError, picture

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


def hold(kept: bool, promise: str) -> None:  # noqa: FBT001 - it reads as an assertion
    """Raise `PromiseError` unless it was kept."""
    if not kept:
        raise PromiseError(promise)


class Watch:
    """To be called after every event."""

    def __init__(self) -> None:
        self._best: float | None = None
        self._seen: dict[int, core.Trial] = {}
        self._lengths: dict[int, int] = {}

    def __call__(self, cloud: AdverseCloud) -> None:
        """Look.

        Raises:
            PromiseError: With a sentence that says which.
        """
        self._money(cloud)
        self._gangs(cloud)
        self._trials(cloud)
        self._best_is_kept(cloud)

    def _money(self, cloud: AdverseCloud) -> None:
        state = cloud.state
        spent, committed = state.ledger.spent(cloud.now_s), state.ledger.committed(cloud.now_s)
        hold(spent + committed <= state.budget, "what is spent and committed is over the budget")

    def _gangs(self, cloud: AdverseCloud) -> None:
        gangs = cloud.state.gangs.values()
        trials = {gang.trial for gang in gangs}
        workers = [worker for gang in gangs for worker in gang.workers]
        hold(len(trials) == len(gangs), "a trial is in two gangs")
        hold(len(workers) == len(set(workers)), "a worker is in two gangs")
        hold(all(cloud.state.trials[gang.trial].gang == gang.id for gang in gangs), "a trial knows another gang")

    def _trials(self, cloud: AdverseCloud) -> None:
        for trial in cloud.state.trials.values():
            if self._seen.get(trial.id) is trial:
                continue
            self._seen[trial.id] = trial
            if len(trial.curve) != self._lengths.get(trial.id, 0):
                counted = [report.epoch for report in trial.curve] == list(range(1, len(trial.curve) + 1))
                hold(counted, "an epoch is counted twice, or not at all")
                hold(trial.epoch <= cloud.settings.max_epochs, "a trial is trained too long")
                self._lengths[trial.id] = len(trial.curve)
            hold(trial.resume_epoch <= trial.epoch, "a checkpoint is ahead of its trial")
            hold(trial.state != "running" or trial.gang is not None, "a trial runs without a gang")

    def _best_is_kept(self, cloud: AdverseCloud) -> None:
        best = cloud.state.best
        if cloud.world.damages:
            self._best = None  # that one may have been damaged
        if best is None or best.best is None:
            hold(self._best is None, "the best checkpoint was lost")
            return
        value = best.best.value
        hold(best.best.checkpoint is not None, "the best checkpoint was lost")
        hold(self._best is None or (value is not None and value >= self._best), "the best checkpoint was lost")
        self._best = value


def check(cloud: AdverseCloud) -> None:
    """Look at a study that has ended.

    Raises:
        PromiseError: With a sentence that says which.
    """
    state = cloud.state
    hold(not state.live and not state.gangs, "machines or gangs are left")
    hold(all(box.gone_s is not None for box in cloud.boxes.values()), "a machine outlives its study")
    spent = state.ledger.spent(cloud.now_s)
    hold(cloud.real_bill() <= spent <= state.budget, f"{cloud.real_bill()} billed, {spent} booked of {state.budget}")
    hold(all(trial.state != "running" for trial in state.trials.values()), "a trial runs on")
    _check_limits(cloud)
    _check_records(cloud)
    _check_replay(cloud)


def _check_limits(cloud: AdverseCloud) -> None:
    """A machine may outlive a deadline by what a timer is late; or if there was no runner, or the deadline moved."""
    excused = any(isinstance(event, core.DeadlineMoved) for event in cloud.events) or _restarted(cloud)
    hold(
        excused or cloud.over_deadline_s <= cloud.world.tick_late_s,
        f"a machine is {cloud.over_deadline_s} s over the deadline",
    )
    hold(cloud.over_budget <= 0, f"{cloud.over_budget} micro-dollars over the budget")


def _check_records(cloud: AdverseCloud) -> None:
    stored: dict[str | None, int] = {None: 0}
    ended: set[int] = set()
    for _, record in cloud.records():
        if isinstance(record, DECISIONS):
            hold(bool(record.reason.strip()), f"{record} has no reason")
        if isinstance(record, core.Reported) and record.checkpoint:
            stored.setdefault(record.checkpoint, record.epoch)
        elif isinstance(record, core.EndTrial):
            ended.add(record.trial)
        elif isinstance(record, core.StartGang):
            hold(stored.get(record.checkpoint) == record.from_epoch, f"{record} does not go on from what was stored")
            hold(record.from_epoch < record.until <= cloud.settings.max_epochs, f"{record} trains nothing, or too long")
            hold(record.trial not in ended, f"{record} trains a trial that has ended")


def _check_replay(cloud: AdverseCloud) -> None:
    """The records give the same state again, and the events the same actions."""
    told = Engine(cloud.settings, cloud.policy).state
    for at_s, record in cloud.records():
        told.apply(record, at_s)
    hold(picture(told) == picture(cloud.state), "records do not give the same state again")
    again = Engine(cloud.settings, cloud.policy)
    for at_s, event, actions in cloud.log:
        hold(again.handle(event, at_s) == actions, f"{event} called for other actions")


def _restarted(cloud: AdverseCloud) -> bool:
    return sum(isinstance(event, core.RunnerStarted) for event in cloud.events) > 1
