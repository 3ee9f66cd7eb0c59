"""What the engine wants done: each with its reason; journalled, and carried out by the driver."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from seer_nb.core.model import TrialState


class ActionBase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the engine's decisions; each says why."""

    reason: str = ""


class Rent(ActionBase, frozen=True, kw_only=True):
    """Rent a machine."""

    machine: int
    offer: str


class Retire(ActionBase, frozen=True, kw_only=True):
    """Hand a machine back."""

    machine: int
    force: bool = False


class Draw(ActionBase, frozen=True, kw_only=True):
    """Ask the sampler for configurations."""

    count: int
    proposed: int = 0
    """So many of them, the last ones, may be chosen by what earlier trials have shown; the others at random."""


class StartGang(ActionBase, frozen=True, kw_only=True):
    """Train a trial on these workers from its latest checkpoint until an epoch."""

    gang: int
    trial: int
    workers: tuple[str, ...]
    from_epoch: int
    checkpoint: str | None
    until: int


class StopGang(ActionBase, frozen=True, kw_only=True):
    """Have a gang save and end after its epoch in progress."""

    gang: int


class ExtendGang(ActionBase, frozen=True, kw_only=True):
    """Let a gang train on to another epoch than it was started for."""

    gang: int
    until: int


class AbandonGang(ActionBase, frozen=True, kw_only=True):
    """Give a hung gang up: note where its function stands, then end its machines."""

    gang: int


class EndTrial(ActionBase, frozen=True, kw_only=True):
    """A verdict on a trial."""

    trial: int
    state: TrialState
    error: str = ""


class BeginEnd(ActionBase, frozen=True, kw_only=True):
    """Save all trials and hand all machines back; the study ends when they are gone."""

    failed: bool = False


class Finish(ActionBase, frozen=True, kw_only=True):
    """The study has ended; all machines are gone."""


class Note(ActionBase, frozen=True, kw_only=True):
    """The plan, for a person to know: it changes nothing by itself."""

    workers: int = 0
    """Wanted size of the cluster, in workers."""
    wanted: dict[int, int] = {}
    """Workers that the plan wants for each trial which has begun; with ``changes``, only where that has changed, and 0
    where it wants none any more."""
    changes: bool = False


Action: TypeAlias = (
    Rent | Retire | Draw | StartGang | StopGang | ExtendGang | AbandonGang | EndTrial | BeginEnd | Finish | Note
)
