"""The runner's client of a study's scheduler, which may not answer for a while, or be given up and opened anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from seer_nb.worker import messages, remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from distributed import Client

    from seer_nb.providers.base import SchedulerAddress


ANSWER_S = 2.0
"""Who does not answer for so long is taken for dead."""
CONNECT_S = 60.0
"""A scheduler that listens must let a client in within so many seconds."""
LEAVE_S = 2.0
"""The machines' end does not wait longer than that for Dask's client."""


class Connection:
    """One scheduler at a time.

    Args:
        hear: Takes what is said on the study's topic.
    """

    def __init__(self, hear: Callable[[Message], None]) -> None:
        self._hear = hear
        self._scheduler: SchedulerAddress | None = None
        self.client: Client | None = None
        """None while there is no scheduler."""

    async def open(self, scheduler: SchedulerAddress) -> Client:
        """Join a scheduler.

        Raises:
            OSError: It does not let a client in.
        """
        self._scheduler = scheduler
        self.client = await self._opened(scheduler)
        return self.client

    async def close(self) -> None:
        """Leave the scheduler, before or after its end."""
        client, self.client, self._scheduler = self.client, None, None
        if client is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await client.close()

    @property
    def open_client(self) -> Client | None:
        """The client if tasks can be given to it now."""
        return None if self.client is None or self.client.status == "closed" else self.client

    async def on_workers(self, function: Callable[..., Any], addresses: list[str] | None, *args: Any) -> Any:
        """Call a function on workers (None: on all) beside what they train; None for one that does not answer."""
        if self.client is None:
            return None
        answers: dict[str, Any] = {}
        with unanswered():
            async with asyncio.timeout(ANSWER_S):
                answers = await self.client.run(function, *args, workers=addresses, on_error="ignore")
        return next(iter(answers.values()), None)

    async def on_each_worker(self, function: Callable[[], Any]) -> list[Any]:
        """What each worker answers; without those that do not."""
        addresses = await self.on_scheduler(remote.addresses) or []
        answers = await asyncio.gather(*(self.on_workers(function, [address]) for address in addresses))
        return [answer for answer in answers if answer is not None]

    async def on_scheduler(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the scheduler; None if it does not answer."""
        if self.client is None:
            return None
        answer = None
        with unanswered():
            async with asyncio.timeout(ANSWER_S):
                answer = await self.client.run_on_scheduler(function, *args)
        return answer

    async def come_back(self) -> None:
        """Join the scheduler anew if the client has given up, as it does when it was away for long."""
        client, scheduler = self.client, self._scheduler
        if client is None or scheduler is None or client.status != "closed":
            return
        again = await self._opened(scheduler)
        if self.client is client:
            self.client = again
        else:  # left meanwhile
            await again.close()

    async def _opened(self, scheduler: SchedulerAddress) -> Client:
        from distributed import Client

        client: Client = await Client(
            scheduler.address,
            security=scheduler.security,
            asynchronous=True,
            set_as_default=False,
            timeout=CONNECT_S,
        )
        client.subscribe_topic(messages.TOPIC, self._hear)
        return client


@contextlib.contextmanager
def unanswered() -> Iterator[None]:
    """What is asked of a scheduler that does not answer is asked again later, or not needed any more."""
    from distributed.client import ClosedClientError

    with contextlib.suppress(TimeoutError, OSError, ClosedClientError):
        yield


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


class EventStream:
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
            count, messages = await client.run_on_scheduler(remote.said, self._count)
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
        self._count, _ = await client.run_on_scheduler(remote.said, sys.maxsize)

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
