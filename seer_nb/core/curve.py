"""A long curve: immutable like a tuple of its reports, but longer by one at no cost, and small.

All but the last reports are packed in pieces of CHUNK, a sixth of the size of the records. A piece may also lie in a
file, and is then read when somebody asks for it. Short curves are tuples: nothing is quicker.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from math import isnan, nan
from operator import index
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeAlias, overload

import msgspec

from seer_nb.core.types import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


CHUNK = 64
"""Reports of a piece. A curve of twice as many is packed."""
UNPACKED = 256
"""Pieces that are kept unpacked beside, of all curves: those that were asked for last."""


class Report(Frozen, frozen=True, kw_only=True):
    """One epoch of one trial."""

    epoch: int
    value: float | None
    metrics: dict[str, float | None]
    seconds: float
    """Duration of the epoch on its gang, without set-up and saving."""
    parallelism: int
    at_s: float
    cost: int
    """Micro-dollars that the trial has cost up to here."""
    checkpoint: str | None
    """Where its state is stored, relative to the store; "" when the function keeps no state; None: not stored."""


Ends: TypeAlias = "tuple[Report | None, Report | None]"


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """Reports with consecutive epochs, a list a field."""

    first: int
    """Epoch of the first one."""
    values: list[float | None]
    metrics: list[dict[str, float | None]]
    seconds: list[float]
    parallelism: list[int]
    at_s: list[float]
    costs: list[int]
    checkpoints: list[str | None]


_encode = msgspec.msgpack.Encoder().encode
_COLUMNS = msgspec.msgpack.Decoder(_Columns)
_unpacked: deque[Chunk] = deque()


class Chunk:
    """Some reports, packed.

    Args:
        packed: The bytes, or what gets them.
        place: Where they lie in a file, if they do.
    """

    __slots__ = ("_packed", "_reports", "_values", "place")

    def __init__(self, packed: bytes | Callable[[], bytes], place: int | None = None) -> None:
        self.place = place
        self._packed = packed
        self._reports: tuple[Report, ...] | None = None
        self._values: array[float] | None = None

    @classmethod
    def of(cls, reports: Sequence[Report]) -> Chunk:
        """Pack these."""
        piece = cls(
            _encode(
                _Columns(
                    reports[0].epoch,
                    [report.value for report in reports],
                    [report.metrics for report in reports],
                    [report.seconds for report in reports],
                    [report.parallelism for report in reports],
                    [report.at_s for report in reports],
                    [report.cost for report in reports],
                    [report.checkpoint for report in reports],
                )
            )
        )
        piece._values = _array(report.value for report in reports)
        return piece

    @property
    def packed(self) -> bytes:
        """The bytes."""
        return self._packed if isinstance(self._packed, bytes) else self._packed()

    def value(self, place: int) -> float | None:
        """Of one report."""
        if self._values is None:
            self._values = _array(report.value for report in self.reports)
        value = self._values[place]
        return None if isnan(value) else value

    def forget(self) -> None:
        """Keep the packed ones only."""
        self._reports = None

    @property
    def reports(self) -> tuple[Report, ...]:
        """All of them."""
        found = self._reports
        if found is None:
            found = self._reports = tuple(_unpack(self.packed))
            _unpacked.append(self)
            if len(_unpacked) > UNPACKED:
                _unpacked.popleft().forget()
        return found


class Curve(Sequence["Report"]):
    """Reports of one trial, with consecutive epochs.

    Args:
        reports: All of them.
    """

    __slots__ = ("_first", "_last", "_packed", "_pieces", "_size", "_tail")

    def __init__(self, reports: Iterable[Report] = ()) -> None:
        self._pieces: tuple[Chunk, ...] = ()
        self._packed: Chunk | None = None
        """The reports behind those pieces; None: not packed yet."""
        self._tail: list[Report] | None = list(reports)
        """The same. Curves that follow from this one share it, and may have added to it. None: not unpacked yet."""
        self._size = len(self._tail)
        """How many of them are this curve's."""
        self._first = self._tail[0] if self._tail else None
        self._last = self._tail[-1] if self._tail else None

    @classmethod
    def joined(cls, ends: Ends, pieces: tuple[Chunk, ...], rest: Chunk, size: int) -> Self:
        """Of what ``ends``, ``pieces`` and ``rest`` gave; so many reports are in the latter."""
        curve = cls()
        curve._first, curve._last = ends
        curve._pieces, curve._packed, curve._tail, curve._size = pieces, rest, None, size
        return curve

    @property
    def ends(self) -> Ends:
        """Its first and its last report."""
        return self._first, self._last

    @property
    def pieces(self) -> tuple[Chunk, ...]:
        """Its reports but for the last ones."""
        return self._pieces

    @property
    def rest(self) -> Chunk:
        """Its last reports."""
        if self._packed is None:
            self._packed = Chunk.of(self._loose())
        return self._packed

    def _loose(self) -> list[Report]:
        if self._tail is None:
            self._tail = list(self.rest.reports)
        return self._tail if len(self._tail) == self._size else self._tail[: self._size]

    def plus(self, report: Report) -> Curve:
        """This one with a further report."""
        curve = Curve()
        tail = self._loose()
        tail.append(report)
        curve._pieces, curve._tail, curve._size = self._pieces, tail, self._size + 1
        if curve._size >= 2 * CHUNK:
            curve._pieces = (*self._pieces, Chunk.of(tail[:CHUNK]))
            curve._tail, curve._size = tail[CHUNK:], curve._size - CHUNK
        curve._first, curve._last = self._first or report, report
        return curve

    def with_report(self, report: Report) -> Curve:
        """This one with another report at an epoch that it has."""
        place, within = divmod(report.epoch - 1, CHUNK)
        curve, pieces = Curve(self._loose()), list(self._pieces)
        if place < len(pieces):
            reports = pieces[place].reports
            pieces[place] = Chunk.of((*reports[:within], report, *reports[within + 1 :]))
        else:
            curve._loose()[report.epoch - 1 - CHUNK * len(pieces)] = report
        curve._pieces = tuple(pieces)
        curve._first = report if report.epoch == 1 else self._first
        curve._last = report if report.epoch == len(self) else self._last
        return curve

    def value(self, place: int) -> float | None:
        """Of the report at a place from 0 on, without unpacking it."""
        packed = CHUNK * len(self._pieces)
        if place == 0 and self._first is not None:
            return self._first.value
        if place < packed:
            return self._pieces[place // CHUNK].value(place % CHUNK)
        return self._tail[place - packed].value if self._tail is not None else self.rest.value(place - packed)

    def __len__(self) -> int:
        return CHUNK * len(self._pieces) + self._size

    @overload
    def __getitem__(self, place: SupportsIndex) -> Report: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Report, ...]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> Report | tuple[Report, ...]:
        if isinstance(place, slice):
            return tuple(self._at(k) for k in range(*place.indices(len(self))))
        at = index(place)
        # The two that are asked for at every decision.
        if at == -1 and self._last is not None:
            return self._last
        if at == 0 and self._first is not None:
            return self._first
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError(f"report {place!r} of {len(self)}")
        return self._at(at)

    def _at(self, place: int) -> Report:
        packed = CHUNK * len(self._pieces)
        if place < packed:
            return self._pieces[place // CHUNK].reports[place % CHUNK]
        return self._tail[place - packed] if self._tail is not None else self.rest.reports[place - packed]

    def __iter__(self) -> Iterator[Report]:
        for piece in self._pieces:
            yield from piece.reports
        yield from tuple(self._loose())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve | tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # as that of any trial, whose configuration is a dict

    def __repr__(self) -> str:
        return f"Curve({list(self)!r})"

    def __copy__(self) -> Curve:
        return self

    def __deepcopy__(self, _: Any) -> Curve:
        return self  # it never changes

    def __reduce__(self) -> tuple[Any, ...]:
        return Curve, (tuple(self),)


def longer(curve: Sequence[Report], report: Report) -> Sequence[Report]:
    """The curve with a further report."""
    if isinstance(curve, Curve):
        return curve.plus(report)
    return (*curve, report) if len(curve) < 2 * CHUNK - 1 else Curve(curve).plus(report)


def mended(curve: Sequence[Report], report: Report) -> Sequence[Report]:
    """The curve with another report at an epoch that it has."""
    if isinstance(curve, Curve):
        return curve.with_report(report)
    return (*curve[: report.epoch - 1], report, *curve[report.epoch :])


def value_at(curve: Sequence[Report], place: int) -> float | None:
    """The value of the report at a place from 0 on, which needs no unpacking."""
    return curve.value(place) if isinstance(curve, Curve) else curve[place].value


def _array(values: Iterable[float | None]) -> array[float]:
    return array("d", (nan if value is None else value for value in values))


def _unpack(packed: bytes) -> Iterator[Report]:

    columns = _COLUMNS.decode(packed)
    rows = zip(
        columns.values,
        columns.metrics,
        columns.seconds,
        columns.parallelism,
        columns.at_s,
        columns.costs,
        columns.checkpoints,
        strict=True,
    )
    for epoch, (value, metrics, seconds, parallelism, at_s, cost, checkpoint) in enumerate(rows, columns.first):
        yield Report(
            epoch=epoch,
            value=value,
            metrics=metrics,
            seconds=seconds,
            parallelism=parallelism,
            at_s=at_s,
            cost=cost,
            checkpoint=checkpoint,
        )
