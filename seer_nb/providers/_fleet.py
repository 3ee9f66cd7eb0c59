"""Base class of all fleets: it keeps the list of machines and reports the end of each exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from seer_nb._utils.aio import BackgroundTasks
from seer_nb._utils.clock import steady_s
from seer_nb._utils.text import message_of
from seer_nb.core import MachineEnded
from seer_nb.providers.base import Adopted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from seer_nb.core.money import Offer
    from seer_nb.providers.base import FleetContext, SchedulerAddress


logger = logging.getLogger(__name__)


class RentedMachine:
    """Record of one machine, from before its launch until it has terminated."""

    def __init__(self) -> None:
        self.rented_at_s = steady_s()
        """Steady-clock time of the rent."""
        self.launching = True
        """Whether its launch is in progress."""
        self.end_requested_s: float | None = None
        """Steady-clock time of the last request to terminate it; None if there was none."""
        self.expected = False
        """Whether the engine retired it."""
        self.reason = ""
        """Why it was terminated otherwise."""
        self.scarce = False
        """Whether the launch failed for lack of capacity."""

    def lived_s(self) -> float:
        """Seconds since it was rented, at least 1: a machine that existed is never free."""
        return max(1.0, steady_s() - self.rented_at_s)

    def mark_ending(self, reason: str = "") -> None:
        """Record that termination was requested: by the engine, or for ``reason``."""
        self.end_requested_s, self.expected, self.reason = steady_s(), not reason, reason


R = TypeVar("R", bound=RentedMachine)


class MachineFleet(ABC, Generic[R]):
    """Base class of fleets: a subclass launches and terminates machines and notices when one has terminated.

    Args:
        context: What the fleet knows about its study.
        rented: Creates the record of a machine.
    """

    end_timeout_s: float = 60.0
    """Seconds that ``close`` waits for machines to terminate."""

    def __init__(self, context: FleetContext, rented: Callable[[], R]) -> None:
        self.context = context
        self._make_record = rented
        self.rented: dict[int, R] = {}
        self._reported: set[int] = set()
        self._changed = asyncio.Event()
        """Set when a machine has terminated."""
        self._closing = False
        """Whether launches are refused: ``close`` would not terminate a machine that is launched after it began."""
        self.tasks = BackgroundTasks("the fleet failed")
        """Watchers, and actions in progress."""

    # --- the protocol ---

    async def adopt(self, machines: Collection[int]) -> Adopted:  # noqa: ARG002 - machines end with their runner
        """Return nothing: by default machines do not outlive their runner."""
        return Adopted()

    async def boot_scheduler(self, machine: int, offer: Offer) -> SchedulerAddress | None:
        """Boot the scheduler machine, in fleets that need one."""
        raise NotImplementedError(f"{offer.name!r} needs no machine {machine} for its scheduler")

    async def rent(self, machine: int, offer: Offer) -> None:
        await self._rent(machine, offer)

    async def retire(self, machine: int, *, force: bool) -> None:
        """Terminate a machine; if its launch is in progress, as soon as the launch is over."""
        await self._request_end(machine, "", force=force)

    async def on_worker_lost(self, machine: int) -> None:
        await self._request_end(machine, "its worker left the scheduler")

    async def discard(self, machine: int, reason: str) -> None:
        if machine in self.rented:
            await self._request_end(machine, reason)
        elif machine not in self._reported:  # `rent` of a subclass raised before the fleet had a record
            self.context.on_ended(MachineEnded(machine=machine, expected=False, reason=reason))

    def worker_name(self, worker: str, address: str) -> str | None:  # noqa: ARG002 - workers have the engine's names
        return worker

    async def close(self) -> tuple[int, ...]:
        """Terminate all machines, including those being launched, and remove what was created for them."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.end_timeout_s):
                await asyncio.gather(*(self.retire(machine, force=True) for machine in list(self.rented)))
                while self.rented:
                    self._changed.clear()
                    await self._changed.wait()
        left = tuple(sorted(self.rented))
        if left:
            logger.error("machines %s not terminated within %.0f s", left, self.end_timeout_s)
        try:
            await self._attempt(self._clean_up())
        finally:
            self.tasks.cancel()
        return left

    # --- what a subclass implements ---

    @abstractmethod
    async def _launch(self, machine: int, rented: R, offer: Offer) -> None:
        """Launch a machine. If this raises any exception, the machine is terminated."""

    @abstractmethod
    async def _end(self, machine: int, rented: R, *, force: bool) -> None:
        """Start to terminate a machine; ``_report_ended`` must be called when it has terminated or never existed.

        Called when termination is requested; if the launch was in progress then, again when the launch is over.
        """

    @abstractmethod
    async def _clean_up(self) -> None:
        """Remove what remains after all machines have terminated, or after ``close`` has timed out."""

    def _is_scarce(self, error: Exception) -> bool:  # noqa: ARG002 - a subclass may know
        """Return whether a launch error means that there was no capacity."""
        return False

    # --- launching and terminating ---

    async def _rent(self, machine: int, offer: Offer) -> R:
        rented = self.rented[machine] = self._make_record()
        if self._closing:
            rented.launching = False
            rented.mark_ending()
            self.report_ended(machine, lived_s=0.0)
            return rented
        try:
            await self._launch(machine, rented, offer)
        except Exception as error:  # noqa: BLE001 - every cloud has its own exceptions
            logger.warning("machine %s not launched: %r", machine, error)
            rented.scarce = self._is_scarce(error)
            if rented.end_requested_s is None:
                rented.mark_ending(message_of(error))
        finally:
            rented.launching = False
        if rented.end_requested_s is not None and self._is_current(machine, rented):
            await self._attempt(self._end(machine, rented, force=True))
        return rented

    async def _request_end(self, machine: int, reason: str, *, force: bool = True) -> None:
        """Terminate a machine unless that was requested before; an empty reason means that the engine retired it."""
        rented = self.rented.get(machine)
        if rented is not None and rented.end_requested_s is None:
            rented.mark_ending(reason)
            await self._attempt(self._end(machine, rented, force=force))

    def _is_wanted(self, machine: int, rented: R) -> bool:
        """Return whether ``rented`` is still the machine of that number and is not being terminated."""
        return self._is_current(machine, rented) and rented.end_requested_s is None

    def _is_current(self, machine: int, rented: R) -> bool:
        return self.rented.get(machine) is rented

    def report_ended(
        self, machine: int, *, lived_s: float | None = None, reason: str = "", exit_code: int | None = None
    ) -> None:
        """Report that a machine has terminated; later reports of the same machine are ignored.

        Args:
            machine: Number of the machine.
            lived_s: See `MachineEnded`.
            reason: Why it terminated, if nobody requested it.
            exit_code: See `MachineEnded`.
        """
        rented = self.rented.pop(machine, None)
        if rented is None:
            return
        self._reported.add(machine)
        self._changed.set()
        self.context.on_ended(
            MachineEnded(
                machine=machine,
                expected=rented.expected,
                exit_code=exit_code,
                reason="" if rented.expected else rented.reason or reason,
                lived_s=lived_s,
                scarce=rented.scarce,
            )
        )

    async def _attempt(self, action: Awaitable[None]) -> bool:
        """Await an action and log its failure: a cloud may be unreachable, and the fleet's watcher tries again.

        Returns:
            Whether the action succeeded.
        """
        try:
            await action
        except Exception as error:
            logger.warning("%s: %r", type(self).__name__, error)
            logger.debug("raised here", exc_info=error)
            return False
        return True
