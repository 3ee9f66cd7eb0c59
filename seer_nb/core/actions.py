"""Actions: decisions of the engine. They are written to the journal, and a driver carries them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from seer_nb.core.events import Drawn, SpaceExhausted
from seer_nb.core.model import TrialState
from seer_nb.core.types import Number

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.core.model import Config


class ActionBase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base class of actions."""

    reason: str = ""
    """Why the engine decided so, as text for the user."""


class Rent(ActionBase, frozen=True, kw_only=True):
    """Rent a machine."""

    machine: Number
    offer: str


class Retire(ActionBase, frozen=True, kw_only=True):
    """Terminate a machine."""

    machine: int
    force: bool = False
    """Whether to terminate it although it boots or trains."""


class Draw(ActionBase, frozen=True, kw_only=True):
    """Draw configurations from the sampler."""

    count: int
    n_proposed: int = 0
    """How many of them, the last ones, may depend on the results of earlier trials; the others are random."""

    def events(self, first: int, draw: Callable[[int, bool], Config | None]) -> list[Drawn | SpaceExhausted]:
        """Return the events of this action.

        Args:
            first: Number of the first new trial.
            draw: Returns the configuration of a trial, given its number and whether it may be proposed; None if the
                space is exhausted.
        """
        events: list[Drawn | SpaceExhausted] = []
        for number in range(first, first + self.count):
            config = draw(number, number >= first + self.count - self.n_proposed)
            if config is None:
                return [*events, SpaceExhausted()]
            events.append(Drawn(trial=number, config=config))
        return events


class StartGang(ActionBase, frozen=True, kw_only=True):
    """Train a trial on these workers, from its latest checkpoint until an epoch."""

    gang: int
    trial: int
    workers: tuple[str, ...]
    from_epoch: int
    checkpoint: str | None
    until: int
    """Last epoch to train."""


class StopGang(ActionBase, frozen=True, kw_only=True):
    """Save a gang's state and stop the gang after its current epoch."""

    gang: int


class ExtendGang(ActionBase, frozen=True, kw_only=True):
    """Change the last epoch that a gang trains."""

    gang: int
    until: int


class AbandonGang(ActionBase, frozen=True, kw_only=True):
    """Abandon a hung gang: record where its function hangs, then retire its machines."""

    gang: int


class EndTrial(ActionBase, frozen=True, kw_only=True):
    """End a trial with a final state."""

    trial: int
    state: TrialState
    error: str = ""


class BeginEnd(ActionBase, frozen=True, kw_only=True):
    """Save all trials and retire all machines; the study ends when the machines are gone."""

    failed: bool = False


class Finish(ActionBase, frozen=True, kw_only=True):
    """Mark the study as ended or paused: all machines are gone."""


class Note(ActionBase, frozen=True, kw_only=True):
    """Record the plan for the user. A note has no effect on the study."""

    workers: int = 0
    """Wanted size of the cluster, in workers."""
    wanted: dict[int, int] = {}
    """Wanted workers by started trial; with `changes`, only where the number changed, 0 if none is wanted."""
    changes: bool = False
    """Whether `wanted` holds only the changes since the last note."""


Action: TypeAlias = (
    Rent | Retire | Draw | StartGang | StopGang | ExtendGang | AbandonGang | EndTrial | BeginEnd | Finish | Note
)
