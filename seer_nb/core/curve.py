"""Reports, and curves of reports: immutable sequences that are cheap to extend and small in memory.

A long curve packs all but its last reports into chunks of CHUNK reports, at a sixth of the size of the records. A chunk
may also be stored in a file and is then read on demand. A short curve is a plain tuple, which is fastest.
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
"""Reports per chunk. Curves of at least twice as many reports are packed."""
UNPACKED = 256
"""Number of chunks, over all curves, whose reports stay unpacked in memory after their last use."""


class Report(Frozen, frozen=True, kw_only=True):
    """The report of one epoch of one trial."""

    epoch: int
    value: float | None
    """Value of the study's metric; None if it was not finite."""
    metrics: dict[str, float | None]
    seconds: float
    """Seconds of the epoch on its gang, without set-up and saving."""
    parallelism: int
    at_s: float
    """Study seconds at which the report arrived."""
    cost: int
    """Micro-dollars that the trial has cost until this report."""
    checkpoint: str | None
    """Path of the checkpoint relative to the store; "" if the function keeps no state; None if it is not stored."""


Ends: TypeAlias = "tuple[Report | None, Report | None]"
"""(first report, last report)."""


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """Reports with consecutive epochs, as one list per field."""

    first: int
    """Epoch of the first report."""
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
    """Packed reports with consecutive epochs.

    Args:
        packed: The bytes, or a function that reads them.
        place: Key of the bytes in a file; None if they are in memory only.
    """

    __slots__ = ("_packed", "_reports", "_values", "place")

    def __init__(self, packed: bytes | Callable[[], bytes], place: int | None = None) -> None:
        self.place = place
        self._packed = packed
        self._reports: tuple[Report, ...] | None = None
        self._values: array[float] | None = None

    @classmethod
    def of(cls, reports: Sequence[Report]) -> Chunk:
        """Pack reports."""
        chunk = cls(
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
        chunk._values = _array(report.value for report in reports)
        return chunk

    @property
    def packed(self) -> bytes:
        """Packed bytes."""
        return self._packed if isinstance(self._packed, bytes) else self._packed()

    def value(self, place: int) -> float | None:
        """Return the value of the report at an index."""
        if self._values is None:
            self._values = _array(report.value for report in self.reports)
        value = self._values[place]
        return None if isnan(value) else value

    def forget(self) -> None:
        """Drop the unpacked reports from memory."""
        self._reports = None

    @property
    def reports(self) -> tuple[Report, ...]:
        """Unpacked reports."""
        found = self._reports
        if found is None:
            found = self._reports = tuple(_unpack(self.packed))
            _unpacked.append(self)
            if len(_unpacked) > UNPACKED:
                _unpacked.popleft().forget()
        return found


class Curve(Sequence["Report"]):
    """Reports of one trial with consecutive epochs; immutable.

    Args:
        reports: The reports.
    """

    __slots__ = ("_first", "_last", "_packed", "_pieces", "_size", "_tail")

    def __init__(self, reports: Iterable[Report] = ()) -> None:
        self._pieces: tuple[Chunk, ...] = ()
        self._packed: Chunk | None = None
        """The reports after `_pieces`, packed; None: not packed yet."""
        self._tail: list[Report] | None = list(reports)
        """The same reports unpacked; None: not unpacked yet. Longer curves share this list and may have extended it."""
        self._size = len(self._tail)
        """Number of reports in the list that belong to this curve."""
        self._first = self._tail[0] if self._tail else None
        self._last = self._tail[-1] if self._tail else None

    @classmethod
    def joined(cls, ends: Ends, pieces: tuple[Chunk, ...], rest: Chunk, size: int) -> Self:
        """Return the curve that consists of the given parts.

        Args:
            ends: First and last report.
            pieces: Full chunks, all but the last reports.
            rest: The last reports.
            size: Number of reports in `rest`.
        """
        curve = cls()
        curve._first, curve._last = ends
        curve._pieces, curve._packed, curve._tail, curve._size = pieces, rest, None, size
        return curve

    @property
    def ends(self) -> Ends:
        """First and last report."""
        return self._first, self._last

    @property
    def pieces(self) -> tuple[Chunk, ...]:
        """Full chunks: all reports but the last ones."""
        return self._pieces

    @property
    def rest(self) -> Chunk:
        """The last reports, which fill no chunk."""
        if self._packed is None:
            self._packed = Chunk.of(self._loose())
        return self._packed

    def _loose(self) -> list[Report]:
        if self._tail is None:
            self._tail = list(self.rest.reports)
        return self._tail if len(self._tail) == self._size else self._tail[: self._size]

    def plus(self, report: Report) -> Curve:
        """Return this curve with one more report."""
        curve = Curve()
        tail = self._loose()
        tail.append(report)
        curve._pieces, curve._tail, curve._size = self._pieces, tail, self._size + 1
        if curve._size >= 2 * CHUNK:
            curve._pieces = (*self._pieces, Chunk.of(tail[:CHUNK]))
            curve._tail, curve._size = tail[CHUNK:], curve._size - CHUNK
        curve._first, curve._last = self._first or report, report
        return curve

    def replaced(self, report: Report) -> Curve:
        """Return this curve with another report for one of its epochs."""
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
        """Return the value of the report at an index, without unpacking the report."""
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
        # Fast paths: every decision reads the first and the last report.
        if at == -1 and self._last is not None:
            return self._last
        if at == 0 and self._first is not None:
            return self._first
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError(f"index {place!r}: out of range for a curve of {len(self)} reports")
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

    __hash__ = None  # type: ignore[assignment] # unhashable like a trial, whose configuration is a dict

    def __repr__(self) -> str:
        return f"Curve({list(self)!r})"

    def __copy__(self) -> Curve:
        return self

    def __deepcopy__(self, _: Any) -> Curve:
        return self  # Immutable.

    def __reduce__(self) -> tuple[Any, ...]:
        return Curve, (tuple(self),)


def longer(curve: Sequence[Report], report: Report) -> Sequence[Report]:
    """Return a curve with one more report."""
    if isinstance(curve, Curve):
        return curve.plus(report)
    return (*curve, report) if len(curve) < 2 * CHUNK - 1 else Curve(curve).plus(report)


def mended(curve: Sequence[Report], report: Report) -> Sequence[Report]:
    """Return a curve with another report for one of its epochs."""
    if isinstance(curve, Curve):
        return curve.replaced(report)
    return (*curve[: report.epoch - 1], report, *curve[report.epoch :])


def value_at(curve: Sequence[Report], place: int) -> float | None:
    """Return the value of the report at an index of a curve, without unpacking the report."""
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
