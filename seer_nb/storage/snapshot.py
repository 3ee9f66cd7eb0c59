"""Snapshots: state and history after one record of a journal, so that a reader need not replay the records before it.

A snapshot is one msgpack file beside the journal. It is replaced as a whole and holds nothing that the journal lacks:
a reader that cannot use it replays the journal from the first record.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import zlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

import msgspec
from msgspec.structs import replace

from seer_nb import core
from seer_nb._utils.files import write_atomically
from seer_nb._utils.text import message_of, one_line
from seer_nb.core.curve import joined, split
from seer_nb.core.history import History, LogEntry, Mark
from seer_nb.core.money import Account
from seer_nb.core.offer_choice import Refusals
from seer_nb.core.scaling import Measurements, SpeedTracker
from seer_nb.core.state import State, StateIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from seer_nb.storage.journal import Journal


logger = logging.getLogger(__name__)
FORMAT = 3
"""Version of the reducers; to be raised when the same records lead to another state than before."""
Number: TypeAlias = int | float
Steps: TypeAlias = list[tuple[Number, Number]]


class Snapshot(NamedTuple):
    """A study as its snapshot has it."""

    seq: int
    """Number of the last record that the state includes."""
    state: State
    history: History


def path_of(journal: Journal) -> Path:
    """Return the path of a journal's snapshot."""
    return journal.path.with_suffix(".snapshot")


def save(journal: Journal, snapshot: Snapshot) -> None:
    """Replace the journal's snapshot, as a whole or not at all.

    Args:
        journal: The study's journal.
        snapshot: The study; its state and history must not change during the call.

    Raises:
        OSError: The file cannot be written.
        OverflowError: A number does not fit into msgpack.
    """
    body = _encode(_Body.of(snapshot.state, snapshot.history))
    header = _File(version(), snapshot.seq, journal.fingerprint(snapshot.seq) or "", zlib.crc32(body), body)
    write_atomically(path_of(journal), _encode(header), private=True)


def load(journal: Journal) -> Snapshot | None:
    """Return the journal's snapshot; None if there is no usable one."""
    path = path_of(journal)
    if not path.exists():
        return None
    if not path.is_file():
        logger.warning("%s is not a file; replaying all records instead", path)
        return None
    try:
        with paused_gc():
            return _load(path, journal)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, the journal has all of its content
        logger.warning("cannot use %s; replaying all records instead: %s", path, one_line(message_of(error)))
        return None


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """Pause garbage collection while many objects are made that all stay: it would take longer than making them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def version() -> str:
    """Return a text that differs for every version of seer_nb that cannot read this version's snapshots."""
    schema = msgspec.json.encode(msgspec.json.schema(_Body))
    return f"{FORMAT}-{hashlib.sha256(schema).hexdigest()[:16]}"


def _load(path: Path, journal: Journal) -> Snapshot:
    file = _FILE.decode(path.read_bytes())
    if file.version != version():
        raise ValueError("another version of seer_nb wrote it")
    if journal.fingerprint(file.seq) != file.fingerprint:
        raise ValueError("it belongs to another journal")
    if zlib.crc32(file.body) != file.crc:
        raise ValueError("it is damaged")
    body = _BODY.decode(file.body)
    return Snapshot(file.seq, body.state(), body.history.history())


# --- what the file holds ---


class _File(msgspec.Struct, frozen=True, array_like=True):
    """The whole file."""

    version: str
    seq: int
    fingerprint: str
    """`Journal.fingerprint` of that record."""
    crc: int
    """CRC-32 of the body."""
    body: bytes


class _Trial(msgspec.Struct, frozen=True, array_like=True):
    """A trial. Its curve is in two parts if it is long."""

    trial: core.Trial
    """The trial with the last reports of its curve."""
    chunks: tuple[bytes, ...]
    """The reports before these, packed."""

    @classmethod
    def of(cls, trial: core.Trial) -> Self:
        chunks, tail = split(trial.curve)
        return cls(replace(trial, curve=tail), chunks)

    def whole(self) -> core.Trial:
        return replace(self.trial, curve=joined(self.chunks, self.trial.curve))


class _Ledger(msgspec.Struct, frozen=True):
    """Accounts of the ledger by machine; limits follow from the plain attributes."""

    budget_micro: int
    lease_s: float
    opened: dict[int, Account]
    closed: dict[int, Account]


class PlainState(msgspec.Struct, frozen=True):
    """Attributes of a state that are stored as they are, under the same names."""

    machines: dict[int, core.Machine]
    gangs: dict[int, core.Gang]
    ended_gangs: dict[int, core.Gang]
    silent: dict[int, str]
    busy: set[str]
    idle_since_s: dict[int, float]
    phase: core.Phase
    reason: str
    failed: bool
    now_s: float
    previous_s: float
    deadline_s: float
    deadline_wall: float | None
    exhausted: bool
    n_gangs: int
    n_drawn: int
    pending_draws: int
    boot_failures: int
    left_behind: tuple[int, ...]
    refusals: dict[str, Refusals]
    ending_s: float
    plan_reason: str
    noted_s: float
    wanted: dict[int, int]
    wanted_workers: int


CONVERTED = frozenset({"settings", "offers", "ledger", "speed", "trials", "live_machines", "index"})
"""Attributes of a state that are stored in another form, or derived from others."""


class PlainHistory(msgspec.Struct, frozen=True):
    """Attributes of a history, under the same names without a leading underscore."""

    workers: dict[int, Steps]
    training_workers: Steps
    ready_workers: Steps
    wanted_workers: Steps
    losses: list[float]
    spent: Steps
    budgets: Steps
    deadlines: Steps
    marks: list[Mark]
    log: list[LogEntry]
    trial_of: dict[int, int]
    last_reason: str

    @classmethod
    def of(cls, history: History) -> Self:
        """Return the attributes of a history; lists are shared with it."""
        return cls(**{name.lstrip("_"): value for name, value in vars(history).items()})

    def history(self) -> History:
        """Return a history with these attributes."""
        history = History()
        for name in vars(history):
            setattr(history, name, getattr(self, name.lstrip("_")))
        return history


class _Body(msgspec.Struct, frozen=True):
    """State and history."""

    settings: core.Settings
    plain: PlainState
    ledger: _Ledger
    speed: Measurements
    trials: list[_Trial]
    history: PlainHistory

    @classmethod
    def of(cls, state: State, history: History) -> Self:
        ledger = state.ledger
        return cls(
            settings=state.settings,
            plain=PlainState(**{name: getattr(state, name) for name in PlainState.__struct_fields__}),
            ledger=_Ledger(ledger.budget_micro, ledger.lease_s, *ledger.accounts),
            speed=state.speed.measurements,
            trials=[_Trial.of(trial) for trial in state.trials.values()],
            history=PlainHistory.of(history),
        )

    def state(self) -> State:
        state = State(self.settings)
        for name in PlainState.__struct_fields__:
            setattr(state, name, getattr(self.plain, name))
        state.live_machines = {machine.id: machine for machine in state.machines.values() if machine.state != "ended"}
        state.trials = {each.trial.id: each.whole() for each in self.trials}
        state.ledger.budget_micro, state.ledger.lease_s = self.ledger.budget_micro, self.ledger.lease_s
        state.ledger.restore_accounts(_with_offers(self.ledger.opened, state), _with_offers(self.ledger.closed, state))
        state.speed = SpeedTracker.from_measurements(self.speed)
        state.index = StateIndex.of(state)
        return state


def _with_offers(accounts: dict[int, Account], state: State) -> dict[int, Account]:
    """Return accounts that share the state's offers: the ledger compares offers often, and identity is quick."""
    return {machine: replace(account, offer=state.offers[account.offer.name]) for machine, account in accounts.items()}


_encode = msgspec.msgpack.Encoder().encode
_FILE = msgspec.msgpack.Decoder(_File)
_BODY = msgspec.msgpack.Decoder(_Body)
