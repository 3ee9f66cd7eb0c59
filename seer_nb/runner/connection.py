"""The runner's client of a study's scheduler, which may not answer for a while, or be given up and opened anew."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from seer_nb.runner import shipping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    from seer_nb.providers.base import SchedulerAddress
    from seer_nb.runner.hearing import Message

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
        addresses = await self.on_scheduler(shipping.addresses) or []
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
        client.subscribe_topic(shipping.TOPIC, self._hear)
        return client


@contextlib.contextmanager
def unanswered() -> Iterator[None]:
    """What is asked of a scheduler that does not answer is asked again later, or not needed any more."""
    from distributed.client import ClosedClientError

    with contextlib.suppress(TimeoutError, OSError, ClosedClientError):
        yield
