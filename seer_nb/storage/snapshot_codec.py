"""State and history as bytes, and back: what a snapshot of a journal holds.

Curves are kept apart, in pieces that never change: a snapshot names them by their places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

import msgspec
from msgspec.structs import replace

from seer_nb import core
from seer_nb.core.curve import CHUNK, Chunk, Curve
from seer_nb.core.history import History, LogEntry, Mark
from seer_nb.core.money import Account
from seer_nb.core.offer_choice import Refusals
from seer_nb.core.scaling import Seen, SpeedTracker
from seer_nb.core.state import State, StateIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Place: TypeAlias = Callable[[Chunk], int]
    """Where a piece lies; it is written there if it was not yet."""
    Fetch: TypeAlias = Callable[[int], Chunk]


SHORT = 16
"""A curve of no more reports is saved with its trial."""
Number: TypeAlias = int | float
Steps: TypeAlias = list[tuple[Number, Number]]


class SavedCurve(msgspec.Struct, frozen=True, array_like=True):
    """A long curve."""

    ends: tuple[core.Report, core.Report]
    pieces: tuple[int, ...]
    rest: bytes | int
    """The last reports themselves, or (once the trial has ended) their place."""
    size: Annotated[int, msgspec.Meta(ge=1, le=2 * CHUNK)]
    """How many these are."""


class SavedTrial(msgspec.Struct, frozen=True, array_like=True):
    """A trial; without its curve if that is long."""

    trial: core.Trial
    curve: SavedCurve | None = None


class SavedAccount(msgspec.Struct, frozen=True, array_like=True):
    """An account; the offer is known by its name."""

    offer: str
    opened_s: float
    retired_s: float | None
    joined: bool
    bill: int | None


class SavedLedger(msgspec.Struct, frozen=True):
    """A ledger."""

    budget: int
    lease_s: float
    opened: dict[int, SavedAccount]
    closed: dict[int, SavedAccount]


class Plain(msgspec.Struct, frozen=True):
    """Attributes of a state that are saved as they are, by the same names."""

    machines: dict[int, core.Machine]
    gangs: dict[int, core.Gang]
    ended_gangs: dict[int, core.Gang]
    silent: dict[int, str]
    busy: set[str]
    free_s: dict[int, float]
    phase: core.Phase
    reason: str
    failed: bool
    now_s: float
    before_s: float
    deadline_s: float
    deadline_wall: float | None
    exhausted: bool
    n_gangs: int
    n_drawn: int
    draws_pending: int
    boot_failures: int
    left_behind: tuple[int, ...]
    refusals: dict[str, Refusals]
    ending_s: float
    plan_reason: str
    noted_s: float
    wanted: dict[int, int]
    wanted_workers: int


ELSEWHERE = frozenset({"settings", "offers", "ledger", "speed", "trials", "live", "tally"})
"""Attributes of a state that are saved in another way, or follow from others."""


class SavedHistory(msgspec.Struct, frozen=True):
    """A history's attributes, by the same names but for the underscore that some begin with."""

    workers: dict[int, Steps]
    busy: Steps
    size: Steps
    wanted: Steps
    losses: list[float]
    spent: Steps
    budgets: Steps
    deadlines: Steps
    marks: list[Mark]
    log: list[LogEntry]
    trial_of: dict[int, int]
    told: str

    @classmethod
    def of(cls, history: History) -> Self:
        """As it is now."""
        return cls(**{name.lstrip("_"): value for name, value in vars(history).items()})

    def history(self) -> History:
        """As it was."""
        history = History()
        for name in vars(history):
            setattr(history, name, getattr(self, name.lstrip("_")))
        return history


class Saved(msgspec.Struct, frozen=True):
    """A study after some record of its journal."""

    settings: core.Settings
    plain: Plain
    ledger: SavedLedger
    speed: Seen
    trials: list[SavedTrial]
    history: SavedHistory

    @classmethod
    def of(cls, state: State, history: History, place: Place) -> Self:
        """As they are now; they must not change before this is encoded."""
        return cls(
            settings=state.settings,
            plain=Plain(**{name: getattr(state, name) for name in Plain.__struct_fields__}),
            ledger=_saved_ledger(state),
            speed=state.speed.seen,
            trials=[_saved_trial(trial, place) for trial in state.trials.values()],
            history=SavedHistory.of(history),
        )

    def state(self, fetch: Fetch) -> State:
        """As it was; what it is made of is used up."""
        state = State(self.settings)
        for name in Plain.__struct_fields__:
            setattr(state, name, getattr(self.plain, name))
        state.live = {machine.id: machine for machine in state.machines.values() if machine.state != "ended"}
        state.trials = {each.trial.id: _trial(each, fetch) for each in self.trials}
        state.ledger.budget, state.ledger.lease_s = self.ledger.budget, self.ledger.lease_s
        state.ledger.take_over(_accounts(self.ledger.opened, state), _accounts(self.ledger.closed, state))
        state.speed = SpeedTracker.of(self.speed)
        state.tally = StateIndex.of(state)
        return state


_encode = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(Saved)


def encode(state: State, history: History, place: Place) -> bytes:
    """State and history as they are now.

    Raises:
        OverflowError: There is a number that has no place in such bytes.
    """
    return _encode(Saved.of(state, history, place))


def decode(body: bytes, fetch: Fetch) -> tuple[State, History]:
    """As they were.

    Raises:
        msgspec.MsgspecError: These are other bytes.
    """
    saved = _DECODER.decode(body)
    return saved.state(fetch), saved.history.history()


def _saved_trial(trial: core.Trial, place: Place) -> SavedTrial:
    if len(trial.curve) <= SHORT:
        # Not longer than that, it may still be another kind of sequence.
        return SavedTrial(replace(trial, curve=tuple(trial.curve)))
    curve = _long(trial.curve)
    first, last = curve.ends
    assert first is not None
    assert last is not None
    pieces = tuple(map(place, curve.pieces))
    rest = curve.rest.packed if trial.alive else place(curve.rest)
    size = len(curve) - CHUNK * len(pieces)
    return SavedTrial(replace(trial, curve=()), SavedCurve((first, last), pieces, rest, size))


def _trial(saved: SavedTrial, fetch: Fetch) -> core.Trial:
    found = saved.curve
    if found is None:
        return replace(saved.trial, curve=tuple(saved.trial.curve))
    rest = Chunk(found.rest) if isinstance(found.rest, bytes) else fetch(found.rest)
    return replace(saved.trial, curve=Curve.joined(found.ends, tuple(map(fetch, found.pieces)), rest, found.size))


def _long(curve: Sequence[core.Report]) -> Curve:
    return curve if isinstance(curve, Curve) else Curve(curve)


def _saved_ledger(state: State) -> SavedLedger:
    opened, closed = (
        {
            number: SavedAccount(each.offer.name, each.opened_s, each.retired_s, each.joined, each.bill)
            for number, each in accounts.items()
        }
        for accounts in state.ledger.accounts
    )
    return SavedLedger(state.ledger.budget, state.ledger.lease_s, opened, closed)


def _accounts(saved: dict[int, SavedAccount], state: State) -> dict[int, Account]:
    return {number: Account(**{**_fields(each), "offer": state.offers[each.offer]}) for number, each in saved.items()}


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
