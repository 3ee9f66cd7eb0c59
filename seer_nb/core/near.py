"""What may have been meant by a word that is not known: those that are, and are written alike."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CUTOFF = 0.6
"""How much of a word must be alike."""


def alike(word: str, known: Iterable[str], most: int = 1, cutoff: float = CUTOFF) -> list[str]:
    """Those of the known words that are written nearly so, in large or small letters, the nearest first."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, most, cutoff=cutoff)]


def did_you_mean(word: str, known: Iterable[str], mark: str = "'") -> str:
    """For a sentence that has just named the word; empty if none is written nearly so."""
    return "".join(f" (did you mean {mark}{name}{mark}?)" for name in alike(word, known))
