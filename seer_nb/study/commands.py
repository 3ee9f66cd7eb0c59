"""Which commands a study accepts."""

from __future__ import annotations

from seer_nb.errors import SeerError, StudyEndedError

OVER = frozenset({"ended", "failed"})
"""Statuses of a study that is over, unless it is resumed."""
UNCHANGED = "adjust changes nothing: give a budget, a deadline or both"


def check_accepts_commands(name: str, status: str, word: str) -> None:
    """Refuse a command that no runner would read now: it would only take effect when the study is resumed.

    Args:
        name: The study's name.
        status: ``Study.status``.
        word: The command: "pause", "stop" or "pin".

    Raises:
        StudyEndedError: The study has ended.
        SeerError: The runner has died, and the command is "pause".
    """
    if status in OVER:
        raise StudyEndedError(f"study {name!r} has ended: there is nothing to {word}")
    if status == "interrupted" and word == "pause":
        raise SeerError(f"study {name!r} has no running process: its runner died; resume() continues it")
