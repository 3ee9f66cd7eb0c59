"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings


def warn(message: str) -> None:
    """Warn of what the user's line asks for, wherever within seer_nb that is noticed."""
    level, frame = 1, sys._getframe().f_back  # noqa: SLF001 - as warnings itself does
    while frame is not None:
        level += 1
        if str(frame.f_globals.get("__name__")).partition(".")[0] != "seer_nb":
            break
        frame = frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
