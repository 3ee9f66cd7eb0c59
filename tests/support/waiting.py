"""Poll for a condition that other processes bring about."""

import asyncio
import time

PATIENCE_S = 60.0
"""Seconds after which a condition counts as missed; a loaded machine needs a part of them."""
POLL_S = 0.02


def until(condition, what="the condition", within_s=PATIENCE_S):
    """Return the first true value of ``condition()``; fail after a timeout."""
    end_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"{what} did not come within {within_s:g} s"
        time.sleep(POLL_S)
    return found


async def until_async(condition, what="the condition", within_s=10.0):
    """Return the first true value of ``condition()``, which may be a coroutine function; the event loop runs on."""
    end_s = time.monotonic() + within_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < end_s, f"{what() if callable(what) else what} did not come within {within_s:g} s"
        await asyncio.sleep(POLL_S)
