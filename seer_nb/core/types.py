"""Bounds of the numbers in records, and the base class of records.

Some of these numbers become loop counts, and a record may come from a file that someone else wrote. The bounds are
checked when a record is decoded. Code that builds records from user input must check that they can be decoded again.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

MOST_EPOCHS = 10**9
"""Largest number of epochs of a study."""
MOST_SEED = 2**63 - 1
"""Largest seed: the journal holds 64-bit integers."""
MOST_WORKERS = 100_000
"""Largest number of workers of a study."""
MOST_SLOTS = 1024
"""Largest number of workers of one machine; each worker has a name."""
MOST_MICRO = 10**18
"""Largest amount in micro-dollars: a trillion dollars, the most that a user may pass."""
MOST_SECONDS = 1e12
"""Largest time in seconds; later than any moment that a datetime can represent."""

Number: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
"""Number of a new trial or machine; tables hold it in 64 bits."""
Epochs: TypeAlias = Annotated[int, Meta(ge=1, le=MOST_EPOCHS)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_SEED)]
Workers: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_WORKERS)]
Slots: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_SLOTS)]
Micro: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_MICRO)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0.0, le=MOST_SECONDS)]
WholeSeconds: TypeAlias = Annotated[int, Meta(ge=0, le=10**12)]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of immutable records."""
