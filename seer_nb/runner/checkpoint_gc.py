"""Garbage collection of checkpoints: finds those that no trial, and not the study's best, needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb import core

if TYPE_CHECKING:
    from seer_nb.core.state import State


RECENT = 3
"""Newest checkpoints of a trial that an earlier runner may have had no time to remove."""


class CheckpointCollector:
    """Records which checkpoints are stored, and finds those that can be removed.

    Live trials keep the best one, the latest and the one before; other trials only the study's best.
    """

    def __init__(self) -> None:
        self._stored: dict[int, set[str]] = {}
        """Paths of the stored checkpoints by trial."""
        self._touched: set[int] = set()
        """Trials whose checkpoints must be checked again."""
        self._best: int | None = None
        """The study's best trial."""

    def restore(self, state: State) -> None:
        """Start from a snapshot's state, without the records before it."""
        best = state.best
        self._best = None if best is None else best.id
        for trial in state.trials.values():
            if trial.resume is not None:
                # An earlier runner may have died before it removed the last ones.
                last = {report.checkpoint for report in trial.curve[-RECENT:] if report.checkpoint}
                self._stored[trial.id] = last | _kept(state, trial, self._best)
                self._touched.add(trial.id)

    def observe(self, state: State, record: core.Event | core.Action) -> None:
        """Take a record into account that the state has applied already."""
        if isinstance(record, core.Reported) and record.checkpoint:
            gang = state.gangs.get(record.gang) or state.ended_gangs.get(record.gang)
            if gang is not None:
                self._stored.setdefault(gang.trial, set()).add(record.checkpoint)
                self._touched.add(gang.trial)
        elif isinstance(record, core.EndTrial):
            self._touched.add(record.trial)
        elif isinstance(record, core.GangEnded) and record.gang in state.ended_gangs:
            # A trial that ended while its gang trained has kept two checkpoints until now.
            self._touched.add(state.ended_gangs[record.gang].trial)

    def removable(self, state: State) -> list[str]:
        """Return the paths, relative to the store, of checkpoints that can be removed now."""
        best = state.best
        if best is not None and best.id != self._best:
            # The former best trial may have kept its checkpoint only for being the best.
            self._touched |= {best.id} if self._best is None else {best.id, self._best}
            self._best = best.id
        removable: list[str] = []
        for trial in self._touched:
            stored = self._stored.get(trial, set())
            unneeded = stored - _kept(state, state.trials[trial], self._best)
            stored -= unneeded
            removable += sorted(unneeded)
        self._touched.clear()
        return removable


def _kept(state: State, trial: core.Trial, best: int | None) -> set[str]:
    kept = [trial.best] if trial.id == best or trial.alive or trial.state == "completed" else []
    # A gang that still trains may read its checkpoint, whatever was decided about its trial.
    if trial.alive or trial.gang in state.gangs:
        kept += [trial.resume, trial.fallback]
    return {report.checkpoint for report in kept if report is not None and report.checkpoint}
