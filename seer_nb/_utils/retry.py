"""Trying again while a store does not answer: it may be full, out of reach or read-only for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from seer_nb._utils.text import sentence
from seer_nb.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")
PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0


def patiently(act: Callable[[], T], seconds: float) -> T:
    """Do it, again after every OSError until so many seconds are over.

    Raises:
        StoreError: It has not worked by then.
    """
    end_s, pause_s = time.monotonic() + seconds, PAUSE_S
    while True:
        try:
            return act()
        except OSError as error:
            if time.monotonic() + pause_s > end_s:
                raise StoreError(f"the store could not be used for {seconds:.0f} s: {sentence(error)}") from error
        time.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
