"""The curve of a trial: an immutable sequence of reports, one per epoch.

A short curve is a tuple. A long one is a `Curve`, which packs all but its last reports: a million reports in curves of
1000 take 190 MB instead of 550 MB.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from math import isnan, nan
from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar, overload

import msgspec

from seer_nb.core.types import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator


CHUNK = 64
"""Reports in one chunk. A curve of twice as many reports begins to pack them."""
UNPACKED_CHUNKS = 256
"""Chunks that stay unpacked in memory, over all curves: the most recently read ones."""


class Report(Frozen, frozen=True, kw_only=True, array_like=True, gc=False):  # holds no cycles: metrics are numbers
    """One epoch of one trial."""

    epoch: int
    value: float | None
    metrics: dict[str, float | None]
    seconds: float
    """Duration of the epoch on its gang, without set-up and saving."""
    parallelism: int
    at_s: float
    """Study seconds at which the report arrived."""
    cost_micro: int
    """Micro-dollars that the trial had cost by then."""
    checkpoint: str | None
    """Path of the stored state, relative to the store; "" when the function keeps no state; None when not stored."""


_T = TypeVar("_T")
_encode = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(tuple[Report, ...])


class Chunk:
    """A packed run of `CHUNK` reports.

    Args:
        packed: The reports in msgpack.
    """

    __slots__ = ("_values", "packed")

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self._values: array[float] | None = None

    @classmethod
    def pack(cls, reports: Sequence[Report]) -> Chunk:
        """Return the chunk that holds these reports."""
        return cls(_encode(reports))

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports, unpacked."""
        return _unpack(self.packed)

    def value(self, place: int) -> float | None:
        """Return the value of one report. All values stay unpacked after the first call."""
        if self._values is None:
            self._values = array("d", (nan if x.value is None else x.value for x in self.reports))
        value = self._values[place]
        return None if isnan(value) else value


@lru_cache(maxsize=UNPACKED_CHUNKS)
def _unpack(packed: bytes) -> tuple[Report, ...]:
    return _DECODER.decode(packed)


class Curve(Sequence["Report"]):
    """A long, immutable curve.

    Args:
        chunks: The first reports, packed.
        tail: The last reports; not empty if there are chunks.
    """

    __slots__ = ("_first", "chunks", "tail")

    def __init__(self, chunks: tuple[Chunk, ...] = (), tail: tuple[Report, ...] = ()) -> None:
        self.chunks = chunks
        self.tail = tail
        self._first = tail[0] if tail and not chunks else None
        """The first report; None until it is unpacked."""

    def appended(self, report: Report) -> Curve:
        """Return this curve with one more report at its end."""
        tail = (*self.tail, report)
        if len(tail) < 2 * CHUNK:
            return self._next(self.chunks, tail)
        return self._next((*self.chunks, Chunk.pack(tail[:CHUNK])), tail[CHUNK:])

    def with_report(self, report: Report) -> Curve:
        """Return this curve with another report at an epoch that it has."""
        number, within = divmod(report.epoch - 1, CHUNK)
        if number < len(self.chunks):
            chunk = Chunk.pack(_with_item(self.chunks[number].reports, within, report))
            return Curve(_with_item(self.chunks, number, chunk), self.tail)
        within = report.epoch - 1 - CHUNK * len(self.chunks)
        return Curve(self.chunks, _with_item(self.tail, within, report))

    def _next(self, chunks: tuple[Chunk, ...], tail: tuple[Report, ...]) -> Curve:
        curve = Curve(chunks, tail)
        curve._first = curve._first or self._first
        return curve

    def value(self, place: int) -> float | None:
        """Return the value at a place from 0 on, without unpacking whole reports."""
        packed = CHUNK * len(self.chunks)
        if place < packed:
            return self.chunks[place // CHUNK].value(place % CHUNK)
        return self.tail[place - packed].value

    def __len__(self) -> int:
        return CHUNK * len(self.chunks) + len(self.tail)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Report: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Report, ...]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> Report | tuple[Report, ...]:
        if isinstance(place, slice):
            return tuple(self._at(k) for k in range(*place.indices(len(self))))
        at = index(place)
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError(f"report {place!r} of {len(self)}")
        return self._at(at)

    def _at(self, place: int) -> Report:
        packed = CHUNK * len(self.chunks)
        if place >= packed:
            return self.tail[place - packed]
        if place > 0:
            return self.chunks[place // CHUNK].reports[place % CHUNK]
        # Policies read the first report of every trial at every decision.
        if self._first is None:
            self._first = self.chunks[0].reports[0]
        return self._first

    def __iter__(self) -> Iterator[Report]:
        for chunk in self.chunks:
            yield from chunk.reports
        yield from self.tail

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve | tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # a trial has no hash either: its configuration is a dict

    def __repr__(self) -> str:
        return f"Curve({list(self)!r})"

    def __copy__(self) -> Curve:
        return self

    def __deepcopy__(self, _: Any) -> Curve:
        return self  # immutable

    def __reduce__(self) -> tuple[Any, ...]:
        return joined, (tuple(chunk.packed for chunk in self.chunks), self.tail)


def append_report(curve: Sequence[Report], report: Report) -> Sequence[Report]:
    """Return the curve with one more report at its end."""
    if isinstance(curve, Curve):
        return curve.appended(report)
    return (*curve, report) if len(curve) < 2 * CHUNK - 1 else Curve((), tuple(curve)).appended(report)


def replace_report(curve: Sequence[Report], report: Report) -> Sequence[Report]:
    """Return the curve with another report at an epoch that it has."""
    if isinstance(curve, Curve):
        return curve.with_report(report)
    return _with_item(tuple(curve), report.epoch - 1, report)


def value_at(curve: Sequence[Report], place: int) -> float | None:
    """Return the value at a place from 0 on, without unpacking whole reports."""
    return curve.value(place) if isinstance(curve, Curve) else curve[place].value


def split(curve: Sequence[Report]) -> tuple[tuple[bytes, ...], tuple[Report, ...]]:
    """Return the packed chunks of a curve, and the reports that follow them."""
    if isinstance(curve, Curve):
        return tuple(chunk.packed for chunk in curve.chunks), curve.tail
    return (), tuple(curve)


def joined(chunks: Sequence[bytes], tail: Sequence[Report]) -> Sequence[Report]:
    """Return the curve that `split` took apart."""
    return Curve(tuple(map(Chunk, chunks)), tuple(tail)) if chunks else tuple(tail)


def _with_item(items: tuple[_T, ...], place: int, item: _T) -> tuple[_T, ...]:
    return (*items[:place], item, *items[place + 1 :])
