"""The most that numbers of records may be: some become loops, and a record may come from a file of somebody else.

They hold where records are read. Who makes them from what a user gives checks that they can be read again.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

MOST_EPOCHS = 10**9
MOST_SEED = 2**63 - 1
"""The journal holds numbers of 64 bits."""
MOST_WORKERS = 100_000
"""Of a study."""
MOST_SLOTS = 1024
"""Workers of one machine: each has a name."""
MOST_MICRO = 10**18
"""Micro-dollars: a trillion dollars, as whoever gives an amount may give it."""
MOST_SECONDS = 1e12
"""More than until the last moment that a datetime can tell."""

Epochs: TypeAlias = Annotated[int, Meta(ge=1, le=MOST_EPOCHS)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_SEED)]
Workers: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_WORKERS)]
Slots: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_SLOTS)]
Micro: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_MICRO)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0.0, le=MOST_SECONDS)]
WholeSeconds: TypeAlias = Annotated[int, Meta(ge=0, le=10**12)]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records."""
