"""What a study cannot be told any more: one definition for the notebook, the live view and the command."""

from __future__ import annotations

from seer_nb.errors import SeerError, StudyEndedError

OVER = frozenset({"ended", "failed"})
"""Statuses in which nothing goes on, unless the study is resumed."""
UNCHANGED = "adjust changes nothing: give a budget, a deadline or both"


def refuse_late(name: str, status: str, word: str) -> None:
    """See that a study can be told something: what nobody reads now would be carried out when it is resumed.

    Args:
        name: Of the study.
        status: ``Study.status``.
        word: What it is told to do: "pause", "stop", "pin".

    Raises:
        StudyEndedError: It has ended.
        SeerError: Its runner has died, and it is told to pause.
    """
    if status in OVER:
        raise StudyEndedError(f"study {name!r} has ended: there is nothing to {word}")
    if status == "interrupted" and word == "pause":
        raise SeerError(f"study {name!r} has no runner any more, so nothing runs: resume goes on with it")
