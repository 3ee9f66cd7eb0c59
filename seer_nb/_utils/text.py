"""The one line of a traceback that says what went wrong."""

from __future__ import annotations

import re

LONGEST = 300
"""Characters of a headline."""
_GROUPED = re.compile(r"^  (?:\||\+(?!-)) ")
"""How Python marks the lines of an exception group."""
_BESIDE = re.compile(r" |Traceback ")


def headline(error: str) -> str:
    """The first line after the last frame: the exception's type with the first line of its text."""
    lines = [_GROUPED.sub("", line) for line in error.strip().splitlines()]
    members = next((place for place, line in enumerate(lines) if line.startswith("  +-+---")), len(lines))
    lines = lines[:members]
    frames = [place for place, line in enumerate(lines) if line.startswith('  File "')]
    after = (line for line in lines[frames[-1] if frames else 0 :] if line.strip() and not _BESIDE.match(line))
    return next(after, lines[-1] if lines else "failed for an unknown reason")[:LONGEST]


def kind(error: str) -> str:
    """The headline without its numbers: alike for errors that tell each its own configuration."""
    return re.sub(r"[-+]?[0-9][0-9.eE+-]*", "#", headline(error))


def sentence(error: BaseException) -> str:
    """What an error says; its name if it says nothing."""
    return str(error) or type(error).__name__


def show(value: object) -> str:
    """An argument's value as an error's sentence shows it: its repr, cut where it is long."""
    longest = 80
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a user's repr raises, also Python's limit on huge integers
        return f"<{type(value).__name__}>"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def printable(text: str) -> str:
    """A text for a terminal: lines as they are, but a question mark for whatever would steer it."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def one_line(text: str) -> str:
    """A text for a sentence: on one line, and nothing in it steers a terminal."""
    return printable(" ".join(text.split()))
