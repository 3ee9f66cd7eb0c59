"""What a check has found, and what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from seer_nb.core.units import one_line
from seer_nb.runner.stores import unnamed

Level: TypeAlias = Literal["ok", "warning", "problem"]
LONGEST = 400
"""Characters of what a library says that are repeated."""
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|ACCOUNT_KEY|API_KEY", re.IGNORECASE)
LEAST_SECRET = 6
"""Characters; what is shorter could be part of any word."""


class Finding(NamedTuple):
    """One line of the report."""

    check: str
    """What was looked at, in one word."""
    level: Level
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty where nothing is to be done."""

    @property
    def sentence(self) -> str:
        """Both, without anything secret, on one line."""
        return discreet(f"{self.text}: {self.advice}" if self.advice else self.text)


Check: TypeAlias = Callable[[], Iterator[Finding]]
"""Looks at one thing. Whatever it raises becomes a problem of its own."""


def discreet(text: str) -> str:
    """A text on one line, without the credentials that a URL in it, or this process's environment, holds."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= LEAST_SECRET:
            text = text.replace(value, "***")
    return one_line(unnamed(text))


def brief(error: BaseException) -> str:
    """What an error says, cut short."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
