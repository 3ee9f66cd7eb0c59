"""The one retry policy for a store that is temporarily full, unreachable or read-only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from seer_nb._utils.text import message_of
from seer_nb.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")
PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
"""First pause between two attempts, which doubles each time, and the longest pause, in seconds."""


def retry_os_errors(act: Callable[[], T], seconds: float) -> T:
    """Call a function, and retry after each OSError.

    Args:
        act: The function.
        seconds: Seconds until the last attempt must have started.

    Returns:
        The result of the function.

    Raises:
        StoreError: The last attempt failed.
    """
    end_s, pause_s = time.monotonic() + seconds, PAUSE_S
    while True:
        try:
            return act()
        except OSError as error:
            if time.monotonic() + pause_s > end_s:
                raise StoreError(f"the store was unusable for {seconds:.0f} s: {message_of(error)}") from error
        time.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
