"""Which checkpoints may go: of live trials the best, the latest and the one before stay, of others the study's best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb import core

if TYPE_CHECKING:
    from seer_nb.core.state import State


LAST = 3
"""Checkpoints of a trial that a runner may have left behind."""


class Janitor:
    """Knows what was stored; says what may go."""

    def __init__(self) -> None:
        self._stored: dict[int, set[str]] = {}
        self._touched: set[int] = set()
        self._best: int | None = None

    def resume(self, state: State) -> None:
        """Take over a study from a snapshot, without the records before it."""
        best = state.best
        self._best = None if best is None else best.id
        for trial in state.trials.values():
            if trial.resume is not None:
                # Whoever was before may have died before it had removed the last ones.
                last = {report.checkpoint for report in trial.curve[-LAST:] if report.checkpoint}
                self._stored[trial.id] = last | _kept(state, trial, self._best)
                self._touched.add(trial.id)

    def note(self, state: State, record: core.Event | core.Action) -> None:
        """Take note of a record that the state has taken in already."""
        if isinstance(record, core.Reported) and record.checkpoint:
            gang = state.gangs.get(record.gang) or state.ended_gangs.get(record.gang)
            if gang is not None:
                self._stored.setdefault(gang.trial, set()).add(record.checkpoint)
                self._touched.add(gang.trial)
        elif isinstance(record, core.EndTrial):
            self._touched.add(record.trial)
        elif isinstance(record, core.GangEnded) and record.gang in state.ended_gangs:
            # Of a trial that was ended while it trained, two were kept until now.
            self._touched.add(state.ended_gangs[record.gang].trial)

    def useless(self, state: State) -> list[str]:
        """Paths, relative to the store, that can be removed now."""
        best = state.best
        if best is not None and best.id != self._best:
            # The best one until now may be kept for that alone.
            self._touched |= {best.id} if self._best is None else {best.id, self._best}
            self._best = best.id
        gone: list[str] = []
        for trial in self._touched:
            stored = self._stored.get(trial, set())
            useless = stored - _kept(state, state.trials[trial], self._best)
            stored -= useless
            gone += sorted(useless)
        self._touched.clear()
        return gone


def _kept(state: State, trial: core.Trial, best: int | None) -> set[str]:
    kept = [trial.best] if trial.id == best or trial.alive or trial.state == "completed" else []
    # A gang that still trains has its checkpoint open, whatever was decided on its trial.
    if trial.alive or trial.gang in state.gangs:
        kept += [trial.resume, trial.spare]
    return {report.checkpoint for report in kept if report is not None and report.checkpoint}
