"""Text for messages: the essence of a traceback, values in one line, and terminal-safe text."""

from __future__ import annotations

import re

LONGEST = 300
"""Most characters of a headline."""
LONGEST_VALUE = 80
"""Most characters of an argument's value in an error message."""
_GROUPED = re.compile(r"^  (?:\||\+(?!-)) ")
"""Prefix of the lines of an exception group."""
_NO_HEADLINE = re.compile(r" |Traceback ")
"""Prefix of the lines of a traceback that do not name the exception."""


def headline(error: str) -> str:
    """Return the first line after the last frame of a traceback: the exception's type and the start of its message."""
    lines = [_GROUPED.sub("", line) for line in error.strip().splitlines()]
    members = next((place for place, line in enumerate(lines) if line.startswith("  +-+---")), len(lines))
    lines = lines[:members]
    frames = [place for place, line in enumerate(lines) if line.startswith('  File "')]
    after = (line for line in lines[frames[-1] if frames else 0 :] if line.strip() and not _NO_HEADLINE.match(line))
    return next(after, lines[-1] if lines else "failed for an unknown reason")[:LONGEST]


def error_kind(error: str) -> str:
    """Return the headline with its numbers replaced, so that errors that differ only in a configuration are equal."""
    return re.sub(r"[-+]?[0-9][0-9.eE+-]*", "#", headline(error))


def message_of(error: BaseException) -> str:
    """Return an exception's message; its type's name if the message is empty."""
    return str(error) or type(error).__name__


def short_repr(value: object) -> str:
    """Return the repr of an argument's value for an error message, shortened to LONGEST_VALUE characters."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's repr may raise anything, and so does Python for huge integers
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def printable(text: str) -> str:
    """Return a text that is safe to print: a question mark replaces each control character but the newline."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def one_line(text: str) -> str:
    """Return a text on one line that is safe to print."""
    return printable(" ".join(text.split()))
