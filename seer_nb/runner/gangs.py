"""From what the members of a gang say, and from workers that vanish, to one event: how the gang ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seer_nb.core.model import GangEnded, StartGang

if TYPE_CHECKING:
    from seer_nb.runner.orders import MemberEnded

ECHO_S = 2.0
"""A member that failed in a collective is the echo of another's fault, which is told within so many seconds."""


class GangTracker:
    """One gang's members until all have ended."""

    def __init__(self, start: StartGang) -> None:
        self.start = start
        self._epoch = start.from_epoch
        self._ended: dict[int, MemberEnded] = {}
        self._lost: dict[int, tuple[bool, str]] = {}
        """Rank to (whether the function ended the process itself, why)."""
        self.stack: str | None = None
        """Where the function stood when the gang was given up; None while it was not."""

    def follows(self, epoch: int) -> bool:
        """Whether all reports before that of an epoch were heard."""
        return epoch <= self._epoch + 1

    def reported(self, epoch: int) -> None:
        """A report was heard."""
        self._epoch = max(self._epoch, epoch)

    def member_ended(self, ended: MemberEnded) -> None:
        """A member has left the function."""
        self._ended.setdefault(ended.rank, ended)

    def worker_lost(self, worker: str, *, own_fault: bool, reason: str) -> None:
        """A worker is gone."""
        for rank, name in enumerate(self.start.workers):
            if name == worker and rank not in self._ended:
                self._lost[rank] = (own_fault, reason)

    @property
    def lost_ranks(self) -> tuple[int, ...]:
        """Members whose workers are gone."""
        return tuple(self._lost)

    @property
    def left(self) -> tuple[str, ...]:
        """Workers of members that may still train."""
        gone = self._ended.keys() | self._lost.keys()
        return tuple(name for rank, name in enumerate(self.start.workers) if rank not in gone)

    @property
    def complete(self) -> bool:
        """Whether every member has ended or is gone."""
        return len(self._ended.keys() | self._lost.keys()) == len(self.start.workers)

    @property
    def echo(self) -> bool:
        """Whether only errors of collectives are known, so that their cause may still be told."""
        failed = [e for e in self._ended.values() if e.outcome == "failed"]
        return bool(failed) and not self._lost and all(e.collective for e in failed)

    def outcome(self) -> GangEnded:
        """How the gang ended, by its root cause."""
        gang = self.start.gang
        # Those that wait for a worker that is gone hang by no fault of the function's.
        if self.stack is not None and not self._lost:
            error = f"{self.stack.rstrip()}\nhung: it did not report in time; the lines above show where it stood"
            return GangEnded(gang=gang, outcome="failed", error=error)
        failed = [e for e in self._ended.values() if e.outcome == "failed"]
        own = [e for e in failed if not e.collective]
        if own:
            return GangEnded(gang=gang, outcome="failed", error=own[0].error)
        for ended in self._ended.values():
            if ended.outcome in {"damaged", "lost"}:
                return GangEnded(gang=gang, outcome=ended.outcome, error=ended.error, own_fault=False)
        if self._lost:
            own_fault, reason = max(self._lost.values())
            error = f"the training function ended its worker's process: {reason}" if own_fault else reason
            return GangEnded(gang=gang, outcome="lost", error=error, own_fault=own_fault)
        if failed:
            # All in collectives, and nobody to blame: the network between the members.
            return GangEnded(gang=gang, outcome="lost", error=failed[0].error, own_fault=False)
        return GangEnded(gang=gang, outcome=self._ended[0].outcome)
