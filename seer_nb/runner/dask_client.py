"""The runner's connection to a study's Dask scheduler, and the stream of records that arrives through it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

from seer_nb._utils.aio import BackgroundTasks
from seer_nb.worker import messages, remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    from seer_nb.providers.base import SchedulerAddress


logger = logging.getLogger(__name__)
ANSWER_TIMEOUT_S = 2.0
"""Seconds after which a worker or scheduler that has not answered counts as unreachable."""
CONNECT_TIMEOUT_S = 60.0
"""Seconds in which a scheduler that listens must accept a client."""
CLOSE_TIMEOUT_S = 2.0
"""Seconds that closing the client may delay the end of the machines."""
RETRY_S = 1.0
"""Seconds between a fetch without an answer and the next one."""


class SchedulerConnection:
    """A client of one Dask scheduler at a time, opened again when Dask has closed it.

    Args:
        receive: Called on the event loop with every record (JSON) that a worker or the scheduler sends: each once, in
            the order in which the scheduler received them.
    """

    def __init__(self, receive: Callable[[str], None]) -> None:
        self.client: Client | None = None
        """Dask's client; None while there is no scheduler."""
        self._scheduler: SchedulerAddress | None = None
        self._stream = EventStream(receive)
        self._tasks = BackgroundTasks("fetching records failed")
        self._fetch_lock = asyncio.Lock()
        self._fetch_requested = False
        """Whether a fetch is scheduled that has not started yet."""

    async def open(self, scheduler: SchedulerAddress) -> Client:
        """Connect to a scheduler, and receive its records from now on.

        Raises:
            OSError: The scheduler does not accept the client.
        """
        self._scheduler = scheduler
        self.client = client = await self._connect(scheduler)
        await client.register_plugin(remote.EventLogPlugin())
        await self._stream.subscribe(client)
        return client

    async def close(self) -> None:
        """Disconnect from the scheduler, before or after its end."""
        self._tasks.cancel()
        self._fetch_requested = False
        client, self.client, self._scheduler = self.client, None, None
        if client is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await client.close()

    @property
    def open_client(self) -> Client | None:
        """The client if it accepts tasks now."""
        return None if self.client is None or self.client.status == "closed" else self.client

    async def run_on_workers(self, function: Callable[..., Any], addresses: list[str] | None, *args: Any) -> Any:
        """Run a function on workers while they train.

        Args:
            function: Picklable.
            addresses: Addresses of the workers; None means all workers.
            *args: Arguments of the function.

        Returns:
            The first worker's result; None if no worker answered in time.
        """
        if self.client is None:
            return None
        answers: dict[str, Any] = {}
        with suppress_unreachable():
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answers = await self.client.run(function, *args, workers=addresses, on_error="ignore")
        return next(iter(answers.values()), None)

    async def run_on_each_worker(self, function: Callable[[], Any]) -> list[Any]:
        """Run a function on every worker; returns the results of those that answered in time."""
        addresses = await self.run_on_scheduler(remote.addresses) or []
        # One call per worker: a suspended worker must not hide the answers of the others.
        answers = await asyncio.gather(*(self.run_on_workers(function, [address]) for address in addresses))
        return [answer for answer in answers if answer is not None]

    async def run_on_scheduler(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function on the scheduler; returns None if the scheduler does not answer in time."""
        if self.client is None:
            return None
        answer = None
        with suppress_unreachable():
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await self.client.run_on_scheduler(function, *args)
        return answer

    def request_records(self) -> None:
        """Fetch new records soon; requests that come before the fetch starts share it."""
        if not self._fetch_requested:
            self._fetch_requested = True
            self._tasks.start(self.fetch_records())

    async def fetch_records(self) -> None:
        """Fetch new records now; if the scheduler does not answer, again after `RETRY_S`."""
        async with self._fetch_lock:
            self._fetch_requested = False
            fetched = False
            with suppress_unreachable():
                await self._reopen_if_closed()
                if self.client is not None:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S):
                        await self._stream.fetch(self.client)
                fetched = True
        if not fetched and self.client is not None:
            asyncio.get_running_loop().call_later(RETRY_S, self.request_records)

    async def _reopen_if_closed(self) -> None:
        """Connect again if Dask has closed the client, as it does after a long disconnection."""
        client, scheduler = self.client, self._scheduler
        if client is None or scheduler is None or client.status != "closed":
            return
        reopened = await self._connect(scheduler)
        if self.client is client:
            self.client = reopened
        else:  # close() was called meanwhile
            await reopened.close()

    async def _connect(self, scheduler: SchedulerAddress) -> Client:
        from distributed import Client

        client: Client = await Client(
            scheduler.address,
            security=scheduler.security,
            asynchronous=True,
            set_as_default=False,
            timeout=CONNECT_TIMEOUT_S,
        )
        client.subscribe_topic(messages.TOPIC, lambda _: self.request_records())
        return client


@contextlib.contextmanager
def suppress_unreachable() -> Iterator[None]:
    """Suppress the errors of a scheduler that does not answer: the caller retries later, or needs no answer."""
    from distributed.client import ClosedClientError

    with contextlib.suppress(TimeoutError, OSError, ClosedClientError):
        yield


class EventStream:
    """The records of the study's topic: each is received once and in order, also across broken connections.

    A scheduler plugin numbers the records and keeps each until this client has acknowledged it (see
    `seer_nb.worker.remote.EventLogPlugin`). Messages on the topic itself may be lost while the client is disconnected:
    they only signal that there is something to fetch.

    Args:
        receive: Called with each record.
    """

    def __init__(self, receive: Callable[[str], None]) -> None:
        self._receive = receive
        self._last = 0
        """Number of the last record that was received."""

    async def subscribe(self, client: Client) -> None:
        """Start after the scheduler's last record: earlier ones were for an earlier runner."""
        self._last, _ = await client.run_on_scheduler(remote.records_since, sys.maxsize)

    async def fetch(self, client: Client) -> None:
        """Receive all records after the last one. Not to be called while another call is in progress.

        Raises:
            OSError, TimeoutError: The scheduler does not answer; the records can be fetched later.
        """
        last, records = await client.run_on_scheduler(remote.records_since, self._last)
        lost = last - self._last - len(records)
        if lost > 0:
            logger.warning("the scheduler dropped %d records before the runner fetched them", lost)
        self._last = last
        for record in records:
            try:
                self._receive(record)
            except Exception:
                # The others must not be lost with it.
                logger.exception("a record could not be handled: %s", record)
