"""What is said on the study's Dask topic: each message once and in order, also what was said while nobody listened.

Dask sends an event to the clients that are connected at that moment, and keeps the last ones on the scheduler. A client
that was away for a while, as on a computer that slept, is never told what it has missed.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from typing import TYPE_CHECKING, Protocol, TypeAlias

from seer_nb.runner import shipping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from distributed import Client

logger = logging.getLogger(__name__)
KEPT = 20_000
"""Messages that are known not to be new, at most."""
Message: TypeAlias = tuple[float, str]
"""(when it was said by the scheduler's clock, what)."""


class Take(Protocol):
    """Takes a message."""

    def __call__(self, text: str, *, anyway: bool) -> bool:
        """False: one before it is missing. Not if ``anyway``."""
        ...


class Hearing:
    """Hands messages on.

    Args:
        take: Takes a message, or returns False because one before it is missing: then that is asked for, and both are
            given again, with ``anyway=True``, for what the scheduler does not have any more will never come.
        missing: Called when one is missing; it shall have ``catch_up`` called soon.
    """

    def __init__(self, take: Take, missing: Callable[[], None]) -> None:
        self._take = take
        self._missing = missing
        self._known: set[Message] = set()
        self._order: deque[Message] = deque()
        self._count = 0
        """Messages that there had been when the scheduler was asked last."""
        self._waiting = False
        """Whether one is missing."""
        self._passed_over = 0

    def hear(self, message: Message) -> None:
        """A message has come."""
        message = (message[0], message[1])
        if self._waiting:  # it will be found in the scheduler's log, behind those that are missing
            self._passed_over += 1
        elif message not in self._known:
            if self._take(message[1], anyway=False):
                self._keep(message)
            else:
                self._waiting = True
                self._passed_over += 1
                self._missing()

    async def catch_up(self, client: Client) -> None:
        """Ask the scheduler for what was said since it was asked last, and hand on what did not come.

        Raises:
            OSError, TimeoutError: It does not answer. What is missing stays so until the next time.
        """
        while True:
            passed_over = self._passed_over
            count, messages = await client.run_on_scheduler(shipping.said, self._count)
            self._hand_on(messages)
            if count - self._count > len(messages):
                logger.warning("%d messages are lost", count - self._count - len(messages))
            self._count = count
            # What has come meanwhile may have been said after the scheduler answered.
            if not self._waiting or passed_over == self._passed_over:
                self._waiting = False
                return

    async def begin(self, client: Client) -> None:
        """Another scheduler: what was said there before is not for us."""
        self._known.clear()
        self._order.clear()
        self._waiting = False
        self._count, _ = await client.run_on_scheduler(shipping.said, sys.maxsize)

    def _hand_on(self, messages: Iterable[Message]) -> None:
        for stamp, text in messages:
            message = (stamp, text)
            if message not in self._known:
                self._take(text, anyway=True)
                self._keep(message)

    def _keep(self, message: Message) -> None:
        self._known.add(message)
        self._order.append(message)
        if len(self._order) > KEPT:
            self._known.discard(self._order.popleft())
